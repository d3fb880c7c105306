"""Short vectors whose products are never below those of the long ones, to rule most pairs of items out."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from tutelage.curation.neighbors import FloatArray
from tutelage.curation.unit_vectors import UnitVectors

DIMENSIONS = (16, 32, 64, 128, 256)
"""Lengths of sketches that are tried, less the one number for what they leave out."""

SAMPLE = 1024
"""Items that directions are fitted on, and as many that lengths are tried on."""

CHUNK = 4096
"""Items that are sketched at a time."""

SLACK = 1e-5
"""By how much the float32 product of two sketches may fall short of the bound."""

_SCAN, _RESCORE = 16, 20
"""What a pair costs beside its product, and each number of a pair that is not ruled out, in terms of products."""


def sketches(vectors: UnitVectors, threshold: float) -> FloatArray:
    r"""Return a sketch of each item, of the length that makes looking for pairs above a threshold cheapest.

    With an orthonormal basis P of a few directions, by the inequality of Cauchy and Schwarz

    .. math:: a \cdot b \le Pa \cdot Pb + \lVert a - P^T P a \rVert \lVert b - P^T P b \rVert,

    so a sketch is :math:`[Pa, \lVert a - P^T P a \rVert]`. The directions are the principal ones of some items. Where
    no sketch would help, the unit vectors themselves are returned.

    Args:
        vectors: Of all items.
        threshold: Similarity that is looked for.

    Returns:
        float32 [N, length]; each as long as 1, or longer by what rounding may have lost.
    """
    lengths = [length for length in DIMENSIONS if 2 * length <= vectors.width]
    if len(vectors) < 2 * SAMPLE or not lengths:
        return vectors.joint(slice(None))
    rows = np.random.default_rng(0).choice(len(vectors), 2 * SAMPLE, replace=False)
    directions = np.linalg.svd(vectors.joint(np.sort(rows[:SAMPLE])), full_matrices=False)[2]
    tried = vectors.joint(np.sort(rows[SAMPLE:]))
    width = vectors.width
    costs = {width: float(width)}
    for length in lengths:
        short = sketch(tried, directions[:length])
        left = np.count_nonzero(np.triu(short @ short.T >= threshold, 1)) / (SAMPLE * (SAMPLE - 1) / 2)
        costs[length] = length + _SCAN + left * _RESCORE * width
    best = min(costs, key=lambda length: costs[length])
    if best == width:
        return vectors.joint(slice(None))
    chunks = range(0, len(vectors), CHUNK)
    return np.concatenate([sketch(vectors.joint(slice(start, start + CHUNK)), directions[:best]) for start in chunks])


def sketch(vectors: FloatArray, directions: FloatArray) -> FloatArray:
    """Return the sketches of unit vectors.

    Args:
        vectors: Of length 1, float32 [n, D].
        directions: Orthonormal rows, float32 [d, D].

    Returns:
        float32 [n, d + 1].
    """
    inside = vectors @ directions.T
    squared: npt.NDArray[np.float32] = np.einsum("nd,nd->n", inside, inside)
    # What is left out is never taken to be less than it is. More for all alike brings no two sketches farther apart.
    outside = np.sqrt(np.maximum(1 - squared, 0) + np.float32(SLACK))
    return np.concatenate([inside, outside[:, None]], axis=1)
