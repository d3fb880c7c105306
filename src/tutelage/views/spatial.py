"""Operations that move pixels or look at their neighbors.

Results are those of ``torchvision.transforms.v2.functional`` on 8 bits: nearest neighbor, 0 outside the image. All
change contiguous images, uint8 [n, 3, h, w], in place, each by its own strength, [n]; equal strengths are neighbors.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torchvision.transforms import v2

from tutelage.views.policy import FloatArray, runs

Move = Callable[[Tensor, float], Tensor]


def shear_x(images: Tensor, strengths: FloatArray) -> None:
    """Shear along the width, by ``strength`` pixels a row."""
    _move(images, _sheared_x, strengths)


def shear_y(images: Tensor, strengths: FloatArray) -> None:
    """Shear along the height, by ``strength`` pixels a column."""
    _move(images, _sheared_y, strengths)


def rotate(images: Tensor, strengths: FloatArray) -> None:
    """Rotate counterclockwise, by ``strength`` degrees."""
    _move(images, v2.functional.rotate, strengths)


def translate_x(images: Tensor, strengths: FloatArray) -> None:
    """Move to the right, by ``strength`` times the width."""
    _shift(images, -1, strengths)


def translate_y(images: Tensor, strengths: FloatArray) -> None:
    """Move down, by ``strength`` times the height."""
    _shift(images, -2, strengths)


def sharpness(images: Tensor, strengths: FloatArray) -> None:
    """Blend with the smoothed image, which gets -strength; borders stay."""
    height, width = images.shape[2:]
    if min(height, width) <= 2:
        return
    # All rows of all images as one line: long loops are the fast ones. What is summed across the end of a row or of
    # an image lands on borders only, which are not used.
    line = images.view(-1).to(torch.int16)
    across = (line[:-2] + line[1:-1]).add_(line[2:])
    around = (across[: -2 * width] + across[width:-width]).add_(across[2 * width :])
    inner = line[width + 1 : -width - 1]
    # The kernel is 1 around and 5 in the middle, over 13. Thirteenths are never half-way between two levels, so
    # this rounding is exact.
    smooth = around.add_(inner, alpha=4).float().mul_(1 / 13).round_()
    levels = inner.float()
    smooth.sub_(levels)
    for part, strength in runs(strengths):
        start, stop = (max(image * 3 * height * width - width - 1, 0) for image in (part.start, part.stop))
        levels[start:stop].add_(smooth[start:stop], alpha=1.0 - (1.0 + strength))
    changed = torch.empty_like(images)
    changed.view(-1)[width + 1 : -width - 1] = levels.clamp_(0, 255).to(torch.int16)
    images[..., 1:-1, 1:-1] = changed[..., 1:-1, 1:-1]


def blur(images: Tensor, strengths: FloatArray) -> None:
    """Blur with a Gaussian whose standard deviation is so many sides of the image."""
    for image, share in zip(images, strengths.tolist(), strict=True):
        sigma = share * image.shape[-1]
        side = 2 * math.ceil(3 * sigma) + 1
        image.copy_(v2.functional.gaussian_blur(image, [side, side], [sigma, sigma]))


def _sheared_x(images: Tensor, slope: float) -> Tensor:
    return _affine(images, shear=[math.degrees(math.atan(slope)), 0.0])


def _sheared_y(images: Tensor, slope: float) -> Tensor:
    return _affine(images, shear=[0.0, math.degrees(math.atan(slope))])


def _affine(images: Tensor, shear: list[float]) -> Tensor:
    still: dict[str, Any] = {"angle": 0.0, "translate": [0, 0], "scale": 1.0}
    moved: Tensor = v2.functional.affine(images, shear=shear, center=[0, 0], **still)
    return moved


def _move(images: Tensor, move: Move, strengths: FloatArray) -> None:
    height, width = images.shape[2:]
    for part, strength in runs(strengths):
        source, inside = _sources(move, strength, height, width, images.device)
        lines = images[part].view(-1, height * width)
        torch.mul(lines.gather(1, source.expand(len(lines), -1)), inside, out=lines)


@lru_cache(maxsize=16)
def _sources(move: Move, strength: float, height: int, width: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return where each pixel comes from, int64 [h * w], and 1 if that is inside the image else 0, uint8 [h * w].

    Cached, since a policy draws few strengths (two signs of one magnitude).
    """
    # Torchvision moves an image of the pixels' own numbers, from 1; float32 holds those of 4096 x 4096 pixels.
    numbers = torch.arange(1, height * width + 1, dtype=torch.float32).view(1, height, width)
    found = move(numbers, strength).view(-1).long()
    return (found - 1).clamp_(min=0).to(device), (found > 0).to(torch.uint8).to(device)


def _shift(images: Tensor, dimension: int, strengths: FloatArray) -> None:
    extent = images.shape[dimension]
    for part, share in runs(strengths):
        # Truncates, as torchvision does. The small term keeps a share that stands for a whole number of pixels from
        # losing one of them to float32.
        pixels = min(math.floor(abs(share) * extent + 1e-3), extent)
        kept, moved = (0, pixels) if share > 0 else (pixels, 0)
        group = images[part]
        before = group.narrow(dimension, kept, extent - pixels).clone()
        group.narrow(dimension, moved, extent - pixels).copy_(before)
        group.narrow(dimension, 0 if share > 0 else extent - pixels, pixels).zero_()
