"""Decoding: from files, bytes or pixels to uint8 RGB tensors; one way for training, prediction and export."""

from __future__ import annotations

import io
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError
from torch import Tensor
from torchvision.transforms.v2 import functional as vision

from tutelage.data.samples import ImageSource
from tutelage.errors import DataError

BACKGROUND = (255, 255, 255)
"""The color that transparent pixels are composited on, everywhere: white."""

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm"})

BANK_BYTES = 2 << 30
"""How much memory decoded images may take before the rest is decoded again each time."""

PACK_SHARE = 1.5
"""Images are kept with a short side of this many view sides, so that small crops stay sharp."""


def decode(source: ImageSource | Image.Image) -> Tensor:
    """Decode one image to uint8 [3, H, W], RGB.

    EXIF rotation is applied, transparency composited on white, 16-bit gray scaled to 8, palettes and CMYK
    converted; of an animation the first frame is taken.

    Raises:
        DataError: The file cannot be read, or is not an image.
    """
    if isinstance(source, np.ndarray):
        if (
            source.dtype != np.uint8
            or not source.size
            or source.ndim not in (2, 3)
            or (source.ndim == 3 and source.shape[2] not in (3, 4))
        ):
            raise DataError(f"pixels must be uint8 [H, W] or [H, W, 3 or 4], not {source.dtype} {list(source.shape)}")
        return _to_tensor(Image.fromarray(source))
    try:
        if isinstance(source, Image.Image):
            return _to_tensor(ImageOps.exif_transpose(source))
        with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source) as image:
            return _to_tensor(ImageOps.exif_transpose(image))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        where = f"{len(source)} bytes" if isinstance(source, bytes) else str(source)
        what = "not an image" if isinstance(error, UnidentifiedImageError) else str(error) or type(error).__name__
        raise DataError(f"{where}: cannot be decoded ({what}); repair or remove it") from error


def image_size(source: ImageSource) -> tuple[int, int]:
    """Return (height, width) as decoded, reading no more than a file's header.

    Raises:
        DataError: The file cannot be read, or is not an image.
    """
    if isinstance(source, np.ndarray):
        return source.shape[0], source.shape[1]
    try:
        with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source) as image:
            # Pillow states the size of a TIFF as turned already.
            turned = image.format != "TIFF" and image.getexif().get(ExifTags.Base.Orientation) in (5, 6, 7, 8)
            return (image.width, image.height) if turned else (image.height, image.width)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        where = f"{len(source)} bytes" if isinstance(source, bytes) else str(source)
        raise DataError(f"{where}: cannot be read as an image; repair or remove it") from error


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


def _to_tensor(image: Image.Image) -> Tensor:
    if image.mode.startswith("I;16") or image.mode == "I":
        wide = np.asarray(image, dtype=np.float32) / 257.0
        image = Image.fromarray(wide.round().clip(0, 255).astype(np.uint8))
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        image = Image.new("RGBA", layer.size, (*BACKGROUND, 255))
        image.alpha_composite(layer)
    return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1).contiguous()


def list_images(folder: Path) -> list[Path]:
    """Return all image files under ``folder``, by suffix, sorted by their relative path; none that are hidden."""

    def wanted(path: Path) -> bool:
        # Systems keep thumbnails and copies of metadata under hidden names with the suffix of an image.
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        return path.suffix.lower() in IMAGE_SUFFIXES and not hidden and path.is_file()

    return sorted(filter(wanted, folder.rglob("*")), key=lambda path: path.relative_to(folder).as_posix())
