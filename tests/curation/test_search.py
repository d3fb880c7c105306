from __future__ import annotations

import tracemalloc
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import pytest
import torch

from tutelage.curation import search as module
from tutelage.curation.neighbors import Neighbors
from tutelage.curation.search import Vectors, merged, search
from tutelage.errors import DataError

WIDTH = 24


@pytest.fixture(params=["float32", "bfloat16"])
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(module, "_product_type", lambda: getattr(torch, request.param))
    return str(request.param)


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"FIRST": 4, "BLOCK": 32, "TILE": 8, "CHUNK": 5, "PAIRS": 7}.items():
        monkeypatch.setattr(module, name, value)


def unit(count: int, seed: int, *, width: int = WIDTH, shared: float = 0.0) -> npt.NDArray[np.float32]:
    values = np.random.default_rng(seed).normal(size=(count, width)) + shared
    found: npt.NDArray[np.float32] = (values / np.linalg.norm(values, axis=1, keepdims=True)).astype(np.float32)
    return found


def halves(count: int, seed: int, **options: float) -> npt.NDArray[np.float16]:
    return unit(count, seed, **options).astype(np.float16)  # type: ignore[arg-type]


def brute(queries: Sequence[Vectors], gallery: Sequence[Sequence[Vectors]], k: int) -> Neighbors:
    """Every pair in float64, sorted by similarity and then by row."""
    pairs = zip(queries, gallery, strict=True)
    each = [query.astype(np.float64) @ np.concatenate(shards).astype(np.float64).T for query, shards in pairs]
    similarity = np.mean(each, axis=0).astype(np.float32)
    rows = np.broadcast_to(np.arange(similarity.shape[1]), similarity.shape)
    order = np.lexsort((rows, -similarity), axis=1)[:, :k]
    return Neighbors(order, np.take_along_axis(similarity, order, 1))


def same(found: Neighbors, expected: Neighbors) -> None:
    np.testing.assert_array_equal(found.rows, expected.rows)
    np.testing.assert_array_equal(found.similarity, expected.similarity)


def cut(values: Vectors, *edges: int) -> list[Vectors]:
    return np.split(values, edges)


@pytest.mark.parametrize("shared", [0.0, 3.0])
def test_neighbors_are_those_of_brute_force(kind: str, shared: float) -> None:
    queries, gallery = unit(19, 0, shared=shared), cut(halves(500, 1, shared=shared), 3, 170, 171, 400)
    same(search([queries], [gallery], 10), brute([queries], [gallery], 10))


def test_similarities_of_several_encoders_are_averaged(kind: str) -> None:
    queries = [unit(5, 0), unit(5, 1, width=9)]
    gallery = [cut(halves(200, 2), 60), cut(halves(200, 3, width=9), 60)]
    same(search(queries, gallery, 7), brute(queries, gallery, 7))


def test_items_nearer_to_each_other_than_bfloat16_tells_are_ranked_exactly(kind: str) -> None:
    """All lie around one direction; bfloat16 rounds most of what tells them apart away."""
    around = unit(1, 0)
    values = around + 2e-3 * unit(800, 1)
    gallery = (values / np.linalg.norm(values, axis=1, keepdims=True)).astype(np.float16)
    same(search([around], [[gallery]], 5), brute([around], [[gallery]], 5))


def test_ties_are_in_the_order_of_their_rows(kind: str) -> None:
    some = halves(10, 1)
    gallery = np.concatenate([some] * 20)
    found = search([some[:3].astype(np.float32)], [cut(gallery, 33)], 15)
    expected = [[row + 10 * copy for copy in range(15)] for row in range(3)]
    np.testing.assert_array_equal(found.rows, expected)


@pytest.mark.parametrize("order", ["nearest first", "nearest last"])
def test_galleries_may_be_in_any_order(kind: str, order: str) -> None:
    query, gallery = unit(1, 0), halves(300, 1)
    ranked = np.argsort(gallery.astype(np.float64) @ query[0])
    gallery = gallery[ranked if order == "nearest last" else ranked[::-1]]
    same(search([query], [[gallery]], 20), brute([query], [[gallery]], 20))


def test_a_gallery_with_fewer_items_is_found_whole(kind: str) -> None:
    queries, gallery = unit(3, 0), [halves(6, 1)]
    found = search([queries], [gallery], 50)
    assert found.rows.shape == (3, 6)
    same(found, brute([queries], [gallery], 50))


