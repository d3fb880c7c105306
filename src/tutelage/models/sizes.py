"""Which encoders take images of any size."""

from __future__ import annotations


def native_size(name: str) -> int | None:
    """Return the pretrained input size of an encoder that takes images of any size, ``None`` for all others.

    Convolutional encoders do; transformers with a fixed grid of patches are best left at their own size.
    """
    import timm

    source, _, identifier = name.partition(":")
    if source == "bundled" and identifier.startswith("efficientnet"):
        identifier = f"tf_{identifier.replace('-', '_')}"
    elif source != "timm":
        return None
    config = timm.get_pretrained_cfg(identifier)
    return None if config is None or config.fixed_input_size else int(config.input_size[-1])
