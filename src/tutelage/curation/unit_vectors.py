"""Embeddings of the same items by one encoder or several, read block by block as unit vectors."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tutelage.curation.neighbors import FloatArray
from tutelage.data.samples import IntArray
from tutelage.errors import DataError

CHUNK = 8192
"""Rows whose norms are computed at a time."""


@dataclass(frozen=True)
class UnitVectors:
    """What encoders make of items, lengths aside; read from where it lies, so that memory maps stay on disk.

    Attributes:
        features: One array an encoder, floating-point [N, D_e].
        norms: Of their rows, float32 [encoders, N].
    """

    features: tuple[npt.NDArray[Any], ...]
    norms: FloatArray

    def __len__(self) -> int:
        return int(self.norms.shape[1])

    @property
    def width(self) -> int:
        """Dimensions of all encoders together."""
        return sum(int(each.shape[1]) for each in self.features)

    def of(self, encoder: int, rows: slice | IntArray) -> FloatArray:
        """Return unit vectors of one encoder: products are cosine similarities, float32 [n, D_e]."""
        vectors: FloatArray = np.asarray(self.features[encoder][rows], dtype=np.float32)
        return vectors / self.norms[encoder, rows, None]

    def joint(self, rows: slice | IntArray) -> FloatArray:
        """Return unit vectors of all encoders: products are the means of cosine similarities, float32 [n, width]."""
        parts = [self.of(encoder, rows) for encoder in range(len(self.features))]
        return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1) / np.float32(math.sqrt(len(parts)))


def unit_vectors(features: Sequence[npt.NDArray[Any]]) -> UnitVectors:
    """Return embeddings as unit vectors.

    Args:
        features: One array an encoder, floating-point [N, D_e], rows of the same items in the same order.

    Raises:
        DataError: No encoder, arrays of other shapes, encoders that disagree on the number of items, or an embedding
            that is zero or not finite.
    """
    shapes = [each.shape for each in features]
    if not shapes or any(len(shape) != 2 or not shape[1] for shape in shapes):
        raise DataError(f"expected embeddings [items, dimensions] of one encoder or more, got {shapes}")
    if len({shape[0] for shape in shapes}) > 1:
        counts = " and ".join(str(shape[0]) for shape in shapes)
        raise DataError(f"the encoders disagree on the items: they have embedded {counts}; embed the same with all")
    norms = np.empty((len(features), shapes[0][0]), dtype=np.float32)
    for encoder, array in enumerate(features):
        for start in range(0, len(array), CHUNK):
            rows = slice(start, start + CHUNK)
            norms[encoder, rows] = np.linalg.norm(np.asarray(array[rows], dtype=np.float32), axis=1)
        bad = np.flatnonzero(~np.isfinite(norms[encoder]) | (norms[encoder] == 0))
        if len(bad):
            raise DataError(
                f"encoder {encoder + 1} of {len(features)} gives item {bad[0]} an embedding that is zero or not "
                f"finite, {len(bad)} items in all; leave them out"
            )
    return UnitVectors(tuple(features), norms)