def test_more_neighbors_than_a_block_holds_are_found(kind: str) -> None:
    queries, gallery = unit(3, 0), [halves(400, 1)]
    same(search([queries], [gallery], 150), brute([queries], [gallery], 150))


def test_shards_of_one_item_are_shards(kind: str) -> None:
    queries, gallery = unit(4, 0), cut(halves(40, 1), *range(1, 40))
    same(search([queries], [gallery], 6), brute([queries], [gallery], 6))


def test_empty_shards_hold_nothing() -> None:
    queries, items = unit(4, 0), halves(40, 1)
    gallery = [items[:0], items, items[:0]]
    same(search([queries], [gallery], 6), brute([queries], [gallery], 6))
    assert search([queries], [[items[:0]]], 6).rows.shape == (4, 0)


def test_shards_searched_alone_merge_into_the_gallerys_neighbors() -> None:
    queries, shards = unit(9, 0), cut(np.concatenate([halves(100, 1)] * 3), 7, 150)
    starts = np.cumsum([0, *(len(shard) for shard in shards[:-1])])
    parts = [search([queries], [[shard]], 12, first=int(start)) for shard, start in zip(shards, starts, strict=True)]
    same(merged(parts[::-1], 12), search([queries], [shards], 12))


def test_one_query_of_a_real_width_is_searched_as_well(kind: str) -> None:
    query, gallery = unit(1, 0, width=768), [halves(300, 1, width=768)]
    same(search([query], [gallery], 9), brute([query], [gallery], 9))


def test_products_are_bounded_by_blocks_whatever_the_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[int, int]] = []
    add = module._Best.add

    def watched(self: module._Best, block: module._Block) -> None:
        seen.append((len(self._rows), len(block.narrow)))
        add(self, block)

    monkeypatch.setattr(module._Best, "add", watched)
    search([unit(20, 0)], [[halves(1000, 1)]], 3)
    assert max(queries for queries, _ in seen) == 8
    assert max(items for _, items in seen) == 32


class Opened(Sequence[Vectors]):
    """Shards made when they are asked for."""

    def __init__(self, count: int) -> None:
        self._count = count

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, number: int) -> Vectors:  # type: ignore[override]
        if number >= self._count:
            raise IndexError(number)
        return halves(200, number)

    def __iter__(self) -> Iterator[Vectors]:
        return (self[number] for number in range(self._count))


def test_memory_does_not_grow_with_the_gallery() -> None:
    def peak(shards: int) -> int:
        tracemalloc.start()
        search([unit(4, 0)], [Opened(shards)], 3)
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    peak(1)
    assert peak(20) < 1.5 * peak(4)


@pytest.mark.parametrize(("value", "told"), [(np.nan, "length nan"), (2.0, "length 9.798")])
def test_vectors_that_are_not_unit_are_refused(value: float, told: str) -> None:
    items = halves(50, 1)
    items[37] = value
    with pytest.raises(DataError, match=f"gallery, encoder 0, row 37: {told}"):
        search([unit(2, 0)], [cut(items, 20)], 3)
    with pytest.raises(DataError, match="queries, encoder 0, row 1"):
        search([items[36:38].astype(np.float32)], [[halves(50, 1)]], 3)


def test_encoders_must_hold_the_same_items() -> None:
    queries = [unit(2, 0), unit(2, 1)]
    with pytest.raises(DataError, match="same items"):
        search(queries, [[halves(50, 1)], [halves(49, 1)]], 3)
    with pytest.raises(DataError, match=r"\[1, 2\] shards"):
        search(queries, [[halves(50, 1)], cut(halves(50, 1), 20)], 3)
    with pytest.raises(DataError, match="1 encoders and a gallery of 2"):
        search(queries[:1], [[halves(50, 1)], [halves(50, 1)]], 3)
    with pytest.raises(DataError, match=r"\[2, 1\] queries"):
        search([queries[0], queries[1][:1]], [[halves(50, 1)], [halves(50, 1)]], 3)


def test_no_neighbors_cannot_be_asked_for() -> None:
    with pytest.raises(DataError, match="at least 1"):
        search([unit(2, 0)], [[halves(5, 1)]], 0)
