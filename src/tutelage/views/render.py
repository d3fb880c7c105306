"""Cut views out of images, and mix them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from tutelage.data.boxes import pixel_box
from tutelage.errors import DataError, RecipeError
from tutelage.views.crops import cut_each, cut_together
from tutelage.views.operations import apply_operations, put_rows, take_rows
from tutelage.views.policy import FloatArray, Views

if TYPE_CHECKING:
    from tutelage.models.preprocess import Interpolation


def render(
    images: Sequence[Tensor],
    views: Views,
    size: int,
    *,
    interpolation: Interpolation = "bilinear",
    exact: bool = False,
    device: torch.device | None = None,
) -> Tensor:
    """Cut one view out of each image, not yet mixed: crop and resize (antialiased), flip, operations, erase.

    A view does not depend on what else is in the batch or on how images lie in memory. On the CPU an image whose
    memory holds [H, W, 3] is cut faster than one whose memory holds [3, H, W].

    Args:
        images: B images, uint8 [3, H_i, W_i], all on one device.
        views: B views.
        size: Side of the views, in pixels.
        interpolation: How crops are resized.
        exact: Resize in float32 without rounding to 8 bits, as exported graphs do.
        device: Where views are cut; where the images are unless given. Crops are moved there before they are
            resized. What devices other than the CPU make of an image may differ by what
            :func:`tutelage.views.crops.resized` and :data:`OPERATIONS` tolerate.

    Returns:
        float32 [B, 3, size, size] in 0..1, on ``device``.

    Raises:
        DataError: The images are not one for each view, or not uint8 [3, H, W].
        RecipeError: ``exact`` views have operations; those are defined on 8 bits.
    """
    check_images(images, views)
    if exact and views.ops.any():
        raise RecipeError("exact views cannot have RandAugment operations, which work on 8 bits; set ops to 0")
    if not images:
        return torch.empty(0, 3, size, size, device=device)
    boxes = pixel_box(views.crop, [image.shape[1] for image in images], [image.shape[2] for image in images])
    where = device or images[0].device
    cut = cut_each if where.type == "cpu" else cut_together
    batch = cut(images, boxes, size, interpolation=interpolation, exact=exact, device=where)
    flipped = np.flatnonzero(views.flip)
    if len(flipped):
        put_rows(batch, flipped, take_rows(batch, flipped).flip(-1))
    batch = apply_operations(batch, views.ops, views.magnitudes)
    # NumPy's views of parts cost a third of torch's.
    pixels: Any = batch.numpy() if batch.device.type == "cpu" else batch
    erased = np.flatnonzero(views.erase[:, 2] > 0)
    places = pixel_box(views.erase[erased], size, size).tolist()
    for row, (top, left, height, width) in zip(erased.tolist(), places, strict=True):
        pixels[row, :, top : top + height, left : left + width] = 0
    return unit(batch)


def check_images(images: Sequence[Tensor], views: Views) -> None:
    """Check that there is one image for each view, and that views can be cut from it.

    Raises:
        DataError: The images are not one for each view, or not uint8 [3, H, W].
    """
    if len(images) != len(views):
        raise DataError(f"{len(images)} images for {len(views)} views; give one image a view")
    for row, image in enumerate(images):
        if image.dtype != torch.uint8 or image.ndim != 3 or image.shape[0] != 3:
            raise DataError(f"image {row} is {image.dtype} {list(image.shape)}; views are cut from uint8 [3, H, W]")


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
    # What is given away of a pixel is its row's share times its column's; for mixup all rows give the same.
    blended, alone = views.kind == 1, views.kind == 0
    rows[blended], columns[blended] = 1.0 - views.weight[blended, None], 1.0
    rows[alone] = 0.0
    down, across = (torch.from_numpy(shares).to(images) for shares in (rows, columns))
    partner = torch.where(torch.from_numpy(alone).to(images.device), torch.arange(len(where)).to(where), where)
    mixed = torch.empty_like(images)
    # On the CPU a few at a time, so that what is gathered is still in its cache when it is used.
    step = 8 if images.device.type == "cpu" else len(images)
    for part in (slice(start, start + step) for start in range(0, len(images), step)):
        given = down[part, None, :, None] * across[part, None, None, :]
        torch.lerp(images[part], images.index_select(0, partner[part]), given, out=mixed[part])
    return mixed


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


def unit(batch: Tensor) -> Tensor:
    """Bring levels, uint8 or float32, to float32 in 0..1."""
    if batch.dtype == torch.uint8 and batch.device.type == "cpu":
        # NumPy converts and divides in one pass.
        return torch.from_numpy(np.true_divide(batch.numpy(), np.float32(255)))
    return batch.to(torch.float32).div_(255)


def _coverage(spans: FloatArray, size: int) -> FloatArray:
    """Return the share of each of ``size`` pixels that lies in a span (start, length; relative), [B, size]."""
    start = spans[:, :1].astype(np.float64) * size
    end = start + spans[:, 1:].astype(np.float64) * size
    pixel = np.arange(size)
    overlap = np.minimum(pixel + 1, end) - np.maximum(pixel, start)
    covered: FloatArray = np.clip(overlap, 0.0, 1.0).astype(np.float32)
    return covered
