"""Operations that change each pixel by itself, given at most the statistics of its image.

The arithmetic, down to the order of its roundings, is that of ``torchvision.transforms.v2.functional`` on 8 bits. All
change contiguous images, uint8 [n, 3, h, w], in place, each by its own strength, [n]; equal strengths are neighbors.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torchvision.transforms import v2

from tutelage.views.policy import FloatArray, runs


def brightness(images: Tensor, strengths: FloatArray) -> None:
    """Scale levels by 1 + strength."""
    _store(images, images.float().mul_(_factors(images, strengths)))


def color(images: Tensor, strengths: FloatArray) -> None:
    """Blend with the gray of each pixel, which gets -strength."""
    _blend(images, _floored_gray(images)[:, None], strengths)


def contrast(images: Tensor, strengths: FloatArray) -> None:
    """Blend with the mean gray of each image, which gets -strength."""
    # Sums of whole levels along a row are exact in float32, and of all rows in float64. So the mean does not depend
    # on how many threads share the sum, and is torchvision's up to 256 x 256 pixels.
    total = _floored_gray(images).sum(2).double().sum(1)
    mean = (total / (images.shape[2] * images.shape[3])).float()
    _blend(images, mean.view(-1, 1, 1, 1), strengths)


def hue(images: Tensor, strengths: FloatArray) -> None:
    """Turn colors around their circle, by so many turns."""
    for image, turns in zip(images, strengths.tolist(), strict=True):
        image.copy_(v2.functional.adjust_hue(image, turns))


def posterize(images: Tensor, strengths: FloatArray) -> None:
    """Keep the highest round(strength) bits."""
    dropped = np.clip(8 - np.rint(strengths), 0, 8).astype(np.int64)
    images.bitwise_and_(_numbers(images, (0xFF << dropped) & 0xFF, torch.uint8))


def solarize(images: Tensor, strengths: FloatArray) -> None:
    """Invert levels from the strength on."""
    # The sign of what is left below the threshold, as bytes of ones or of zeros; comparing bytes is slower.
    below = _numbers(images, np.ceil(np.clip(strengths, 0, 255)), torch.int16) - 1 - images.to(torch.int16)
    images.bitwise_xor_((below >> 15).to(torch.uint8))


def autocontrast(images: Tensor, strengths: FloatArray) -> None:
    """Stretch each channel to 0..255; strengths do not matter."""
    lowest, highest = (images.amin((2, 3), keepdim=True).float(), images.amax((2, 3), keepdim=True).float())
    flat = lowest == highest
    scale = ((highest - lowest) * (1.0 / 255)).masked_fill_(flat, 1.0)
    _store(images, images.float().sub_(lowest.masked_fill_(flat, 0.0)).div_(scale))


def equalize(images: Tensor, strengths: FloatArray) -> None:
    """Flatten each channel's histogram as Pillow does; strengths do not matter."""
    levels = images.view(-1, images.shape[2] * images.shape[3])
    count, pixels = levels.shape
    start = torch.arange(0, 256 * count, 256, dtype=torch.int32, device=images.device)
    histogram = torch.bincount((levels + start[:, None]).view(-1), minlength=256 * count).view(count, 256)
    below = histogram.cumsum(1)
    # All pixels but those of the highest level that occurs share the 255 steps.
    last = histogram.gather(1, below.argmax(1, keepdim=True))
    step = (pixels - last) // 255
    shifted = below.roll(1, 1)
    shifted[:, 0] = 0
    # Quotients of whole numbers this small are exact enough in float64 for their floor to be.
    table = shifted.add_(step // 2).double().div_(step.clamp(min=1)).floor_().clamp_(0, 255)
    table = torch.where(step > 0, table, torch.arange(256, device=images.device)).to(torch.uint8)
    levels.copy_(table.gather(1, levels.long()))


def _blend(images: Tensor, others: Tensor, strengths: FloatArray) -> None:
    levels = images.float().mul_(_factors(images, strengths))
    for part, strength in runs(strengths):
        # A number, since with a tensor of weights this would not be fused, and not be rounded as torchvision's is.
        levels[part].add_(others[part], alpha=1.0 - (1.0 + strength))
    _store(images, levels)


def _floored_gray(images: Tensor) -> Tensor:
    """Return the gray of each pixel in whole levels, float32 [n, h, w]."""
    red, green, blue = images.unbind(1)
    return red.mul(0.2989).add_(green, alpha=0.587).add_(blue, alpha=0.114).floor_()


def _factors(images: Tensor, strengths: FloatArray) -> Tensor:
    return _numbers(images, 1.0 + strengths.astype(np.float64), torch.float32)


def _numbers(images: Tensor, values: npt.NDArray[Any], dtype: torch.dtype) -> Tensor:
    return torch.from_numpy(values).to(dtype).view(-1, 1, 1, 1).to(images.device)


def _store(images: Tensor, levels: Tensor) -> None:
    # By way of int16: from float32 to uint8 there is no fast conversion.
    images.copy_(levels.clamp_(0, 255).to(torch.int16))
