"""Encoders from their sources (timm, open_clip, transformers, bundled), heads, and the models they make."""
