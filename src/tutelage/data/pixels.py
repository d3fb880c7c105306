"""Decoding without torch: from files, bytes or pictures to uint8 RGB pixels, one way for everything."""

from __future__ import annotations

import errno
import io
import os
import stat
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from tutelage.data.boxes import pixel_box, pixels_in
from tutelage.data.formats import IMAGE_SUFFIXES as IMAGE_SUFFIXES
from tutelage.data.formats import OPENED, ends_early, foreign, format_at_start
from tutelage.data.problems import ImageError
from tutelage.data.samples import CutOut, ImageSource, Stored
from tutelage.errors import DataError

BACKGROUND = (255, 255, 255)
"""The color that transparent pixels are composited on, everywhere: white."""

PIXEL_LIMIT = 200_000_000
"""Most pixels an image may have, by its header. A few kilobytes can claim more than memory holds."""

# Pillow's own limit lies below ours, first warns and raises something else; ours is checked on every image instead.
Image.MAX_IMAGE_PIXELS = None


def decode_pixels(source: ImageSource | Image.Image) -> npt.NDArray[np.uint8]:
    """Decode one image to uint8 [H, W, 3], RGB.

    EXIF rotation is applied, transparency composited on white, palettes and CMYK are converted; of an animation
    the first frame is taken. 16-bit channels are scaled to 8. Floating-point gray counts from 0 to 1 if no value
    is larger, else from 0 to 255. A crop is cut out of what all this makes of the whole image.

    Raises:
        ImageError: The file cannot be read, is not an image, or has more than ``PIXEL_LIMIT`` pixels.
        DataError: Pixels of another type or shape; an image in a store that cannot be read.
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
    if isinstance(source, Image.Image):
        return decoded(source, named(source), b"")
    if isinstance(source, CutOut):
        whole = decode_pixels(source.source)
        return whole[pixels_in(source.box, *whole.shape[:2])].copy()
    content, name = read_content(source), named(source)
    with open_content(content, name) as image:
        return decoded(image, name, content)


def open_content(content: bytes, name: str) -> Image.Image:
    """Read an encoded image's header, and refuse what is too large.

    Raises:
        ImageError: It is not an image, or has more than ``PIXEL_LIMIT`` pixels.
    """
    try:
        image = Image.open(io.BytesIO(content), formats=OPENED)
    except MemoryError:
        raise
    except Exception as error:  # damaged headers raise anything
        raise undecodable(name, content, error) from error
    _check_limit(image, name)
    return image


def decoded(image: Image.Image, name: str, content: bytes) -> npt.NDArray[np.uint8]:
    """Return the pixels of an image whose header is read.

    Args:
        image: The image.
        name: What messages call it.
        content: Its encoded bytes, to tell what is wrong with them.

    Raises:
        ImageError: It cannot be decoded.
    """
    try:
        inverted = image.format == "TIFF" and image.mode.startswith("I;16") and _white_is_zero(image)
        image.load()
        pixels = _to_rgb(upright(image))
    except MemoryError:
        raise
    except Exception as error:  # what damaged content raises depends on the format, and is nowhere listed
        raise undecodable(name, content, error) from error
    return 255 - pixels if inverted else pixels


def read_content(source: Path | bytes | Stored) -> bytes:
    """Return an encoded image's bytes.

    Raises:
        ImageError: It cannot be read, or is empty.
        DataError: What it is stored in says so.
    """
    if isinstance(source, Stored):
        content = source.read()
    elif isinstance(source, Path):
        check_regular(source)
        try:
            content = source.read_bytes()
        except OSError as error:
            raise unreadable(source, error) from error
    else:
        content = source
    if not content:
        raise ImageError(f"{named(source)}: cannot be decoded (empty file); repair or remove it", "empty file")
    return content


def image_size(source: ImageSource) -> tuple[int, int]:
    """Return (height, width) as decoded, reading no more than a file's header.

    Raises:
        ImageError: The file cannot be read, is not an image, or has more than ``PIXEL_LIMIT`` pixels.
        DataError: An image in a store that cannot be read.
    """
    if isinstance(source, np.ndarray):
        return source.shape[0], source.shape[1]
    if isinstance(source, CutOut):
        _, _, height, width = pixel_box(source.box, *image_size(source.source)).tolist()
        return height, width
    try:
        if isinstance(source, Path):
            check_regular(source)
        opened = source if isinstance(source, Path) else io.BytesIO(read_content(source))
        with Image.open(opened, formats=OPENED) as image:
            _check_limit(image, named(source))
            # Pillow states the size of a TIFF as turned already.
            turned = image.format != "TIFF" and _orientation(image) in (5, 6, 7, 8)
            return (image.width, image.height) if turned else (image.height, image.width)
    except (DataError, MemoryError):
        raise
    except Exception as error:
        if isinstance(source, Path) and isinstance(error, OSError) and error.errno:
            raise unreadable(source, error) from error
        raise ImageError(
            f"{named(source)}: cannot be read as an image; repair or remove it",
            "not an image" if isinstance(error, UnidentifiedImageError) else "damaged",
        ) from error


def check_regular(path: Path) -> None:
    """Refuse what is not there, folders, and pipes and devices, which would be waited for.

    Raises:
        ImageError: It is no file.
    """
    try:
        mode = path.stat().st_mode
    except OSError as error:
        raise unreadable(path, error) from error
    if not stat.S_ISREG(mode):
        what = "a folder" if stat.S_ISDIR(mode) else "a pipe, socket or device"
        raise ImageError(f"{named(path)}: is {what}, not a file; remove it", "special file", what)


def unreadable(path: Path, error: OSError) -> ImageError:
    """Return what is to be said of a file that the system will not read."""
    reason = error.strerror or type(error).__name__
    if error.errno == errno.ELOOP or (error.errno == errno.ENOENT and os.path.lexists(path)):
        return ImageError(f"{named(path)}: is a link that leads nowhere; repair or remove it", "link", reason)
    if error.errno in (errno.ENOENT, errno.ENOTDIR):
        return ImageError(f"{named(path)}: cannot be read ({reason}); was it moved?", "vanished", reason)
    return ImageError(f"{named(path)}: cannot be read ({reason}); repair or remove it", "unreadable", reason)


def named(source: ImageSource | Image.Image) -> str:
    """Return what a message calls an image."""
    if isinstance(source, bytes):
        return f"{len(source)} bytes"
    # Names of files need not be valid text; messages must be.
    return str(source).encode("utf-8", "backslashreplace").decode()


def _check_limit(image: Image.Image, name: str) -> None:
    if image.width * image.height > PIXEL_LIMIT:
        width, height = image.size
        image.close()
        raise ImageError(
            f"{name}: has {width} x {height} pixels, more than the limit of {PIXEL_LIMIT:,}; resize or remove it",
            "too large",
            f"{width} x {height} pixels",
        )


def undecodable(name: str, content: bytes, error: Exception) -> ImageError:
    """Return what is to be said of content that raised an error when it was decoded."""
    detail = str(error) or type(error).__name__
    kind = "damaged"
    early = ends_early(content)
    if early or (early is None and "truncated" in detail.lower()):
        kind = "truncated"
    elif isinstance(error, UnidentifiedImageError):
        known = format_at_start(content)
        kind = "damaged" if known else "not an image"
        looks = foreign(content)
        detail = f"its {known} header" if known else f"not an image but {looks}" if looks else "not an image"
    if isinstance(error, UnidentifiedImageError) and kind == "truncated":
        detail = "ends within its header"
    return ImageError(f"{name}: cannot be decoded ({detail}); repair or remove it", kind, detail)


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # broken metadata of an image that is whole
        return 1


def upright(image: Image.Image) -> Image.Image:
    """Return an image turned as its metadata say."""
    return image if _orientation(image) not in range(2, 9) else ImageOps.exif_transpose(image)


def _white_is_zero(image: Image.Image) -> bool:
    # Pillow turns 8-bit TIFFs of this kind around, but not 16-bit ones.
    return getattr(image, "tag_v2", {}).get(262) == 0


def _to_rgb(image: Image.Image) -> npt.NDArray[np.uint8]:
    if image.mode == "F":
        image = Image.fromarray(_from_float(np.asarray(image)))
    elif image.mode.startswith("I;16") or image.mode == "I":
        wide = np.asarray(image, dtype=np.float32)
        clear = image.info.get("transparency")
        if isinstance(clear, int):
            wide = np.where(wide == clear, np.float32(65535), wide)
        image = Image.fromarray((wide / 257.0).round().clip(0, 255).astype(np.uint8))
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        image = Image.new("RGBA", layer.size, (*BACKGROUND, 255))
        image.alpha_composite(layer)
    return np.array(image.convert("RGB"))


def _from_float(values: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
    finite = np.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0)
    scale = 255.0 if finite.max(initial=0.0) <= 1.0 else 1.0
    return (finite * scale).round().clip(0, 255).astype(np.uint8)
