"""RandAugment's operations: which there are, how strong each is, and how one is applied.

The space is torchvision's ``RandAugment`` with 31 magnitudes (Cubuk et al., 2020, arXiv:1909.13719). Strengths do
not depend on the resolution: translations are shares of the width or height, all else is resolution-free as it is.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torchvision.transforms import v2

from tutelage.views.policy import FloatArray

MAGNITUDES = 31


@dataclass(frozen=True)
class Operation:
    """One operation, and the strength that magnitudes 0 and 30 stand for; between them it is linear.

    Attributes:
        apply: Changes images, uint8 [..., 3, h, w], by a strength.
        weakest: Strength at magnitude 0.
        strongest: Strength at magnitude 30.
        signed: Whether half of the draws take the negative strength.
    """

    apply: Callable[[Tensor, float], Tensor]
    weakest: float = 0.0
    strongest: float = 0.0
    signed: bool = False


def _affine(images: Tensor, **change: Any) -> Tensor:
    still: dict[str, Any] = {"angle": 0.0, "translate": [0, 0], "scale": 1.0, "shear": [0.0, 0.0]}
    moved: Tensor = v2.functional.affine(images, **(still | change))
    return moved


def _shear_x(images: Tensor, slope: float) -> Tensor:
    return _affine(images, shear=[math.degrees(math.atan(slope)), 0.0], center=[0, 0])


def _shear_y(images: Tensor, slope: float) -> Tensor:
    return _affine(images, shear=[0.0, math.degrees(math.atan(slope))], center=[0, 0])


def _whole_pixels(share: float, extent: int) -> int:
    # Truncates, as torchvision does. The small term keeps a share that stands for a whole number of pixels from
    # losing one of them to float32.
    return int(math.copysign(math.floor(abs(share) * extent + 1e-3), share))


def _translate_x(images: Tensor, share: float) -> Tensor:
    return _affine(images, translate=[_whole_pixels(share, images.shape[-1]), 0])


def _translate_y(images: Tensor, share: float) -> Tensor:
    return _affine(images, translate=[0, _whole_pixels(share, images.shape[-2])])


OPERATIONS: dict[str, Operation] = {
    "Identity": Operation(lambda images, _: images),
    "ShearX": Operation(_shear_x, 0.0, 0.3, signed=True),
    "ShearY": Operation(_shear_y, 0.0, 0.3, signed=True),
    "TranslateX": Operation(_translate_x, 0.0, 150 / 331, signed=True),
    "TranslateY": Operation(_translate_y, 0.0, 150 / 331, signed=True),
    "Rotate": Operation(lambda images, degrees: v2.functional.rotate(images, degrees), 0.0, 30.0, signed=True),
    "Brightness": Operation(
        lambda images, s: v2.functional.adjust_brightness(images, 1.0 + s), 0.0, 0.9, signed=True
    ),
    "Color": Operation(lambda images, s: v2.functional.adjust_saturation(images, 1.0 + s), 0.0, 0.9, signed=True),
    "Contrast": Operation(lambda images, s: v2.functional.adjust_contrast(images, 1.0 + s), 0.0, 0.9, signed=True),
    "Sharpness": Operation(lambda images, s: v2.functional.adjust_sharpness(images, 1.0 + s), 0.0, 0.9, signed=True),
    "Posterize": Operation(lambda images, bits: v2.functional.posterize(images, round(bits)), 8.0, 4.0),
    "Solarize": Operation(lambda images, threshold: v2.functional.solarize(images, threshold), 255.0, 0.0),
    "AutoContrast": Operation(lambda images, _: v2.functional.autocontrast(images)),
    "Equalize": Operation(lambda images, _: v2.functional.equalize(images)),
}
"""All operations. Their order is part of what a stored view means: ``Views.ops`` holds positions in it."""

_IN_ORDER = tuple(OPERATIONS.values())

SIGNED: npt.NDArray[np.bool_] = np.array([operation.signed for operation in _IN_ORDER])
"""Whether each operation has a sign, bool [14]."""


@lru_cache(maxsize=32)
def strengths(magnitude: float) -> FloatArray:
    """Return each operation's unsigned strength at a magnitude in 0..30, float32 [14]."""
    grid = np.arange(MAGNITUDES)
    # torch.linspace, because its rounding to float32 decides a few pixels and torchvision uses it.
    ranges = [torch.linspace(operation.weakest, operation.strongest, MAGNITUDES).numpy() for operation in _IN_ORDER]
    values = np.array([np.interp(magnitude, grid, values) for values in ranges], dtype=np.float32)
    values.flags.writeable = False
    return values


def apply_operation(images: Tensor, op: int, strength: float) -> Tensor:
    """Apply one operation to one image or to a batch that shares it.

    Args:
        images: uint8 [..., 3, h, w]; not modified.
        op: Position in :data:`OPERATIONS`.
        strength: Signed strength, as in ``Views.magnitudes``.

    Returns:
        uint8 of the same shape. Pixels from outside the image are 0; geometry is nearest-neighbor.
    """
    return _IN_ORDER[op].apply(images, strength)
