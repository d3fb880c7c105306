"""Decoding: from files, bytes or pixels to uint8 RGB tensors; one way for training, prediction and export."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import functional as vision

from tutelage.data.pixels import decode_pixels
from tutelage.data.samples import ImageSource

BANK_BYTES = 2 << 30
"""How much memory decoded images may take before the rest is decoded again each time."""

PACK_SHARE = 1.5
"""Images are kept with a short side of this many view sides, so that small crops stay sharp."""


def decode(source: ImageSource | Image.Image) -> Tensor:
    """Decode one image to uint8 [3, H, W], RGB, as :func:`tutelage.data.pixels.decode_pixels` does.

    Raises:
        DataError: The file cannot be read, or is not an image.
    """
    return torch.from_numpy(decode_pixels(source)).permute(2, 0, 1).contiguous()


class ImageBank:
    """Decoded images, kept in memory up to a budget.

    Images larger than ``PACK_SHARE`` views are kept downscaled (antialiased, aspect kept). Safe to use from
    several threads.

    Args:
        sources: The images.
        view: Side of the views that will be cut, in pixels.
        budget: Most bytes to keep.
    """

    def __init__(self, sources: Sequence[ImageSource], view: int, *, budget: int = BANK_BYTES) -> None:
        self._sources = sources
        self._short_side = round(view * PACK_SHARE)
        self._budget = budget
        self._kept: dict[int, Tensor] = {}
        self._bytes = 0
        self._lock = threading.Lock()
        # Pillow lets other threads run while it decodes; more threads than cores gain nothing.
        self._pool = ThreadPoolExecutor(max_workers=min(8, torch.get_num_threads() + 1), thread_name_prefix="decode")

    def __len__(self) -> int:
        return len(self._sources)

    def get(self, rows: Sequence[int]) -> list[Tensor]:
        """Return the images in ``rows``, each uint8 [3, H, W].

        Raises:
            DataError: One cannot be decoded.
        """
        missing = [row for row in dict.fromkeys(rows) if row not in self._kept]
        fresh = dict(zip(missing, self._pool.map(self._load, missing), strict=True))
        with self._lock:
            for row, image in fresh.items():
                if self._bytes + image.nbytes <= self._budget and row not in self._kept:
                    self._kept[row] = image
                    self._bytes += image.nbytes
        return [fresh[row] if row in fresh else self._kept[row] for row in rows]

    def _load(self, row: int) -> Tensor:
        image = decode(self._sources[row])
        short = min(image.shape[-2:])
        if short > self._short_side:
            image = vision.resize(image, [self._short_side], antialias=True)
        return image
