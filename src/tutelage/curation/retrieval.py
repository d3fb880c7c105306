"""Retrieving from an embedded gallery: searching as deep as selecting exactly N clean items takes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tutelage.curation.cleaning import SPARE, select_clean
from tutelage.curation.embeddings import Embeddings
from tutelage.curation.neighbors import FloatArray, Neighbors, SearchDepthError
from tutelage.curation.strategies import Candidates, Selection, Strategy
from tutelage.data.samples import IntArray

DEEPER = 4
"""How many times deeper the next search is where one was not deep enough: searching deeper costs little more."""

Search = Callable[[Sequence[FloatArray], Embeddings, int], Neighbors]
"""Finds the k nearest items of each query."""


@dataclass(frozen=True)
class Retrieved:
    """What was retrieved.

    Attributes:
        selection: Items, most relevant first.
        candidates: All that could be selected from: neighbors, and what was excluded.
    """

    selection: Selection
    candidates: Candidates


class Retrieval:
    """Selects any number of items; what searching and cleaning found for one serves the others.

    Args:
        items: Of the gallery.
        strategy: How they are selected.
        queries: Unit vectors of each encoder, float32 [Q, D_e]; empty where there are none.
        search: Finds neighbors.
        dirty: Says which images must not be taken (see :func:`tutelage.curation.cleaning.select_clean`).
        seed: Of the strategy. With the same seed smaller selections are parts of larger ones, but for what cleaning
            moves.
    """

    def __init__(
        self,
        items: Embeddings,
        strategy: Strategy,
        queries: Sequence[FloatArray],
        *,
        search: Search,
        dirty: Callable[[IntArray], IntArray],
        seed: int,
    ) -> None:
        self._items = items
        self._strategy = strategy
        self._queries = queries
        self._search = search
        self._dirty = dirty
        self._seed = seed
        self._neighbors: Neighbors | None = None

    def select(self, size: int) -> Retrieved:
        """Return exactly ``size`` items of which none is dirty.

        Raises:
            RecipeError: The gallery has too few, or there are more queries.
        """
        depth = self._first_depth(size)
        while True:
            candidates = self._candidates(depth)
            try:
                select = self._strategy.select
                return Retrieved(*select_clean(select, candidates, size, seed=self._seed, dirty=self._dirty))
            except SearchDepthError as error:
                depth = DEEPER * max(depth, error.depth)

    def _first_depth(self, size: int) -> int:
        """Return how many neighbors of each query will do, as a rule: queries have many of them in common."""
        queries = len(self._queries[0]) if self._queries else 1
        return 2 * math.ceil((1 + SPARE) * size / queries) * self._items.cutting.count

    def _candidates(self, depth: int) -> Candidates:
        if self._queries:
            depth = min(depth, len(self._items))
            if self._neighbors is None or self._neighbors.depth < depth:
                self._neighbors = self._search(self._queries, self._items, depth)
        return Candidates(len(self._items), self._neighbors, self._items.cutting.count)
