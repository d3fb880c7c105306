"""Exact copies: transfer or training images that are also test images."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from tutelage.data.samples import ImageSource, IntArray, Samples, Stored
from tutelage.errors import DataError


def exact_copies(samples: Samples, of: Samples) -> IntArray:
    """Return the rows of ``samples`` whose image has the very bytes (or pixels) of one in ``of``.

    Only images whose size in bytes occurs in ``of`` are read.
    """
    sizes = {_size(image) for image in of.images or ()}
    hashes = {_hash(image) for image in of.images or ()}
    rows = [row for row, image in enumerate(samples.images or ()) if _size(image) in sizes and _hash(image) in hashes]
    return np.array(rows, dtype=np.int64)


def _size(image: ImageSource) -> int:
    if isinstance(image, Stored):
        return len(image.read())
    if isinstance(image, Path):
        return image.stat().st_size
    return len(image) if isinstance(image, bytes) else image.nbytes


def _hash(image: ImageSource) -> bytes:
    try:
        if isinstance(image, Stored):
            image = image.read()
        content = image.read_bytes() if isinstance(image, Path) else image
    except OSError as error:
        raise DataError(f"{error.filename}: cannot be read ({error.strerror})") from error
    if isinstance(content, np.ndarray):
        content = repr(content.shape).encode() + np.ascontiguousarray(content).tobytes()
    return hashlib.blake2b(content, digest_size=16).digest()
