"""RandAugment's operations: which there are, how strong each is, and how they are applied to a batch.

The space is torchvision's ``RandAugment`` with 31 magnitudes (Cubuk et al., 2020, arXiv:1909.13719). Strengths do
not depend on the resolution: translations are shares of the width or height, all else is resolution-free as it is.
On the CPU results equal those of ``torchvision.transforms.v2.functional`` bit for bit.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from tutelage.views import pointwise, spatial
from tutelage.views.policy import FloatArray

Ints = npt.NDArray[np.int64]

MAGNITUDES = 31


@dataclass(frozen=True)
class Operation:
    """One operation, and the strength that magnitudes 0 and 30 stand for; between them it is linear.

    Attributes:
        apply: Changes contiguous images, uint8 [n, 3, h, w], in place by strengths, [n], of which equal ones are
            neighbors.
        weakest: Strength at magnitude 0.
        strongest: Strength at magnitude 30.
        signed: Whether half of the draws take the negative strength.
        tolerance: How many of the 255 levels a result may differ by between devices, which fuse floating-point
            operations each in their own way. Where it is 0 there is nothing to fuse.
    """

    apply: Callable[[Tensor, FloatArray], None]
    weakest: float = 0.0
    strongest: float = 0.0
    signed: bool = False
    tolerance: int = 0


OPERATIONS: dict[str, Operation] = {
    "Identity": Operation(lambda images, strengths: None),
    "ShearX": Operation(spatial.shear_x, 0.0, 0.3, signed=True),
    "ShearY": Operation(spatial.shear_y, 0.0, 0.3, signed=True),
    "TranslateX": Operation(spatial.translate_x, 0.0, 150 / 331, signed=True),
    "TranslateY": Operation(spatial.translate_y, 0.0, 150 / 331, signed=True),
    "Rotate": Operation(spatial.rotate, 0.0, 30.0, signed=True),
    "Brightness": Operation(pointwise.brightness, 0.0, 0.9, signed=True),
    "Color": Operation(pointwise.color, 0.0, 0.9, signed=True, tolerance=1),
    "Contrast": Operation(pointwise.contrast, 0.0, 0.9, signed=True, tolerance=1),
    "Sharpness": Operation(spatial.sharpness, 0.0, 0.9, signed=True, tolerance=1),
    "Posterize": Operation(pointwise.posterize, 8.0, 4.0),
    "Solarize": Operation(pointwise.solarize, 255.0, 0.0),
    "AutoContrast": Operation(pointwise.autocontrast),
    "Equalize": Operation(pointwise.equalize),
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
    batch = images.reshape(-1, *images.shape[-3:])
    ops, magnitudes = np.full((len(batch), 1), op), np.full((len(batch), 1), strength, dtype=np.float32)
    return apply_operations(batch, ops, magnitudes).view(images.shape)


def apply_operations(images: Tensor, ops: Ints, magnitudes: FloatArray) -> Tensor:
    """Apply to each image its own operations, one after another; what it becomes does not depend on the others.

    Args:
        images: uint8 [n, 3, h, w]; not modified.
        ops: Positions in :data:`OPERATIONS`, int64 [n, K].
        magnitudes: Signed strengths, as in ``Views.magnitudes``, float32 [n, K].

    Returns:
        uint8 [n, 3, h, w].
    """
    batch, held = images, np.arange(len(images))
    for column in range(ops.shape[1]):
        # Images that share an operation, and among them those that share a strength, are put side by side, so that
        # a call changes all of them where they lie.
        order = np.lexsort((magnitudes[:, column], ops[:, column]))
        batch, held = take_rows(batch, np.argsort(held)[order]), order
        counts, ordered = np.bincount(ops[:, column], minlength=len(OPERATIONS)), magnitudes[order, column]
        stops = np.cumsum(counts).tolist()
        for operation, group, stop in zip(_IN_ORDER, torch.split(batch, counts.tolist()), stops, strict=True):
            if len(group):
                operation.apply(group, ordered[stop - len(group) : stop])
    return take_rows(batch, np.argsort(held)) if ops.shape[1] else batch


def take_rows(images: Tensor, rows: Ints) -> Tensor:
    """Return a contiguous copy of some rows of a batch."""
    return images.index_select(0, torch.from_numpy(rows).to(images.device))


def put_rows(images: Tensor, rows: Ints, values: Tensor) -> None:
    """Write some rows of a contiguous batch."""
    if images.device.type == "cpu":
        # NumPy copies whole rows, where torch goes element by element and takes ten times as long.
        images.numpy()[rows] = values.numpy()
    else:
        images.index_copy_(0, torch.from_numpy(rows).to(images.device), values)
