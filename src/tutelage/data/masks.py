"""Masks: which class each pixel of an image is of, int16 [H, W], and where a loader takes them from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from tutelage.data.images import packed_size
from tutelage.data.mask_codes import Mask as Mask
from tutelage.data.mask_codes import MaskCode as MaskCode
from tutelage.data.mask_pixels import IGNORED as IGNORED
from tutelage.data.mask_pixels import decode_mask_pixels
from tutelage.data.samples import IntArray


class Masks(Protocol):
    """Where a loader takes masks from; safe to use from threads."""

    def get(self, rows: IntArray) -> list[Tensor]:
        """Return the masks in ``rows``, int16 [H, W], each of the size of its image.

        Raises:
            DataError: One cannot be decoded.
        """
        ...


class DecodedMasks:
    """Masks that are decoded each time they are asked for.

    Args:
        masks: The masks.
        short_side: Masks with a longer one are downscaled to it, as their images are.
    """

    at_hand = False

    def __init__(self, masks: Sequence[Mask], short_side: int) -> None:
        self._masks = masks
        self._short_side = short_side

    def get(self, rows: IntArray) -> list[Tensor]:
        """Decode the masks in ``rows``.

        Raises:
            DataError: One cannot be decoded.
        """
        return [packed_mask(self._masks[row], self._short_side) for row in rows]


def packed_mask(mask: Mask, short_side: int) -> Tensor:
    """Decode a mask and downscale it, by nearest, to the size that its image has when packed.

    Returns:
        int16 [H, W].

    Raises:
        DataError: It cannot be decoded.
    """
    found = decode_mask(mask)
    height, width = found.shape
    return resized(found, *packed_size(height, width, short_side))


def decode_mask(mask: Mask) -> Tensor:
    """Decode one mask to int16 [H, W], as :func:`tutelage.data.mask_pixels.decode_mask_pixels` does.

    Raises:
        ImageError: It cannot be decoded, or has a pixel of no class.
        DataError: A mask in a store that cannot be read.
    """
    return torch.from_numpy(decode_mask_pixels(mask))


def resized(mask: Tensor, height: int, width: int) -> Tensor:
    """Return a mask [H, W] at another size, by nearest: each pixel takes the one that its center lies in."""
    if tuple(mask.shape) == (height, width):
        return mask
    rows, columns = (
        (2 * torch.arange(new) + 1) * old // (2 * new) for new, old in zip((height, width), mask.shape, strict=True)
    )
    return mask[rows[:, None], columns]
