"""Boxes within images: from shares of their sides to whole pixels, of views and of crops that are samples."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]

TIE = 1 / 1024
"""How far below a tie a size or position, in pixels, still counts as tied; far above what float32 loses."""


def pixel_box(box: npt.ArrayLike, height: npt.ArrayLike, width: npt.ArrayLike) -> Ints:
    """Round relative boxes to whole pixels.

    Sizes are rounded half up, to at least one pixel; then the box is placed so that its center is as near to the
    relative box's center as it can be, ties going up and left. For a center square that keeps ``share`` of the
    short side this is ``side = max(1, floor(min(height, width) * share + 0.5 + TIE))``, ``top = (height - side) //
    2``, ``left = (width - side) // 2``.

    Args:
        box: (top, left, height, width) relative to the image, [..., 4].
        height: Height of each image in pixels, [...].
        width: Width of each image in pixels, [...].

    Returns:
        (top, left, height, width) in pixels, inside the image, int64 [..., 4].
    """
    relative = np.asarray(box, dtype=np.float64)
    image = np.stack(np.broadcast_arrays(height, width), axis=-1).astype(np.float64)
    place, size = relative[..., :2] * image, relative[..., 2:] * image
    pixels = np.clip(np.floor(size + 0.5 + TIE), 1, image)
    start = np.clip(np.ceil(place + (size - pixels) / 2 - 0.5 - TIE), 0, image - pixels)
    return np.concatenate([start, pixels], axis=-1).astype(np.int64)


def pixels_in(box: npt.ArrayLike, height: int, width: int) -> tuple[slice, slice]:
    """Return which rows and which columns of an image a relative box holds (see :func:`pixel_box`)."""
    top, left, rows, columns = pixel_box(box, height, width).tolist()
    return slice(top, top + rows), slice(left, left + columns)
