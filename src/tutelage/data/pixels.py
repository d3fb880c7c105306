"""Decoding without torch: from files, bytes or pictures to uint8 RGB pixels, one way for everything."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from tutelage.data.samples import ImageSource, Stored
from tutelage.errors import DataError

BACKGROUND = (255, 255, 255)
"""The color that transparent pixels are composited on, everywhere: white."""

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm"})


def decode_pixels(source: ImageSource | Image.Image) -> npt.NDArray[np.uint8]:
    """Decode one image to uint8 [H, W, 3], RGB.

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
        return _to_rgb(Image.fromarray(source))
    try:
        if isinstance(source, Image.Image):
            return _to_rgb(ImageOps.exif_transpose(source))
        with Image.open(_opened(source)) as image:
            return _to_rgb(ImageOps.exif_transpose(image))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        what = "not an image" if isinstance(error, UnidentifiedImageError) else str(error) or type(error).__name__
        raise DataError(f"{named(source)}: cannot be decoded ({what}); repair or remove it") from error


def image_size(source: ImageSource) -> tuple[int, int]:
    """Return (height, width) as decoded, reading no more than a file's header.

    Raises:
        DataError: The file cannot be read, or is not an image.
    """
    if isinstance(source, np.ndarray):
        return source.shape[0], source.shape[1]
    try:
        with Image.open(_opened(source)) as image:
            # Pillow states the size of a TIFF as turned already.
            turned = image.format != "TIFF" and image.getexif().get(ExifTags.Base.Orientation) in (5, 6, 7, 8)
            return (image.width, image.height) if turned else (image.height, image.width)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(f"{named(source)}: cannot be read as an image; repair or remove it") from error


def named(source: ImageSource | Image.Image) -> str:
    """Return what a message calls an image."""
    return f"{len(source)} bytes" if isinstance(source, bytes) else str(source)


def _opened(source: Path | bytes | Stored) -> Path | io.BytesIO:
    if isinstance(source, Stored):
        return io.BytesIO(source.read())
    return io.BytesIO(source) if isinstance(source, bytes) else source


def _to_rgb(image: Image.Image) -> npt.NDArray[np.uint8]:
    if image.mode.startswith("I;16") or image.mode == "I":
        wide = np.asarray(image, dtype=np.float32) / 257.0
        image = Image.fromarray(wide.round().clip(0, 255).astype(np.uint8))
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        image = Image.new("RGBA", layer.size, (*BACKGROUND, 255))
        image.alpha_composite(layer)
    return np.array(image.convert("RGB"))
