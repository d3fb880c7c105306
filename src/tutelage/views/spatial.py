"""Operations that move pixels or look at their neighbors.

Results are those of ``torchvision.transforms.v2.functional`` on 8 bits, nearest neighbor, with 0 outside the image.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torchvision.transforms import v2

Move = Callable[[Tensor, float], Tensor]


def shear_x(images: Tensor, slope: float) -> Tensor:
    """Shear images, uint8 [n, 3, h, w], along their width by ``slope`` pixels a row."""
    return _moved(images, _sheared_x, slope)


def shear_y(images: Tensor, slope: float) -> Tensor:
    """Shear images, uint8 [n, 3, h, w], along their height by ``slope`` pixels a column."""
    return _moved(images, _sheared_y, slope)


def rotate(images: Tensor, degrees: float) -> Tensor:
    """Rotate images, uint8 [n, 3, h, w], counterclockwise."""
    return _moved(images, v2.functional.rotate, degrees)


def translate_x(images: Tensor, share: float) -> Tensor:
    """Move images, uint8 [n, 3, h, w], to the right by a share of their width."""
    return _shifted(images, share, -1)


def translate_y(images: Tensor, share: float) -> Tensor:
    """Move images, uint8 [n, 3, h, w], down by a share of their height."""
    return _shifted(images, share, -2)


def sharpness(images: Tensor, strength: float) -> Tensor:
    """Blend images, uint8 [n, 3, h, w], with their smoothed selves, which get -strength; borders stay."""
    height, width = images.shape[-2:]
    if min(height, width) <= 2:
        return images
    # All rows of all images as one line: long loops are the fast ones. What is summed across the end of a row or of
    # an image lands on borders only, which are not used.
    line = images.reshape(-1).to(torch.int16)
    across = line[:-2] + line[1:-1] + line[2:]
    around = across[: -2 * width] + across[width:-width] + across[2 * width :]
    inner = line[width + 1 : -width - 1]
    # The kernel is 1 around and 5 in the middle, over 13. Thirteenths are never half-way between two levels, so
    # this rounding is exact.
    smooth = around.add_(inner, alpha=4).float().mul_(1 / 13).round_()
    values = inner.float()
    values.add_(smooth.sub_(values), alpha=-strength)
    changed = images.clone(memory_format=torch.contiguous_format)
    changed.view(-1)[width + 1 : -width - 1] = values.clamp_(0, 255).to(torch.uint8)
    for border in (0, -1):
        changed[..., border, :] = images[..., border, :]
        changed[..., :, border] = images[..., :, border]
    return changed


def _sheared_x(images: Tensor, slope: float) -> Tensor:
    return _affine(images, shear=[math.degrees(math.atan(slope)), 0.0])


def _sheared_y(images: Tensor, slope: float) -> Tensor:
    return _affine(images, shear=[0.0, math.degrees(math.atan(slope))])


def _affine(images: Tensor, shear: list[float]) -> Tensor:
    still: dict[str, Any] = {"angle": 0.0, "translate": [0, 0], "scale": 1.0}
    moved: Tensor = v2.functional.affine(images, shear=shear, center=[0, 0], **still)
    return moved


def _moved(images: Tensor, move: Move, strength: float) -> Tensor:
    height, width = images.shape[-2:]
    source, inside = _sources(move, strength, height, width, images.device)
    lines = images.reshape(-1, height * width)
    return lines.gather(1, source.expand(len(lines), -1)).mul_(inside).view(images.shape)


@lru_cache(maxsize=16)
def _sources(move: Move, strength: float, height: int, width: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return where each pixel comes from, int64 [h * w], and 1 if that is inside the image else 0, uint8 [h * w].

    Cached, since a policy draws few strengths (two signs of one magnitude).
    """
    # Torchvision moves an image of the pixels' own numbers, from 1; float32 holds those of 4096 x 4096 pixels.
    numbers = torch.arange(1, height * width + 1, dtype=torch.float32).view(1, height, width)
    found = move(numbers, strength).view(-1).long()
    return (found - 1).clamp_(min=0).to(device), (found > 0).to(torch.uint8).to(device)


def _shifted(images: Tensor, share: float, dimension: int) -> Tensor:
    extent = images.shape[dimension]
    # Truncates, as torchvision does. The small term keeps a share that stands for a whole number of pixels from
    # losing one of them to float32.
    pixels = min(math.floor(abs(share) * extent + 1e-3), extent)
    ends = (0, pixels) if share > 0 else (pixels, 0)
    moved = torch.zeros_like(images, memory_format=torch.contiguous_format)
    kept = images.narrow(dimension, ends[0], extent - pixels)
    moved.narrow(dimension, ends[1], extent - pixels).copy_(kept)
    return moved
