"""Augmentation as data: draw a view's parameters, apply them to a batch."""
