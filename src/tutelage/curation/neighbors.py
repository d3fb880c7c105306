"""The nearest gallery items of queries: what searching finds, and what most strategies select from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tutelage.data.samples import IntArray
from tutelage.errors import DataError

FloatArray = npt.NDArray[np.float32]


class SearchDepthError(DataError):
    """Too few neighbors a query are known to select as many items.

    Attributes:
        depth: How many were known.
    """

    def __init__(self, message: str, depth: int) -> None:
        super().__init__(message)
        self.depth = depth


@dataclass(frozen=True)
class Neighbors:
    """The K nearest gallery items of each query, most similar first, ties by the smaller row.

    Attributes:
        rows: Of the gallery, int64 [Q, K]; each occurs once at most for one query.
        similarity: Of each, float32 [Q, K].
    """

    rows: IntArray
    similarity: FloatArray

    def __post_init__(self) -> None:
        if self.rows.ndim != 2 or self.rows.shape != self.similarity.shape:
            raise ValueError(
                f"expected two arrays of one shape [Q, K], got {self.rows.shape}, {self.similarity.shape}"
            )

    @property
    def depth(self) -> int:
        """How many neighbors of each query are known."""
        return int(self.rows.shape[1])


def nearest(similarity: npt.NDArray[Any], depth: int) -> Neighbors:
    """Return the nearest items of queries that are compared with a whole gallery.

    Args:
        similarity: The higher the nearer, floating-point [queries, gallery].
        depth: Neighbors a query; all of the gallery if it has fewer.

    Raises:
        DataError: The array has another shape, no entries, or some that are not finite.
    """
    if similarity.ndim != 2 or not similarity.size:
        raise DataError(
            f"expected similarities [queries, gallery], with one of each at least, got {similarity.shape}"
        )
    if depth < 1:
        raise ValueError(f"expected a depth of 1 or more, got {depth}")
    depth = min(depth, similarity.shape[1])
    rows = np.empty((len(similarity), depth), dtype=np.int64)
    for query, row in enumerate(similarity):
        if not np.isfinite(row).all():
            raise DataError(
                f"the similarities of query {query} are not all finite; its or an item's embedding is not"
            )
        rows[query] = _top(row, depth)
    return Neighbors(rows, np.take_along_axis(similarity, rows, axis=1).astype(np.float32))


def _top(row: npt.NDArray[Any], depth: int) -> IntArray:
    last = np.partition(row, len(row) - depth)[len(row) - depth]
    above = np.flatnonzero(row > last)
    # Of those that are as near as the last one, the first: which ones a partition would take is left to chance.
    chosen = np.concatenate([above, np.flatnonzero(row == last)[: depth - len(above)]])
    return chosen[np.argsort(-row[chosen], kind="stable")].astype(np.int64)
