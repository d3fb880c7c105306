"""Selecting by an array of all similarities, for galleries that are small enough to have one."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from tutelage.curation.neighbors import SearchDepthError, nearest
from tutelage.curation.strategies import Candidates, balanced
from tutelage.data.samples import IntArray


def query_balanced(similarity: npt.ArrayLike, size: int, *, seed: int) -> IntArray:
    """Return the gallery indices of a query-balanced selection; see :func:`~tutelage.curation.strategies.balanced`.

    Args:
        similarity: Of queries and gallery items, the higher the nearer, [queries, gallery]. Equally near items count
            as nearer the smaller their index.
        size: Items to select, as many as queries at least.
        seed: Of the order in which queries drop their last neighbors.

    Returns:
        Unique gallery indices, int64 [size], most relevant first.

    Raises:
        DataError: The array has another shape, no entries, or some that are not finite.
        RecipeError: The gallery has fewer items than ``size``, or there are more queries.
    """
    array = np.asarray(similarity)
    if not np.issubdtype(array.dtype, np.floating):
        array = array.astype(np.float64)
    # Queries have neighbors in common, so that more of each are needed than their share, but seldom many times more.
    depth = 2 * math.ceil(size / max(len(array), 1)) if array.ndim else 1
    while True:
        neighbors = nearest(array, max(depth, 1))
        try:
            return balanced(Candidates(array.shape[1], neighbors), size, seed=seed).rows
        except SearchDepthError:
            depth *= 4
