"""Cut views out of images, and mix them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.transforms import InterpolationMode, v2

from tutelage.errors import DataError, RecipeError
from tutelage.views.operations import apply_operation
from tutelage.views.policy import FloatArray, Views

if TYPE_CHECKING:
    from tutelage.models.preprocess import Interpolation

Ints = npt.NDArray[np.int64]

TIE = 1 / 1024
"""How far below a tie a size or position, in pixels, still counts as tied; far above what float32 loses."""


def pixel_box(box: npt.ArrayLike, height: npt.ArrayLike, width: npt.ArrayLike) -> Ints:
    """Round relative boxes to whole pixels.

    Sizes are rounded half up, to at least one pixel; then the box is placed so that its center is as near to the
    relative box's center as it can be, ties going up and left. For a center square that keeps ``share`` of the
    short side this is ``side = max(1, floor(min(height, width) * share + 0.5 + TIE))``, ``top = (height - side) //
    2``, ``left = (width - side) // 2``.

    Args:
        box: (top, left, height, width) relative to the image, [..., 4].
        height: Height of each image in pixels, [...].
        width: Width of each image in pixels, [...].

    Returns:
        (top, left, height, width) in pixels, inside the image, int64 [..., 4].
    """
    relative = np.asarray(box, dtype=np.float64)
    image = np.stack(np.broadcast_arrays(height, width), axis=-1).astype(np.float64)
    place, size = relative[..., :2] * image, relative[..., 2:] * image
    pixels = np.clip(np.floor(size + 0.5 + TIE), 1, image)
    start = np.clip(np.ceil(place + (size - pixels) / 2 - 0.5 - TIE), 0, image - pixels)
    return np.concatenate([start, pixels], axis=-1).astype(np.int64)


def render(
    images: Sequence[Tensor],
    views: Views,
    size: int,
    *,
    interpolation: Interpolation = "bilinear",
    exact: bool = False,
) -> Tensor:
    """Cut one view out of each image, not yet mixed: crop and resize (antialiased), flip, operations, erase.

    Args:
        images: B images, uint8 [3, H_i, W_i], all on one device.
        views: B views.
        size: Side of the views, in pixels.
        interpolation: How crops are resized.
        exact: Resize in float32 without rounding to 8 bits, as exported graphs do.

    Returns:
        float32 [B, 3, size, size] in 0..1.

    Raises:
        DataError: The images are not one for each view, or not uint8 [3, H, W].
        RecipeError: ``exact`` views have operations; those are defined on 8 bits.
    """
    if len(images) != len(views):
        raise DataError(f"{len(images)} images for {len(views)} views; give one image a view")
    if exact and views.ops.any():
        raise RecipeError("exact views cannot have RandAugment operations, which work on 8 bits; set ops to 0")
    batch = _resized_crops(images, views, size, interpolation, exact)
    flipped = torch.from_numpy(np.flatnonzero(views.flip)).to(batch.device)
    batch[flipped] = batch[flipped].flip(-1)
    for column in range(views.ops.shape[1]):
        _apply_column(batch, views.ops[:, column], views.magnitudes[:, column])
    erased = np.flatnonzero(views.erase[:, 2] > 0)
    for row, (top, left, height, width) in zip(erased, pixel_box(views.erase[erased], size, size), strict=True):
        batch[row, :, top : top + height, left : left + width] = 0
    return batch.to(torch.float32).div_(255)


def mix(images: Tensor, views: Views, positions: npt.ArrayLike | Tensor) -> Tensor:
    """Mix rendered views with their partners' (mixup and CutMix).

    A pixel on the border of a CutMix box is blended by the share of it that the box covers. So nothing is rounded,
    and ``views.weight`` is the share of the sample itself at every resolution.

    Args:
        images: Rendered views, float [B, 3, s, s]; not modified.
        views: The same B views.
        positions: Where in this batch each sample's partner is, int64 [B]; read for mixed samples only.

    Returns:
        float [B, 3, s, s].

    Raises:
        DataError: The lengths differ.
    """
    where = torch.as_tensor(positions, device=images.device)
    if not len(images) == len(views) == len(where):
        raise DataError(f"{len(images)} images, {len(views)} views and {len(where)} positions cannot be mixed")
    if not views.kind.any():
        return images
    rows, columns = _coverage(views.box[:, 0::2], images.shape[-2]), _coverage(views.box[:, 1::2], images.shape[-1])
    cut = torch.from_numpy(rows)[:, None, :, None] * torch.from_numpy(columns)[:, None, None, :]
    kind, weight = (torch.from_numpy(values).view(-1, 1, 1, 1) for values in (views.kind, views.weight))
    given = torch.where(kind == 1, 1.0 - weight, cut).to(images)
    partner = torch.where(kind.view(-1).to(where.device) > 0, where, torch.arange(len(where), device=where.device))
    return torch.lerp(images, images[partner], given)


def mix_targets(targets: Tensor, weight: npt.ArrayLike | Tensor, positions: npt.ArrayLike | Tensor) -> Tensor:
    """Mix targets as their views are mixed: ``weight * own + (1 - weight) * partner's``.

    Args:
        targets: Class probabilities, float [B, C].
        weight: ``Views.weight``, [B].
        positions: Where in this batch each sample's partner is, int64 [B].

    Returns:
        float [B, C].

    Raises:
        DataError: The lengths differ.
    """
    where = torch.as_tensor(positions, device=targets.device)
    own = torch.as_tensor(weight, dtype=targets.dtype, device=targets.device)
    if not len(targets) == len(own) == len(where):
        raise DataError(f"{len(targets)} targets, {len(own)} weights and {len(where)} positions cannot be mixed")
    return own[:, None] * targets + (1.0 - own[:, None]) * targets[where]


def _resized_crops(
    images: Sequence[Tensor], views: Views, size: int, interpolation: Interpolation, exact: bool
) -> Tensor:
    """Return the crops, uint8 [B, 3, size, size], or float32 in 0..255 if ``exact``."""
    # One contiguous batch, so that what operations compute does not depend on how images lie in memory.
    dtype = torch.float32 if exact else torch.uint8
    batch = torch.empty(len(images), 3, size, size, dtype=dtype, device=images[0].device)
    heights, widths = [image.shape[-2] for image in images], [image.shape[-1] for image in images]
    boxes = pixel_box(views.crop, heights, widths).tolist()
    mode = InterpolationMode(interpolation)
    for row, (image, (top, left, height, width)) in enumerate(zip(images, boxes, strict=True)):
        if image.dtype != torch.uint8 or image.ndim != 3 or image.shape[0] != 3:
            raise DataError(f"image {row} is {image.dtype} {list(image.shape)}; views are cut from uint8 [3, H, W]")
        crop = image[None, :, top : top + height, left : left + width]
        if exact:
            resized = F.interpolate(crop.float(), (size, size), mode=interpolation, antialias=True)
            # Bicubic overshoots; an 8-bit image could not.
            batch[row] = resized[0].clamp_(0, 255)
        else:
            batch[row] = v2.functional.resize(crop, [size, size], interpolation=mode, antialias=True)[0]
    return batch


def _apply_column(batch: Tensor, ops: Ints, magnitudes: FloatArray) -> None:
    """Apply each sample's operation in place, one call for all samples that share operation and strength."""
    groups: dict[tuple[int, float], list[int]] = defaultdict(list)
    for row, step in enumerate(zip(ops.tolist(), magnitudes.tolist(), strict=True)):
        groups[step].append(row)
    for (op, strength), members in groups.items():
        rows = torch.tensor(members, device=batch.device)
        batch[rows] = apply_operation(batch[rows], op, strength)


def _coverage(spans: FloatArray, size: int) -> FloatArray:
    """Return the share of each of ``size`` pixels that lies in a span (start, length; relative), [B, size]."""
    start = spans[:, :1].astype(np.float64) * size
    end = start + spans[:, 1:].astype(np.float64) * size
    pixel = np.arange(size)
    overlap = np.minimum(pixel + 1, end) - np.maximum(pixel, start)
    covered: FloatArray = np.clip(overlap, 0.0, 1.0).astype(np.float32)
    return covered
