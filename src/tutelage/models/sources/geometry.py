"""Sizes and shapes that all image encoders share: which input sizes fit, and dense maps from tokens."""

from __future__ import annotations

from math import isqrt

import torch
from torch import Tensor

from tutelage.errors import ModelError
from tutelage.models.model import Encoder
from tutelage.models.preprocess import ImagePreprocess, Interpolation
from tutelage.models.sources.strides import WHICH

RANDOM_START = (0.5, 0.5, 0.5)
"""Mean and standard deviation for a model that starts from random weights and so expects none in particular."""

_EVERYTHING = frozenset({"features", "embedding", "patches"})


def default_size(native: int, patch: int | None, stride: int | None = None) -> int:
    """Return the input size when nobody chose one: the pretrained size, but 252 for large patch-14 models.

    DINOv2 was last trained at 518 pixels, four times the compute of 252; the literature that distills from it works
    at 256, and 252 is the multiple of 14 below that. With an output stride it is 256, and every other size the
    multiple of the stride below.
    """
    large = patch == 14 and native >= 256
    if stride is None:
        return 252 if large else native
    return 256 if large else native - native % stride


def check_size(name: str, size: int, patch: int | None, stride: int | None = None) -> None:
    """Refuse an input size that is not a positive multiple of the output stride, if there is one, or the patch size.

    Raises:
        ModelError: The size does not fit; names the ones that do.
    """
    if size < 1:
        raise ModelError(f"{name}: an image size of {size} pixels makes no sense; give a positive number")
    step = stride or patch
    if step and size % step:
        below, above = size - size % step, size - size % step + step
        fits = f"{below} or {above}" if below else f"{above}"
        how = f"gives a patch every {step} pixels" if stride else f"cuts images into {step}-pixel patches"
        raise ModelError(f"{name} {how}, and {size} is no multiple; {fits} fits")


def resampling(method: str) -> Interpolation:
    """Return the nearest of our two resampling methods to a library's name for its own."""
    return "bilinear" if method == "bilinear" else "bicubic"


def tokens_to_map(tokens: Tensor, prefix: int) -> Tensor | None:
    """Reshape tokens [B, prefix + h*h, D] to a dense map [B, D, h, h]; ``None`` when they are no square grid."""
    side = isqrt(max(0, tokens.shape[1] - prefix))
    if side == 0 or prefix + side * side != tokens.shape[1]:
        return None
    return tokens[:, prefix:].transpose(1, 2).reshape(tokens.shape[0], tokens.shape[2], side, side)


def measure_widths(encoder: Encoder, preprocess: ImagePreprocess) -> dict[str, int]:
    """Run one blank image through the encoder, and return the width of each output that it gives.

    Libraries' own declarations of widths disagree with what their models return (a convolution or projection after
    pooling), and a model that cannot run at this size should say so now.

    Raises:
        ModelError: The encoder cannot run at this size, or gives no dense map of the output stride asked for.
    """
    blank = torch.zeros(1, 3, preprocess.size, preprocess.size)
    try:
        with torch.no_grad():
            outputs = encoder.eval().encode(blank, _EVERYTHING)
    except (RuntimeError, AssertionError, ValueError, IndexError) as error:
        reason = str(error).strip().split("\n")[0]
        raise ModelError(f"{encoder.name} does not run on {preprocess.size}-pixel images: {reason}") from error
    if encoder.stride is not None:
        side = preprocess.size // encoder.stride
        found = None if outputs.patches is None else tuple(outputs.patches.shape[-2:])
        if found != (side, side):
            what = "gives no dense map" if found is None else f"has a dense map of {found} instead of {side} x {side}"
            raise ModelError(f"{encoder.name}, made to give a patch every {encoder.stride} pixels, {what}; {WHICH}")
    return {name: value.shape[1] for name in sorted(_EVERYTHING) if (value := getattr(outputs, name)) is not None}
