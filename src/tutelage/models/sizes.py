"""Which encoders take images of any size, and in which steps."""

from __future__ import annotations

from tutelage.models.sources.timm_models import patch_size

GRID = 16
"""Steps of sizes that most encoders take: many transformers have patches of 16 pixels, and convolutions any size."""


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


def grid(name: str) -> int:
    """Return the steps, in pixels, in which an encoder's input may change: its patch if the name states one."""
    return patch_size(name) or GRID
