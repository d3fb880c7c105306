"""Each named method as a short sequence of phases."""
