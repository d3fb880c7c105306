"""Why items were retrieved: the query that each is nearest to, how similar it is, and its rank."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tutelage.curation.embeddings import Embeddings
from tutelage.curation.neighbors import FloatArray
from tutelage.curation.retrieval import Retrieved
from tutelage.curation.strategies import entries
from tutelage.data.samples import IntArray

CHUNK = 4096
"""Items whose vectors are read at a time."""


@dataclass(frozen=True)
class Provenance:
    """Why each of some items was retrieved; of items that no query asked for, nothing is known.

    Attributes:
        rank: Smallest among the neighbors of any query, from 0; -1 where there is none, int64 [N].
        query: The nearest one; -1 where there is none, int64 [N].
        similarity: To it, the mean over encoders; not a number where there is none, float32 [N].
        of_encoders: To it, of each encoder, float32 [E, N].
    """

    rank: IntArray
    query: IntArray
    similarity: FloatArray
    of_encoders: FloatArray


def provenance(found: Retrieved, items: Embeddings, queries: Sequence[FloatArray], encoders: int) -> Provenance:
    """Return why items were retrieved.

    Args:
        found: The items, with the neighbors that they were selected from.
        items: The gallery.
        queries: Unit vectors of each encoder, float32 [Q, D_e]; empty where there are none.
        encoders: How many there are.
    """
    rows = found.selection.rows
    nothing = np.full(len(rows), np.nan, np.float32)
    none = np.full(len(rows), -1, np.int64)
    if found.candidates.neighbors is None:
        return Provenance(none, none, nothing, np.stack([nothing] * encoders))
    known = entries(found.candidates, found.candidates.neighbors)
    own = np.flatnonzero(np.isin(known.row, rows))
    row, rank, query, similarity = known.row[own], known.rank[own], known.query[own], known.similarity[own]
    nearest = np.lexsort((query, -similarity, row))
    nearest = nearest[np.unique(row[nearest], return_index=True)[1]]
    first = np.lexsort((rank, row))
    first = first[np.unique(row[first], return_index=True)[1]]
    place = np.searchsorted(row[nearest], rows)
    asked = query[nearest][place]
    return Provenance(
        rank[first][place],
        asked,
        similarity[nearest][place],
        np.stack([_similarities(items, rows, queries[number], asked, number) for number in range(encoders)]),
    )


def best_similarity(items: Embeddings, rows: IntArray, queries: Sequence[FloatArray]) -> FloatArray:
    """Return how similar some items are to the query that each is nearest to, float32 [n]."""
    mean = np.zeros((len(rows), len(queries[0])), np.float32)
    for encoder, asked in enumerate(queries):
        mean += items.take(rows, encoder).astype(np.float32) @ asked.T
    best: FloatArray = mean.max(axis=1, initial=-1.0) / np.float32(len(queries))
    return best


def _similarities(
    items: Embeddings, rows: IntArray, queries: FloatArray, asked: IntArray, encoder: int
) -> FloatArray:
    found = np.empty(len(rows), np.float32)
    for start in range(0, len(rows), CHUNK):
        part = slice(start, start + CHUNK)
        own = items.take(rows[part], encoder).astype(np.float32)
        found[part] = np.einsum("nd,nd->n", own, queries[asked[part]])
    return found
