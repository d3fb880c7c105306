"""Decoding masks without torch: from files, bytes or arrays to class numbers."""

from __future__ import annotations

import functools
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from tutelage.data.boxes import pixels_in
from tutelage.data.mask_codes import MOST, MOST_CLASSES, Color, Mask, MaskCode, known, shown
from tutelage.data.pixels import named, open_content, read_content, undecodable, upright
from tutelage.data.problems import ImageError
from tutelage.data.samples import CutOut
from tutelage.errors import DataError

IGNORED = -1
"""Where nothing counts."""

_UNKNOWN = -2


def decode_mask_pixels(mask: Mask) -> npt.NDArray[np.int16]:
    """Decode one mask to class numbers, int16 [H, W], :data:`IGNORED` where nothing counts.

    Gray masks of 1 to 16 bits and palette images count by their values (of palettes: by index), unless classes have
    colors. EXIF rotation is applied, as to images; transparency means nothing.

    Raises:
        ImageError: It cannot be decoded, has colors that no class has, a value of no class, or a form that holds no
            class numbers.
        DataError: A mask in a store that cannot be read.
    """
    name = named(mask.source)
    pixels, indices = _pixels(mask, name)
    if pixels.ndim == 3:
        shades = pixels.astype(np.int32)
        found = _by_color(shades[..., 0] << 16 | shades[..., 1] << 8 | shades[..., 2], mask.code)
        if indices is not None:
            found[np.isin(indices, [each for each in mask.code.ignored if isinstance(each, int)])] = IGNORED
    else:
        within = pixels if pixels.dtype.itemsize <= 2 else np.where((pixels < 0) | (pixels >= MOST), MOST, pixels)
        found = _by_value(mask.code)[within]
    unknown = found == _UNKNOWN
    if unknown.any():
        row, column = (int(place) for place in np.argwhere(unknown)[0])
        pixel = pixels[row, column].tolist()
        what = f"{'value' if isinstance(pixel, int) else 'color'} {shown(pixel)} at row {row}, column {column}"
        there = known(mask.code)
        raise ImageError(
            f"{name}: {what} is that of no class ({there}); add its class to data.classes, or name it in data.ignore",
            "unknown id",
            f"{what}; {there}",
        )
    return found


def check_mask(mask: Mask, size: tuple[int, int]) -> int:
    """Decode a mask and return the largest class number in it.

    Args:
        mask: The mask.
        size: Height and width of its image.

    Raises:
        ImageError: It cannot be decoded, has another size, or no pixel that counts.
        DataError: A mask in a store that cannot be read.
    """
    found, name = decode_mask_pixels(mask), named(mask.source)
    if found.shape != size:
        what = f"{found.shape[1]} x {found.shape[0]} pixels, its image {size[1]} x {size[0]}"
        raise ImageError(f"{name}: has {what}; give a mask of its image's size", "mask size", what)
    largest = int(found.max())
    if largest == IGNORED:
        what = f"no pixel counts ({', '.join(map(shown, mask.code.ignored))} are ignored)"
        raise ImageError(f"{name}: {what}; remove it with its image, or change data.ignore", "all ignored", what)
    return largest


def _pixels(mask: Mask, name: str) -> tuple[npt.NDArray[Any], npt.NDArray[Any] | None]:
    """Return whole numbers [H, W], or colors [H, W, 3] and, of palette images, their indices."""
    if isinstance(mask.source, CutOut):
        whole, indices = _pixels(replace(mask, source=mask.source.source), name)
        inside = pixels_in(mask.source.box, *whole.shape[:2])
        return whole[inside], None if indices is None else indices[inside]
    if isinstance(mask.source, np.ndarray):
        if mask.source.dtype.kind != "u" or mask.source.ndim not in (2, 3) or not mask.source.size:
            raise DataError(
                "masks must be unsigned whole numbers [H, W], or colors uint8 [H, W, 3], not "
                f"{mask.source.dtype} {list(mask.source.shape)}"
            )
        if mask.source.ndim == 2 and mask.code.colored:
            return np.stack([mask.source] * 3, axis=-1), None
        if mask.source.ndim == 3 and not mask.code.colored:
            raise _uncolored(name, mask.source)
        return mask.source[..., :3] if mask.source.ndim == 3 else mask.source, None
    content = read_content(mask.source)
    with open_content(content, name) as image:
        form = image.format or ""
        try:
            image.load()
            image = upright(image)
        except MemoryError:
            raise
        except Exception as error:  # what damaged content raises depends on the format, and is nowhere listed
            raise undecodable(name, content, error) from error
        if form in ("JPEG", "MPO"):
            raise _no_mask(name, "a JPEG, which does not keep values as they were", "save masks as PNG")
        return _of_image(image, name, mask.code.colored, _steps(content))


