"""Tutelage: a foundation model, a few labels and unlabeled data in; a small model for one task out."""
