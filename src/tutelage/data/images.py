"""Decoding: from files, bytes or pixels to uint8 RGB tensors; one way for training, prediction and export."""

from __future__ import annotations

import functools
import importlib
import io
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from PIL import ExifTags, Image
from torch import Tensor
from torchvision.transforms.v2 import functional as vision

from tutelage.data import pixels
from tutelage.data.boxes import pixels_in
from tutelage.data.formats import jpeg_frame
from tutelage.data.pixels import decode_pixels, decoded, named, open_content, read_content
from tutelage.data.samples import CutOut, ImageSource, IntArray

PACK_SHARE = 1.5
"""Images are kept with a short side of this many view sides, so that small crops stay sharp."""


def decode(source: ImageSource | Image.Image) -> Tensor:
    """Decode one image to uint8 [3, H, W], RGB, as :func:`tutelage.data.pixels.decode_pixels` does.

    Plain JPEG files go through torchcodec where it is installed: the same pixels in 0.6 of the time.

    Raises:
        ImageError: The file cannot be read, is not an image, or is too large.
        DataError: Pixels of another type or shape; an image in a store that cannot be read.
    """
    return decode_named(source)[0]


def decode_named(source: ImageSource | Image.Image) -> tuple[Tensor, str]:
    """Decode one image as :func:`decode` does; return it with the name of its format (empty for pixels).

    Raises:
        ImageError: As :func:`decode`.
        DataError: As :func:`decode`.
    """
    if isinstance(source, (np.ndarray, Image.Image)):
        return _channels_first(decode_pixels(source)), ""
    if isinstance(source, CutOut):
        whole, form = decode_named(source.source)
        # Copied, so that the whole image need not stay in memory.
        return whole[:, *pixels_in(source.box, *whole.shape[1:])].clone(), form
    content = read_content(source)
    frame = jpeg_frame(content)
    if frame is not None and (decode_jpeg := _torchcodec()):
        height, width, components = frame
        if components in (1, 3) and 0 < height * width <= pixels.PIXEL_LIMIT:
            try:
                return decode_jpeg(content), "JPEG"
            except (RuntimeError, ValueError):
                pass  # Pillow refuses it as well, and says why in our words, or knows a kind that torchcodec does not
    name = named(source)
    with open_content(content, name) as image:
        return _channels_first(decoded(image, name, content)), image.format or ""


def _channels_first(image: npt.NDArray[np.uint8]) -> Tensor:
    # Not copied into channel order: resizing takes it as it is, and copying costs as much as half of the decoding.
    return torch.from_numpy(image).permute(2, 0, 1)


@functools.cache
def _torchcodec() -> Callable[[bytes], Tensor] | None:
    """Return torchcodec's decoder of JPEG, or ``None`` where it is not there or gives other pixels than Pillow.

    Both use libjpeg-turbo and agree exactly, chroma upsampling included. But releases differ in what they do about
    rotation, and a build that was made for another torch fails when loaded: so it is tried first, on one image.
    """
    try:
        decoders: Any = importlib.import_module("torchcodec.decoders")
        decode_jpeg: Callable[[bytes], Tensor] = functools.partial(decoders.decode_jpeg, mode="RGB")
        found = decode_jpeg(content := _probe())
    except (ImportError, OSError, RuntimeError, TypeError, ValueError, AttributeError):
        return None
    return decode_jpeg if torch.equal(found, _channels_first(decode_pixels(content))) else None


def _probe() -> bytes:
    """Return a small JPEG with subsampled chroma and odd sides, that is to be turned."""
    ramp = np.arange(17 * 23 * 3, dtype=np.uint32).reshape(17, 23, 3) * 7919 % 251
    exif, file = Image.Exif(), io.BytesIO()
    exif[ExifTags.Base.Orientation] = 6
    Image.fromarray(ramp.astype(np.uint8)).save(file, "JPEG", subsampling=2, exif=exif)
    return file.getvalue()


class Images(Protocol):
    """Where a loader takes images from, decoded and no larger than its views need; safe to use from threads.

    Attributes:
        at_hand: Whether getting them takes no decoding.
    """

    @property
    def at_hand(self) -> bool: ...  # noqa: D102

    def get(self, rows: IntArray) -> list[Tensor]:
        """Return the images in ``rows``, each uint8 [3, H, W].

        Raises:
            DataError: One cannot be decoded.
        """
        ...


class DecodedImages:
    """Images that are decoded each time they are asked for.

    Args:
        sources: The images.
        short_side: Images with a longer one are downscaled to it (see :func:`packed`).
    """

    at_hand = False

    def __init__(self, sources: Sequence[ImageSource], short_side: int) -> None:
        self._sources = sources
        self._short_side = short_side

    def get(self, rows: IntArray) -> list[Tensor]:
        """Decode the images in ``rows``.

        Raises:
            DataError: One cannot be decoded.
        """
        return [packed(self._sources[row], self._short_side) for row in rows]


def short_side(view: int) -> int:
    """Return the short side, in pixels, of images that views of this side are cut from."""
    return round(view * PACK_SHARE)


def packed_size(height: int, width: int, short_side: int) -> tuple[int, int]:
    """Return the size that :func:`packed` gives an image of this size."""
    if min(height, width) <= short_side:
        return height, width
    long = int(short_side * max(height, width) / min(height, width))  # as torchvision counts
    return (long, short_side) if height > width else (short_side, long)


def packed(source: ImageSource, short_side: int) -> Tensor:
    """Decode an image and downscale it (antialiased, aspect kept) to a short side, if it is larger.

    Returns:
        uint8 [3, H, W], in no particular memory layout.

    Raises:
        DataError: It cannot be decoded.
    """
    image = decode(source)
    if min(image.shape[-2:]) > short_side:
        resized: Tensor = vision.resize(image, [short_side], antialias=True)
        return resized
    return image
