"""Leaks: retrieved images that may be images of the task (Vemulapalli et al., ICML 2024, appendix B.4)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tutelage.curation.neighbors import FloatArray, nearest
from tutelage.curation.unit_vectors import UnitVectors, unit_vectors
from tutelage.data.samples import IntArray
from tutelage.errors import DataError, RecipeError


@dataclass(frozen=True)
class Suspects:
    """Retrieved images that are very like images of the task, each with those.

    Attributes:
        rows: Of the retrieved images, rising, int64 [S].
        nearest: Rows of the nearest images of the task, nearest first, int64 [S, n].
        similarity: To those: the largest cosine similarity over the encoders, float32 [S, n].
    """

    rows: IntArray
    nearest: IntArray
    similarity: FloatArray


def suspects(
    retrieved: Sequence[npt.NDArray[Any]],
    task: Sequence[npt.NDArray[Any]],
    thresholds: Sequence[float],
    *,
    count: int = 5,
    block: int = 2048,
) -> Suspects:
    """Return the retrieved images that may be images of the task.

    Suspect is what any encoder finds more similar than its threshold to any image of the task. Where all thresholds
    are the same, the nearest images of the task are those with the largest similarity over the encoders; else each
    encoder's distances, 1 - similarity, count in units of the one at its threshold.

    Args:
        retrieved: Original images: one array an encoder, floating-point [R, D_e]. Exact copies are found as well.
        task: All images of the task, of training, validation and test, by the same encoders, floating-point [T, D_e].
        thresholds: Of each encoder's cosine similarity, between 0 and 1.
        count: Nearest images of the task to return of each suspect; all if the task has fewer.
        block: Images that are compared with as many at a time, which bounds the memory.

    Raises:
        DataError: The embeddings cannot be used, or are not by the same encoders.
        RecipeError: There is not one threshold for each encoder, between 0 and 1.
    """
    found, known = unit_vectors(retrieved), unit_vectors(task)
    widths, others = ([int(each.shape[1]) for each in part] for part in (retrieved, task))
    if widths != others:
        raise DataError(
            f"retrieved images have embeddings of {widths} dimensions, those of the task of {others}; "
            "embed both with the same encoders"
        )
    if len(thresholds) != len(retrieved) or not all(0 < each < 1 for each in thresholds):
        raise RecipeError(
            f"expected one threshold of cosine similarity between 0 and 1 for each of {len(retrieved)} encoders, "
            f"got {list(thresholds)}"
        )
    limits = np.asarray(thresholds, dtype=np.float32)
    blocks = [_rows(start, block, len(known)) for start in range(0, len(known), block)]
    alarming = [np.empty(0, dtype=np.int64)]
    for start in range(0, len(found), block):
        rows = _rows(start, block, len(found))
        above = np.zeros(len(rows), dtype=bool)
        for columns in blocks:
            above |= (_similarities(found, rows, known, columns) > limits[:, None, None]).any(axis=(0, 2))
        alarming.append(rows[above])
    rows = np.concatenate(alarming)
    count = min(count, len(known))
    best = np.empty((len(rows), count), dtype=np.int64)
    similarity = np.empty((len(rows), count), dtype=np.float32)
    for start in range(0, len(rows), block):
        part = slice(start, start + block)
        best[part], similarity[part] = _nearest(found, rows[part], known, blocks, limits, count)
    return Suspects(rows, best, similarity)


def _nearest(
    found: UnitVectors, rows: IntArray, known: UnitVectors, blocks: Sequence[IntArray], limits: FloatArray, count: int
) -> tuple[IntArray, FloatArray]:
    best = np.empty((len(rows), 0), dtype=np.int64)
    similarity = closeness = np.empty((len(rows), 0), dtype=np.float32)
    for others in blocks:
        each = _similarities(found, rows, known, others)
        best = np.concatenate([best, np.broadcast_to(others, (len(rows), len(others)))], axis=1)
        similarity = np.concatenate([similarity, each.max(axis=0)], axis=1)
        closeness = np.concatenate([closeness, ((each - 1) / (1 - limits[:, None, None])).max(axis=0)], axis=1)
        # Ties go to the smaller column, and so to the smaller row, as blocks come in order.
        kept = nearest(closeness, count).rows
        best = np.take_along_axis(best, kept, axis=1)
        similarity = np.take_along_axis(similarity, kept, axis=1)
        closeness = np.take_along_axis(closeness, kept, axis=1)
    return best, similarity


def _similarities(found: UnitVectors, rows: IntArray, known: UnitVectors, others: IntArray) -> FloatArray:
    """Return each encoder's cosine similarities, float32 [encoders, n, m]."""
    encoders = range(len(found.features))
    return np.stack([found.of(each, rows) @ known.of(each, others).T for each in encoders])


def _rows(start: int, block: int, end: int) -> IntArray:
    return np.arange(start, min(start + block, end), dtype=np.int64)
