from __future__ import annotations

import math
import tracemalloc

import numpy as np
import pytest

from tutelage.curation import query_balanced, strategies
from tutelage.curation.neighbors import FloatArray, Neighbors, SearchDepthError, nearest
from tutelage.curation.strategies import STRATEGIES, Candidates, Select, balanced, best_matches, random_items
from tutelage.data.samples import IntArray
from tutelage.errors import DataError, RecipeError

CASES = range(60)


def drawn(case: int, crops: int = 1) -> tuple[FloatArray, int, IntArray]:
    """Return similarities of crops with many ties, a size, and excluded images."""
    rng = np.random.default_rng(case)
    queries, images = int(rng.integers(1, 7)), int(rng.integers(12, 40))
    levels = int(rng.choice([2, 5, 1000]))
    similarity = (rng.integers(0, levels, (queries, crops * images)) / levels).astype(np.float32)
    return similarity, int(rng.integers(queries, 9)), rng.choice(12, int(rng.integers(0, 4)), replace=False)


def whole(similarity: FloatArray) -> Neighbors:
    return nearest(similarity, similarity.shape[1])


def ranked(similarity: FloatArray, crops: int, excluded: set[int]) -> list[list[int]]:
    """Return, for each query, the images that count as neighbors in order."""
    lists = []
    for row in similarity:
        found: list[int] = []
        for item in sorted(range(len(row)), key=lambda item: (-float(row[item]), item)):
            if item // crops not in {*excluded, *found}:
                found.append(item // crops)
        lists.append(found)
    return lists


@pytest.mark.parametrize("crops", [1, 3])
def test_balanced_takes_the_smallest_union_and_drops_last_neighbors_one_query_after_another(crops: int) -> None:
    drops = 0
    for case in CASES:
        similarity, size, excluded = drawn(case, crops)
        found = balanced(Candidates(similarity.shape[1], whole(similarity), crops, excluded), size, seed=case)
        lists = ranked(similarity, crops, set(excluded.tolist()))
        unions = [{image for each in lists for image in each[:k]} for k in range(1, len(lists[0]) + 1)]
        k = next(k for k, union in enumerate(unions, 1) if len(union) >= size)
        held = [each[:k] for each in lists]
        for query in np.argsort(-np.random.default_rng(case).permutation(len(held))):
            if len({image for each in held for image in each}) == size:
                break
            held[query].pop()
            drops += 1
        assert found.k == k
        assert sorted((found.rows // crops).tolist()) == sorted({image for each in held for image in each})
    assert drops > 20


def test_balanced_lets_every_query_drop_its_last_neighbor_as_often() -> None:
    similarity = np.kron(np.eye(4), np.array([[1.0, 0.5]])).astype(np.float32)
    left = [balanced(Candidates(8, whole(similarity)), 7, seed=seed).rows.tolist() for seed in range(400)]
    missing = [({1, 3, 5, 7} - set(rows)).pop() for rows in left]
    assert all(60 < missing.count(row) < 140 for row in (1, 3, 5, 7))


@pytest.mark.parametrize("crops", [1, 3])
def test_best_matches_have_the_smallest_distances_to_any_query(crops: int) -> None:
    for case in CASES:
        similarity, size, excluded = drawn(case, crops)
        found = best_matches(Candidates(similarity.shape[1], whole(similarity), crops, excluded), size, seed=0)
        score = similarity.max(axis=0)
        expected: list[int] = []
        for item in sorted(range(len(score)), key=lambda item: (-float(score[item]), item)):
            if item // crops not in {*excluded.tolist(), *(row // crops for row in expected)}:
                expected.append(item)
        assert found.rows.tolist() == expected[:size]


@pytest.mark.parametrize("select", [balanced, best_matches])
def test_as_many_neighbors_as_are_deep_enough_select_as_all_do(select: Select) -> None:
    shallow = 0
    for case in CASES:
        similarity, size, excluded = drawn(case, crops=2)
        gallery = similarity.shape[1]
        expected = select(Candidates(gallery, whole(similarity), 2, excluded), size, seed=case)
        for depth in range(1, gallery):
            candidates = Candidates(gallery, nearest(similarity, depth), 2, excluded)
            try:
                found = select(candidates, size, seed=case)
            except SearchDepthError:
                shallow += 1
                continue
            assert found.rows.tolist() == expected.rows.tolist()
            assert found.k == expected.k
    assert shallow > len(CASES)


def test_too_few_neighbors_are_an_error_that_says_how_many_were_known() -> None:
    with pytest.raises(SearchDepthError, match="search deeper than the 2 nearest of 12 gallery items") as caught:
        balanced(Candidates(12, nearest(np.tile(np.arange(12.0), (3, 1)), 2)), 3, seed=0)
    assert caught.value.depth == 2


def test_best_matches_never_need_more_neighbors_than_items() -> None:
    for case in CASES:
        similarity, size, _ = drawn(case)
        found = best_matches(Candidates(similarity.shape[1], nearest(similarity, size)), size, seed=0)
        assert len(found.rows) == size


@pytest.mark.parametrize("name", STRATEGIES)
def test_every_strategy_selects_allowed_items_once_and_a_part_of_any_larger_selection(name: str) -> None:
    for case in CASES:
        similarity, size, excluded = drawn(case, crops=3)
        candidates = Candidates(similarity.shape[1], whole(similarity), 3, excluded)
        select = STRATEGIES[name].select
        fewer = max(size - 1, len(similarity))
        smaller, larger = (select(candidates, each, seed=case).rows for each in (fewer, size))
        assert set((smaller // 3).tolist()) <= set((larger // 3).tolist())
        assert len(set((larger // 3).tolist())) == size
        assert not set((larger // 3).tolist()) & set(excluded.tolist())
        assert larger.dtype == np.int64


@pytest.mark.parametrize("name", STRATEGIES)
def test_every_strategy_is_pure(name: str) -> None:
    similarity, size, excluded = drawn(5, crops=3)
    neighbors = whole(similarity)
    neighbors.rows.flags.writeable = neighbors.similarity.flags.writeable = False
    candidates = Candidates(similarity.shape[1], neighbors, 3, excluded)
    first, second = (STRATEGIES[name].select(candidates, size, seed=3).rows.tolist() for _ in range(2))
    assert first == second


def test_random_takes_every_image_and_every_crop_as_often() -> None:
    taken = [int(random_items(Candidates(12, crops=3), 1, seed=seed).rows[0]) for seed in range(1200)]
    assert all(60 < taken.count(row) < 140 for row in range(12))


@pytest.mark.parametrize("size", [1, 700, 1500, 2999, 3000])
def test_random_takes_each_image_once_whatever_share_of_the_gallery_it_takes(size: int) -> None:
    found = random_items(Candidates(3000), size, seed=0).rows
    assert len(set(found.tolist())) == size
    assert found.tolist() == random_items(Candidates(3000), 3000, seed=0).rows[:size].tolist()


def test_random_takes_every_order_as_often_where_what_was_drawn_last_is_shuffled(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(strategies, "DRAWN", 1)
    orders = [tuple(random_items(Candidates(4), 4, seed=seed).rows.tolist()) for seed in range(2400)]
    assert len(set(orders)) == 24
    assert all(60 < orders.count(order) < 140 for order in set(orders))


def test_random_holds_no_number_for_each_item() -> None:
    tracemalloc.start()
    random_items(Candidates(10**10), 100, seed=0)
    assert tracemalloc.get_traced_memory()[1] < 10**6
    tracemalloc.stop()


@pytest.mark.parametrize("name", STRATEGIES)
def test_more_than_the_gallery_has_is_an_error_that_says_how_many_there_are(name: str) -> None:
    similarity, _, _ = drawn(0, crops=3)
    candidates = Candidates(similarity.shape[1], whole(similarity), 3, np.array([3]))
    left = similarity.shape[1] // 3 - 1
    with pytest.raises(RecipeError, match=f"has {left} that may be taken; select {left} or fewer"):
        STRATEGIES[name].select(candidates, left + 1, seed=0)


def test_fewer_items_than_queries_cannot_be_balanced() -> None:
    with pytest.raises(RecipeError, match="select 3 or more, or use fewer queries"):
        query_balanced(np.ones((3, 9)), 2, seed=0)


def test_the_whole_gallery_can_be_selected() -> None:
    similarity, _, _ = drawn(1)
    assert sorted(query_balanced(similarity, similarity.shape[1], seed=0)) == list(range(similarity.shape[1]))


def test_dense_arrays_are_selected_from_like_neighbors() -> None:
    for case in CASES:
        similarity, size, _ = drawn(case)
        expected = balanced(Candidates(similarity.shape[1], whole(similarity)), size, seed=case).rows
        assert query_balanced(similarity.astype(np.float64), size, seed=case).tolist() == expected.tolist()


def test_dense_arrays_of_queries_that_are_all_alike_are_searched_deeper() -> None:
    similarity = np.tile(np.arange(50.0), (10, 1))
    assert query_balanced(similarity, 30, seed=0).tolist() == [*range(49, 19, -1)]


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_similarities_that_are_not_finite_are_refused(bad: float) -> None:
    similarity = np.zeros((2, 5))
    similarity[1, 3] = bad
    with pytest.raises(DataError, match="query 1"):
        query_balanced(similarity, 2, seed=0)


@pytest.mark.parametrize("shape", [(5,), (0, 5), (2, 0), (1, 2, 3), ()])
def test_other_shapes_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(DataError, match="queries, gallery"):
        query_balanced(np.zeros(shape), 1, seed=0)


def test_neighbors_are_in_order_and_ties_go_to_the_smaller_row() -> None:
    found = nearest(np.array([[0.5, 1.0, 0.5, 0.5, 1.0]], dtype=np.float32), 3)
    assert found.rows.tolist() == [[1, 4, 0]]
    assert found.similarity.tolist() == [[1.0, 1.0, 0.5]]
