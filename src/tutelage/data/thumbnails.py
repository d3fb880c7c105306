"""Images made small enough to be looked at by the dozen."""

from __future__ import annotations

import io

from PIL import Image

from tutelage.data.pixels import decode_pixels
from tutelage.data.samples import ImageSource

LOSSLESS = 64
"""Up to this long side pictures are kept as PNG: a JPEG of so few pixels is hardly smaller, and blurs them."""


def thumbnail(source: ImageSource, side: int) -> tuple[bytes, str]:
    """Return an image with a long side of at most ``side`` pixels, encoded, and its file name's ending.

    Raises:
        DataError: It cannot be read or decoded.
    """
    image = Image.fromarray(decode_pixels(source))
    image.thumbnail((side, side), Image.Resampling.LANCZOS)
    return encoded(image)


def encoded(image: Image.Image) -> tuple[bytes, str]:
    """Return a small picture, encoded, and its file name's ending."""
    content = io.BytesIO()
    if max(image.size) <= LOSSLESS:
        image.save(content, "PNG", optimize=True)
        return content.getvalue(), "png"
    image.save(content, "JPEG", quality=82)
    return content.getvalue(), "jpg"
