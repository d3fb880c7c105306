"""RandAugment's operations: which there are, how strong each is, and how they are applied to a batch.

The space is torchvision's ``RandAugment`` with 31 magnitudes (Cubuk et al., 2020, arXiv:1909.13719). Strengths do
not depend on the resolution: translations are shares of the width or height, all else is resolution-free as it is.
On the CPU results equal those of ``torchvision.transforms.v2.functional`` bit for bit.
"""

from __future__ import annotations

from collections import defaultdict
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

    An operation has ``tables`` if it maps levels to levels, ``apply`` if it is another kind of change, and neither
    if it changes nothing.

    Attributes:
        weakest: Strength at magnitude 0.
        strongest: Strength at magnitude 30.
        signed: Whether half of the draws take the negative strength.
        tables: From images, uint8 [n, 3, h, w], and their strengths, [n], makes their lookup tables, uint8
            [n, 3, 256] or, where channels share one, [n, 1, 256].
        apply: Changes images, uint8 [n, 3, h, w], that share a strength.
        tolerance: How many of the 255 levels a result may differ by between devices, which fuse floating-point
            operations each in their own way. Where it is 0 there is nothing to fuse.
    """

    weakest: float = 0.0
    strongest: float = 0.0
    signed: bool = False
    tables: Callable[[Tensor, FloatArray], Tensor] | None = None
    apply: Callable[[Tensor, float], Tensor] | None = None
    tolerance: int = 0


OPERATIONS: dict[str, Operation] = {
    "Identity": Operation(),
    "ShearX": Operation(0.0, 0.3, signed=True, apply=spatial.shear_x),
    "ShearY": Operation(0.0, 0.3, signed=True, apply=spatial.shear_y),
    "TranslateX": Operation(0.0, 150 / 331, signed=True, apply=spatial.translate_x),
    "TranslateY": Operation(0.0, 150 / 331, signed=True, apply=spatial.translate_y),
    "Rotate": Operation(0.0, 30.0, signed=True, apply=spatial.rotate),
    "Brightness": Operation(0.0, 0.9, signed=True, tables=pointwise.brightness_tables),
    "Color": Operation(0.0, 0.9, signed=True, apply=pointwise.color, tolerance=1),
    "Contrast": Operation(0.0, 0.9, signed=True, tables=pointwise.contrast_tables, tolerance=1),
    "Sharpness": Operation(0.0, 0.9, signed=True, apply=spatial.sharpness, tolerance=1),
    "Posterize": Operation(8.0, 4.0, tables=pointwise.posterize_tables),
    "Solarize": Operation(255.0, 0.0, tables=pointwise.solarize_tables),
    "AutoContrast": Operation(tables=pointwise.autocontrast_tables),
    "Equalize": Operation(tables=pointwise.equalize_tables),
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
    batch = images.reshape(-1, *images.shape[-3:]).clone(memory_format=torch.contiguous_format)
    apply_operations(batch, np.full(len(batch), op), np.full(len(batch), strength, dtype=np.float32))
    return batch.view(images.shape)


def apply_operations(images: Tensor, ops: Ints, magnitudes: FloatArray) -> None:
    """Apply to each image its own operation, in place; what an image becomes does not depend on the others.

    Args:
        images: uint8 [n, 3, h, w], contiguous.
        ops: Positions in :data:`OPERATIONS`, int64 [n].
        magnitudes: Signed strengths, as in ``Views.magnitudes``, float32 [n].
    """
    mapped: dict[int, list[int]] = defaultdict(list)
    groups: dict[tuple[int, float], list[int]] = defaultdict(list)
    for row, (op, strength) in enumerate(zip(ops.tolist(), magnitudes.tolist(), strict=True)):
        if _IN_ORDER[op].tables:
            mapped[op].append(row)
        elif _IN_ORDER[op].apply:
            groups[op, strength].append(row)
    for (op, strength), members in groups.items():
        apply = _IN_ORDER[op].apply
        assert apply is not None
        rows = np.array(members)
        put_rows(images, rows, apply(take_rows(images, rows), strength))
    if mapped:
        _map_levels(images, mapped, magnitudes)


def take_rows(images: Tensor, rows: Ints) -> Tensor:
    """Return a copy of some rows of a batch."""
    return images.index_select(0, torch.from_numpy(rows).to(images.device))


def put_rows(images: Tensor, rows: Ints, values: Tensor) -> None:
    """Write some rows of a contiguous batch."""
    if images.device.type == "cpu":
        # NumPy copies whole rows, where torch goes element by element and takes ten times as long.
        images.numpy()[rows] = values.numpy()
    else:
        images.index_copy_(0, torch.from_numpy(rows).to(images.device), values)


def _map_levels(images: Tensor, mapped: dict[int, list[int]], magnitudes: FloatArray) -> None:
    """Apply all operations that have tables with one lookup; ``mapped`` holds each one's rows."""
    rows = np.concatenate([np.array(members) for members in mapped.values()])
    pixels = take_rows(images, rows)
    tables = torch.empty(len(rows), 3, 256, dtype=torch.uint8, device=images.device)
    start = 0
    for op, members in mapped.items():
        part = slice(start, start + len(members))
        make = _IN_ORDER[op].tables
        assert make is not None
        tables[part] = make(pixels[part], magnitudes[members])
        start = part.stop
    put_rows(images, rows, pointwise.look_up(pixels, tables))
