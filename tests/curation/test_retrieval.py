from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import pytest

from tutelage.curation.crops import CROPS, Cutting
from tutelage.curation.embeddings import Embeddings
from tutelage.curation.neighbors import FloatArray, Neighbors, nearest
from tutelage.curation.provenance import best_similarity, provenance
from tutelage.curation.retrieval import Retrieval, Retrieved
from tutelage.curation.strategies import STRATEGIES
from tutelage.data.samples import IntArray
from tutelage.errors import RecipeError

GALLERY, QUERIES, WIDTH = 120, 4, 5


class Items:
    """A gallery of unit vectors at hand, two encoders, three crops an image if asked for."""

    def __init__(self, crops: int = 1) -> None:
        rng = np.random.default_rng(0)
        self.cutting = Cutting(CROPS if crops > 1 else None, crops)
        self.of = [unit(rng.normal(size=(GALLERY, WIDTH))) for _ in range(2)]

    def __len__(self) -> int:
        return GALLERY

    def take(self, rows: IntArray, encoder: int = 0) -> Any:
        return self.of[encoder][rows]

    def images(self, rows: IntArray) -> IntArray:
        return rows // self.cutting.count


def unit(values: Any) -> FloatArray:
    found: FloatArray = (values / np.linalg.norm(values, axis=1, keepdims=True)).astype(np.float32)
    return found


def asked() -> list[FloatArray]:
    rng = np.random.default_rng(1)
    return [unit(rng.normal(size=(QUERIES, WIDTH))) for _ in range(2)]


def similarity(items: Items) -> FloatArray:
    found: FloatArray = (sum(q @ v.T for q, v in zip(asked(), items.of, strict=True)) / 2).astype(np.float32)
    return found


class Searching:
    """Searches, and keeps how deep."""

    def __init__(self) -> None:
        self.depths: list[int] = []

    def __call__(self, queries: Sequence[FloatArray], items: Embeddings, k: int) -> Neighbors:
        self.depths.append(k)
        return nearest(similarity(cast("Items", items)), k)


def nothing(images: IntArray) -> IntArray:
    return images[:0]


def retrieval(items: Items, search: Searching, strategy: str = "query-balanced", dirty: Any = nothing) -> Retrieval:
    queries = [] if STRATEGIES[strategy].queries == "nothing" else asked()
    return Retrieval(cast("Embeddings", items), STRATEGIES[strategy], queries, search=search, dirty=dirty, seed=0)


@pytest.mark.parametrize("crops", [1, 3])
@pytest.mark.parametrize("strategy", ["best-matches", "query-balanced"])
def test_selecting_from_as_few_neighbors_as_will_do_is_selecting_from_all(strategy: str, crops: int) -> None:
    items, search = Items(crops), Searching()
    found = retrieval(items, search, strategy).select(30).selection
    made = retrieval(items, Searching(), strategy)
    made._neighbors = nearest(similarity(items), GALLERY)
    assert found.rows.tolist() == made.select(30).selection.rows.tolist()
    assert max(search.depths) < GALLERY


def test_where_queries_have_all_in_common_the_search_goes_deeper() -> None:
    items, search = Items(), Searching()

    def most(images: IntArray) -> IntArray:
        return images[1:]

    with pytest.raises(RecipeError):
        retrieval(items, search, dirty=most).select(4)
    assert search.depths[0] < search.depths[-1] == GALLERY


def test_smaller_selections_need_no_other_search() -> None:
    search = Searching()
    made = retrieval(Items(), search)
    larger, smaller = made.select(40).selection.rows, made.select(10).selection.rows
    assert len(search.depths) == 1
    assert set(smaller.tolist()) <= set(larger.tolist())


def test_a_strategy_without_queries_searches_nothing() -> None:
    search = Searching()
    assert len(retrieval(Items(), search, "random").select(10).selection.rows) == 10
    assert search.depths == []


@pytest.fixture(params=[1, 3])
def found(request: pytest.FixtureRequest) -> tuple[Items, Retrieved]:
    items = Items(request.param)
    return items, retrieval(items, Searching(), dirty=lambda images: images[images % 7 == 0]).select(25)


def test_each_item_is_told_the_query_that_it_is_nearest_to(found: tuple[Items, Retrieved]) -> None:
    items, retrieved = found
    why = provenance(retrieved, cast("Embeddings", items), asked(), 2)
    every = similarity(items)[:, retrieved.selection.rows]
    assert why.query.tolist() == every.argmax(axis=0).tolist()
    np.testing.assert_allclose(why.similarity, every.max(axis=0), atol=1e-6)
    np.testing.assert_allclose(why.of_encoders.mean(axis=0), why.similarity, atol=1e-6)


def test_the_rank_is_the_smallest_among_what_may_be_taken(found: tuple[Items, Retrieved]) -> None:
    items, retrieved = found
    why, every = provenance(retrieved, cast("Embeddings", items), asked(), 2), similarity(items)
    images = items.images(np.arange(GALLERY))
    for row, rank in zip(retrieved.selection.rows.tolist(), why.rank.tolist(), strict=True):
        ranks = []
        for query in range(QUERIES):
            order = [each for each in np.argsort(-every[query]).tolist() if images[each] % 7]
            firsts = list(dict.fromkeys(images[each] for each in order))
            best = next(each for each in order if images[each] == images[row])
            ranks += [firsts.index(images[row])] if best == row else []
        assert rank == min(ranks)


def test_ranks_are_below_k(found: tuple[Items, Retrieved]) -> None:
    items, retrieved = found
    assert retrieved.selection.k is not None
    assert provenance(retrieved, cast("Embeddings", items), asked(), 2).rank.max() < retrieved.selection.k


def test_items_that_no_query_asked_for_have_no_reason() -> None:
    items = Items()
    retrieved = retrieval(items, Searching(), "random").select(5)
    why = provenance(retrieved, cast("Embeddings", items), [], 2)
    assert (why.rank == -1).all()
    assert (why.query == -1).all()
    assert np.isnan(why.similarity).all()
    assert why.of_encoders.shape == (2, 5)


def test_the_best_similarity_is_to_the_nearest_query() -> None:
    items, rows = Items(), np.array([5, 7, 100])
    found = best_similarity(cast("Embeddings", items), rows, asked())
    np.testing.assert_allclose(found, similarity(items)[:, rows].max(axis=0), atol=1e-6)
