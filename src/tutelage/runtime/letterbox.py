"""A whole image at the top left of a square, its aspect kept, and the way back: whole numbers alone."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
import numpy.typing as npt

Number = TypeVar("Number", bound=np.generic)


def fitted(height: int, width: int, size: int) -> tuple[int, int]:
    """Return the (height, width) in pixels of an image whose long side becomes ``size``; at least 1 each.

    The short side is rounded half up.
    """
    long = max(height, width)
    return _share(height, long, size), _share(width, long, size)


def source_rows(out: int, inside: int) -> npt.NDArray[np.int64]:
    """Return which of ``inside`` rows (or columns) each of ``out`` rows takes, by nearest neighbor, int64 [out]."""
    return (2 * np.arange(out, dtype=np.int64) + 1) * inside // (2 * out)


def restored(square: npt.NDArray[Number], height: int, width: int) -> npt.NDArray[Number]:
    """Return the mask of an image of (height, width) from the one that was found in its square.

    Args:
        square: Class numbers [size, size]; what lies outside of the image is not read.
        height: Of the image, in pixels.
        width: Of the image, in pixels.
    """
    rows, columns = fitted(height, width, square.shape[0])
    found: npt.NDArray[Number] = square[source_rows(height, rows)][:, source_rows(width, columns)]
    return found


def _share(side: int, long: int, size: int) -> int:
    return max(1, (2 * side * size + long) // (2 * long))