def _of_image(
    image: Image.Image, name: str, colored: bool, step: int
) -> tuple[npt.NDArray[Any], npt.NDArray[Any] | None]:
    if image.mode in ("RGB", "RGBA", "RGBX"):
        pixels = np.asarray(image)[..., :3]
        if not colored:
            raise _uncolored(name, pixels)
        return pixels, None
    if image.mode in ("LA", "PA"):
        image = image.getchannel(0) if image.mode == "LA" or not colored else image.convert("RGBA").convert("RGB")
        return _of_image(image, name, colored, step)
    if image.mode in ("1", "L", "P") and colored:
        image.info.pop("transparency", None)
        indices = np.asarray(image) if image.mode == "P" else None
        return np.asarray(image.convert("RGB")), indices
    if image.mode in ("1", "L", "P"):
        values = np.asarray(image).astype(np.uint8)
        return values // step if image.mode == "L" else values, None
    if image.mode == "I" or image.mode.startswith("I;16"):
        if colored:
            raise _no_mask(name, "16-bit gray, and classes have colors", "give classes numbers, or save masks as RGB")
        return np.asarray(image).astype(np.int32), None
    raise _no_mask(name, f"of mode {image.mode}, which holds no class numbers", "save masks as gray PNG")


def _steps(content: bytes) -> int:
    """Return what Pillow multiplies the values of a gray PNG of 2 or 4 bits by, to fill 8."""
    gray = content.startswith(b"\x89PNG") and len(content) > 25 and content[25] == 0
    return {2: 85, 4: 17}.get(content[24], 1) if gray else 1


def _uncolored(name: str, pixels: npt.NDArray[Any]) -> ImageError:
    gray = (pixels[..., 0] == pixels[..., 1]).all() and (pixels[..., 0] == pixels[..., 2]).all()
    what, remedy = "three channels, all the same", "convert it to gray (one channel)"
    if not gray:
        what = "colors, and nobody says which class has which"
        remedy = (
            "give each class its color (classes.json beside the images, or data.classes: {sky: [0, 128, 255]}), "
            "or convert masks to gray, with class numbers as values"
        )
    return ImageError(f"{name}: is an RGB mask: it has {what}; {remedy}", "RGB mask", f"{what}; {remedy}")


def _no_mask(name: str, what: str, remedy: str) -> ImageError:
    return ImageError(f"{name}: is no mask but {what}; {remedy}", "not a mask", f"{what}; {remedy}")


@functools.lru_cache(maxsize=32)
def _by_value(code: MaskCode) -> npt.NDArray[np.int16]:
    """Return the class number of each value, and of :data:`MOST` for those beyond."""
    table = np.full(MOST + 1, _UNKNOWN, dtype=np.int16)
    if code.numbers is None:
        table[:MOST_CLASSES] = np.arange(MOST_CLASSES)
    for pixel, number in (*(code.numbers or ()), *((pixel, IGNORED) for pixel in code.ignored)):
        if isinstance(pixel, int):
            table[pixel] = number
    return table


def _by_color(colors: npt.NDArray[np.int32], code: MaskCode) -> npt.NDArray[np.int16]:
    """Return class numbers of colors, each one number."""
    pairs = {_packed(pixel): number for pixel, number in code.numbers or () if not isinstance(pixel, int)}
    pairs |= {_packed(pixel): IGNORED for pixel in code.ignored if not isinstance(pixel, int)}
    known = np.array(sorted(pairs), dtype=np.int32)
    numbers = np.array([pairs[color] for color in known.tolist()], dtype=np.int16)
    places = np.searchsorted(known, colors).clip(max=len(known) - 1)
    return np.where(known[places] == colors, numbers[places], np.int16(_UNKNOWN))


def _packed(color: Color) -> int:
    return color[0] << 16 | color[1] << 8 | color[2]
