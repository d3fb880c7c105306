"""Operations that change each pixel by itself: as lookup tables where channels do not meet, and color.

The arithmetic, down to the order of its roundings, is that of ``torchvision.transforms.v2.functional`` on 8 bits.
A table holds it for the 256 levels, so one lookup serves all operations and strengths of a batch at once.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from tutelage.views.policy import FloatArray


def brightness_tables(images: Tensor, strengths: FloatArray) -> Tensor:
    """Scale levels by 1 + strength, uint8 [n, 1, 256]."""
    factors = torch.from_numpy(1.0 + strengths.astype(np.float64)).float().to(images.device)
    return (_levels(images) * factors.view(-1, 1, 1)).clamp_(0, 255).to(torch.uint8)


def contrast_tables(images: Tensor, strengths: FloatArray) -> Tensor:
    """Blend with the mean gray, which gets -strength, uint8 [n, 1, 256]."""
    means = floored_gray(images)[:, None].mean(dim=(-3, -2, -1)).view(-1, 1, 1)
    tables = torch.empty(len(images), 1, 256, dtype=torch.uint8, device=images.device)
    for strength in np.unique(strengths):
        # A blend's weight must be a number, not a tensor, to be fused and rounded as torchvision's is.
        rows = torch.from_numpy(np.flatnonzero(strengths == strength)).to(images.device)
        tables[rows] = _blended(_levels(images).expand(len(rows), 1, 256), means[rows], 1.0 + float(strength))
    return tables


def posterize_tables(images: Tensor, strengths: FloatArray) -> Tensor:
    """Keep the highest round(strength) bits, uint8 [n, 1, 256]."""
    dropped = np.clip(8 - np.rint(strengths), 0, 8).astype(np.int64)
    tables = np.arange(256) & (0xFF << dropped)[:, None, None]
    return torch.from_numpy(tables.astype(np.uint8)).to(images.device)


def solarize_tables(images: Tensor, strengths: FloatArray) -> Tensor:
    """Invert levels from the strength on, uint8 [n, 1, 256]."""
    levels = np.arange(256)
    tables = np.where(levels >= strengths[:, None, None], 255 - levels, levels)
    return torch.from_numpy(tables.astype(np.uint8)).to(images.device)


def autocontrast_tables(images: Tensor, strengths: FloatArray) -> Tensor:
    """Stretch each channel to 0..255, uint8 [n, 3, 256]."""
    lowest, highest = images.amin((-2, -1)).float()[..., None], images.amax((-2, -1)).float()[..., None]
    flat = lowest == highest
    scale = ((highest - lowest) * (1.0 / 255)).masked_fill_(flat, 1.0)
    return (_levels(images) - lowest.masked_fill_(flat, 0.0)).div_(scale).clamp_(0, 255).to(torch.uint8)


def equalize_tables(images: Tensor, strengths: FloatArray) -> Tensor:
    """Flatten each channel's histogram as Pillow does, uint8 [n, 3, 256]."""
    count, pixels = 3 * len(images), images.shape[-2] * images.shape[-1]
    start = torch.arange(0, 256 * count, 256, dtype=torch.int32, device=images.device)
    slots = images.reshape(count, pixels) + start[:, None]
    histogram = torch.bincount(slots.view(-1), minlength=256 * count).view(count, 256)
    below = histogram.cumsum(1)
    # All pixels but those of the highest level that occurs share the 255 steps.
    last = histogram.gather(1, below.argmax(1, keepdim=True))
    step = (pixels - last) // 255
    shifted = below.roll(1, 1)
    shifted[:, 0] = 0
    # Quotients of whole numbers this small are exact enough in float64 for their floor to be.
    tables = shifted.add_(step // 2).double().div_(step.clamp(min=1)).floor_().clamp_(0, 255)
    return torch.where(step > 0, tables, _levels(images)).to(torch.uint8).view(-1, 3, 256)


def look_up(images: Tensor, tables: Tensor) -> Tensor:
    """Replace levels by those of each channel's table.

    Args:
        images: uint8 [n, 3, h, w], contiguous.
        tables: uint8 [n, 3, 256], contiguous.

    Returns:
        uint8 [n, 3, h, w].
    """
    count = 3 * len(images)
    return tables.view(count, 256).gather(1, images.view(count, -1).long()).view_as(images)


def color(images: Tensor, strength: float) -> Tensor:
    """Blend images, uint8 [n, 3, h, w], with their gray, which gets -strength."""
    return _blended(images.float(), floored_gray(images)[:, None], 1.0 + strength)


def floored_gray(images: Tensor) -> Tensor:
    """Return the gray of images, uint8 [n, 3, h, w], in whole levels, float32 [n, h, w]."""
    red, green, blue = images.unbind(1)
    return red.mul(0.2989).add_(green, alpha=0.587).add_(blue, alpha=0.114).floor_()


def _blended(levels: Tensor, others: Tensor, share: float) -> Tensor:
    return levels.mul(share).add_(others, alpha=1.0 - share).clamp_(0, 255).to(torch.uint8)


def _levels(images: Tensor) -> Tensor:
    return torch.arange(256, dtype=torch.float32, device=images.device)
