"""Samples and their readers, seeded splits, decoding, and the loaders that feed training."""
