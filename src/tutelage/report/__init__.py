"""A run as one self-contained HTML page and a terminal summary."""
