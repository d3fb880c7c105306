"""Which encoders take images of any size, and in which steps."""

from __future__ import annotations

from tutelage.models.sources.timm_models import patch_size

GRID = 16
"""Steps of sizes that most encoders take: many transformers have patches of 16 pixels, and convolutions any size."""


def native_size(name: str, stride: int | None = None) -> int | None:
    """Return the pretrained input size of an encoder that takes images of any size, ``None`` for all others.

    Convolutional encoders do; transformers with a fixed grid of patches are best left at their own size.

    Args:
        name: Of the encoder.
        stride: Its output stride, if one is asked for; the size is then a multiple of it.
    """
    import timm

    source, _, identifier = name.partition(":")
    if source == "bundled" and identifier.startswith("efficientnet"):
        identifier = f"tf_{identifier.replace('-', '_')}"
    elif source != "timm":
        return None
    config = timm.get_pretrained_cfg(identifier)
    if config is None or config.fixed_input_size:
        return None
    native = int(config.input_size[-1])
    return native if stride is None else native - native % stride


def grid(name: str, stride: int | None = None) -> int:
    """Return the steps, in pixels, in which an encoder's input may change.

    That is its output stride if one is asked for, else its patch if the name states one.
    """
    return stride or patch_size(name) or GRID
