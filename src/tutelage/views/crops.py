"""Cut boxes out of images and bring them to one size: each by itself on the CPU, or a batch at once on any device.

Both are the separable antialiased filter of Pillow and torch, in fixed-point arithmetic: along the width, rounded to
8 bits, then along the height, rounded again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

if TYPE_CHECKING:
    from tutelage.models.preprocess import Interpolation

Ints = npt.NDArray[np.int64]

_REACH = {"bilinear": 1.0, "bicubic": 2.0}


def cut_each(
    images: Sequence[Tensor],
    boxes: Ints,
    size: int,
    *,
    interpolation: Interpolation,
    exact: bool,
    device: torch.device,
    places: Ints | None = None,
) -> Tensor:
    """Cut a box out of each image with torch's own 8-bit kernel, which the CPU alone has.

    Args:
        images: B images, uint8 [3, H_i, W_i].
        boxes: (top, left, height, width) in pixels, int64 [B, 4].
        size: Side of the results, in pixels.
        interpolation: The filter.
        exact: Compute in float32 without rounding.
        device: The CPU.
        places: (top, left, height, width) in the results that each box is resized to, int64 [B, 4]; the rest is 0.
            The whole results if not given.

    Returns:
        uint8 [B, 3, size, size], or float32 in 0..255 if ``exact``; contiguous.
    """
    views = []
    whole = np.broadcast_to(np.array([0, 0, size, size]), boxes.shape)
    spots = (whole if places is None else places).tolist()
    for image, (top, left, height, width), spot in zip(images, boxes.tolist(), spots, strict=True):
        channel, row, column = image.stride()
        # With a batch stride that cannot be mistaken, torch sees which memory format this is and keeps it.
        strides = (image.numel(), channel, row, column)
        place = image.storage_offset() + top * row + left * column
        crop = image.as_strided((1, 3, height, width), strides, place).to(device)
        if places is not None and spot[3] == 1:
            # What is one pixel wide torch's kernel misreads, or refuses.
            extent, where = np.array([[height, width]]), np.array([spot])
            views.append(resized(crop, extent, size, interpolation=interpolation, exact=exact, places=where))
            continue
        if exact:
            crop = crop.to(torch.float32, memory_format=torch.contiguous_format)
        scaled = F.interpolate(crop, spot[2:], mode=interpolation, antialias=True)
        views.append(scaled if places is None else _padded(scaled, spot, size))
    batch = torch.cat(views).contiguous()
    # Bicubic overshoots; an 8-bit image could not.
    return batch.clamp_(0, 255) if exact else batch


def _padded(image: Tensor, place: list[int], size: int) -> Tensor:
    top, left, height, width = place
    return F.pad(image, (left, size - left - width, top, size - top - height))


def cut_together(
    images: Sequence[Tensor],
    boxes: Ints,
    size: int,
    *,
    interpolation: Interpolation,
    exact: bool,
    device: torch.device,
    places: Ints | None = None,
) -> Tensor:
    """Cut a box out of each image, all at once on ``device``, to which they are moved in one piece.

    Arguments and result are those of :func:`cut_each`.
    """
    extents = boxes[:, 2:].max(axis=0).tolist()
    pinned = device.type == "cuda" and images[0].device.type == "cpu"
    padded = torch.zeros(len(images), 3, *extents, dtype=torch.uint8, device=images[0].device, pin_memory=pinned)
    for row, (image, (top, left, height, width)) in enumerate(zip(images, boxes.tolist(), strict=True)):
        padded[row, :, :height, :width] = image[:, top : top + height, left : left + width]
    crops = padded.to(device, non_blocking=True)
    return resized(crops, boxes[:, 2:], size, interpolation=interpolation, exact=exact, places=places)


def resized(
    crops: Tensor,
    extents: Ints,
    size: int,
    *,
    interpolation: Interpolation = "bilinear",
    exact: bool = False,
    places: Ints | None = None,
) -> Tensor:
    """Resize the upper left part of each picture, as two batched matrix products.

    Fixed-point sums are whole numbers and, unless a crop is shrunk more than about 4 times, below 2**24: then
    float32 holds them exactly and the result is the CPU kernel's. Else, and wherever matrix products are computed in
    less than float32, it may differ from that by one level.

    Args:
        crops: uint8 [B, 3, H, W], padded with anything.
        extents: Height and width of the part of each that counts, int64 [B, 2].
        size: Side of the results, in pixels.
        interpolation: The filter.
        exact: Compute without rounding.
        places: As for :func:`cut_each`.

    Returns:
        uint8 [B, 3, size, size], or float32 in 0..255 if ``exact``.
    """
    lengths = torch.from_numpy(extents).to(crops.device)
    rows: Tensor | None = None
    columns: Tensor | None = None
    if places is not None:
        rows, columns = torch.from_numpy(places).to(crops.device).view(-1, 2, 2).unbind(2)
    across = filter_weights(lengths[:, 1], crops.shape[3], size, interpolation, columns)
    down = filter_weights(lengths[:, 0], crops.shape[2], size, interpolation, rows)
    levels = crops.float()
    if exact:
        return torch.matmul(down.float()[:, None], levels @ across.float().mT[:, None]).clamp_(0, 255)
    narrow = _product(across, lambda fixed: levels @ fixed.mT[:, None])
    return _product(down, lambda fixed: fixed[:, None] @ narrow).to(torch.uint8)


def filter_weights(
    lengths: Tensor, extent: int, size: int, interpolation: Interpolation, spans: Tensor | None = None
) -> Tensor:
    """Return what each of ``extent`` pixels gives to each of ``size``, where only the first few of each row count.

    Args:
        lengths: How many pixels count, int64 [B].
        extent: How many there are.
        size: How many they are resized to.
        interpolation: ``bilinear`` (triangle) or ``bicubic`` (Keys, a = -1/2), widened where pixels are merged.
        spans: Which of the ``size`` they are resized to, (first, count), int64 [B, 2]; all if not given.

    Returns:
        float64 [B, size, extent]; each row sums to 1, and is 0 where pixels do not count. Rows outside of ``spans``
        are 0.
    """
    row = torch.arange(size, dtype=torch.float64, device=lengths.device)[:, None]
    count: Tensor | int = size
    if spans is not None:
        row, count = row - spans[:, 0].view(-1, 1, 1), spans[:, 1]
    scale = (lengths.double() / count).view(-1, 1, 1)
    widened = scale.clamp(min=1.0)
    center = scale * (row + 0.5)
    pixel = torch.arange(extent, dtype=torch.float64, device=lengths.device)
    reach = _REACH[interpolation] * widened
    first, stop = (center - reach + 0.5).floor_(), (center + reach + 0.5).floor_().minimum(lengths.view(-1, 1, 1))
    away = ((pixel - center + 0.5) / widened).abs_()
    weights = _triangle(away) if interpolation == "bilinear" else _cubic(away)
    weights.mul_((pixel >= first) & (pixel < stop))
    weights = weights / weights.sum(-1, keepdim=True)
    return weights if spans is None else weights.masked_fill((row < 0) | (row >= spans[:, 1].view(-1, 1, 1)), 0.0)


def _triangle(x: Tensor) -> Tensor:
    return (1.0 - x).clamp_(min=0.0)


def _cubic(x: Tensor) -> Tensor:
    near, far = (1.5 * x - 2.5) * x * x + 1.0, ((-0.5 * x + 2.5) * x - 4.0) * x + 2.0
    return torch.where(x < 1.0, near, far * (x < 2.0))


def _product(weights: Tensor, product: Callable[[Tensor], Tensor]) -> Tensor:
    """Sum with weights of as many bits as 16 can hold, and round to levels, float32."""
    largest = weights.amax((1, 2), keepdim=True)
    bits = torch.arange(1, 23, device=weights.device)
    # As many as keep the largest weight below 2**15; at most 22.
    fitting = ((0.5 + largest * 2.0**bits).floor_() < 2**15).sum(-1, keepdim=True)
    unit = torch.exp2(fitting.double())
    fixed = (weights * unit).abs_().add_(0.5).floor_().copysign_(weights)
    unit = unit[:, None].float()
    return product(fixed.float()).add_(unit / 2).div_(unit).floor_().clamp_(0, 255)
