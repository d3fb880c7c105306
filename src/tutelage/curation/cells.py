"""Cells of near points, and which points of one cell can be near to any of another: most pairs need no product."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from tutelage.curation.neighbors import FloatArray
from tutelage.data.samples import IntArray

BoolArray = npt.NDArray[np.bool_]

POINTS, MOST, ROUNDS = 768, 512, 4
"""Points a cell on average; cells at most; rounds of k-means."""

SAMPLE = 64
"""Points a cell that centers are found by."""

SLACK = 1e-4
"""What rounding may do to the difference of two squared distances between vectors that are about as long as 1."""


def near_pairs(points: FloatArray, distance: float) -> Iterator[tuple[IntArray, IntArray]]:
    r"""Yield pairs of groups of points such that any two points within a distance are in one of the pairs.

    Points belong to the nearest center. A point a of cell i and a point b of cell j lie on different sides of the
    plane between the centers, so the distance of a to this plane,

    .. math:: \frac{\lVert a - c_j \rVert^2 - \lVert a - c_i \rVert^2}{2 \lVert c_i - c_j \rVert},

    is at most that of a to b. Only the points of both cells whose distance to the plane is small enough are yielded.

    Args:
        points: About as long as 1, float32 [N, d].
        distance: Up to which pairs are not to be missed.

    Yields:
        Two arrays of different rows, or twice the very same array, whose pairs are those within it.
    """
    count = min(MOST, max(1, len(points) // POINTS))
    centers = _centers(points, count)
    cell = _nearest(points, centers)
    members = np.split(np.argsort(cell, kind="stable"), np.cumsum(np.bincount(cell, minlength=count))[:-1])
    reaches = [reach(points[rows], centers, here, distance) for here, rows in enumerate(members)]
    for here, rows in enumerate(members):
        yield rows, rows
        for there in range(here + 1, count):
            first, second = rows[reaches[here][:, there]], members[there][reaches[there][:, here]]
            if len(first) and len(second):
                yield first, second


def reach(points: FloatArray, centers: FloatArray, own: int, distance: float) -> BoolArray:
    """Return which cells points can have a neighbor in.

    Args:
        points: Of one cell, float32 [n, d].
        centers: Of all cells, float32 [K, d].
        own: The points' cell.
        distance: To the neighbor, at most.

    Returns:
        bool [n, K].
    """
    squared = _squared(points, centers)
    apart = np.sqrt(np.maximum(_squared(centers[own : own + 1], centers), 0))
    found: BoolArray = squared - squared[:, own, None] <= 2 * distance * apart + SLACK
    return found


def _centers(points: FloatArray, count: int) -> FloatArray:
    rng = np.random.default_rng(0)
    sample = points[np.sort(rng.choice(len(points), min(len(points), SAMPLE * count), replace=False))]
    centers = sample[rng.choice(len(sample), count, replace=False)]
    for _ in range(ROUNDS):
        cell = _nearest(sample, centers)
        order, sizes = np.argsort(cell, kind="stable"), np.bincount(cell, minlength=count)
        filled = np.flatnonzero(sizes)
        sums = np.add.reduceat(sample[order], np.cumsum(sizes)[filled] - sizes[filled], axis=0)
        centers[filled] = sums / sizes[filled, None]
    return centers


def _nearest(points: FloatArray, centers: FloatArray) -> IntArray:
    chunks = [points[start : start + 4096] for start in range(0, len(points), 4096)]
    return np.concatenate([_squared(chunk, centers).argmin(axis=1) for chunk in chunks])


def _squared(points: FloatArray, centers: FloatArray) -> FloatArray:
    lengths = np.einsum("nd,nd->n", points, points)[:, None] + np.einsum("kd,kd->k", centers, centers)
    squared: FloatArray = lengths - 2 * points @ centers.T
    return squared
