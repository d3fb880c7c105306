"""Exact nearest neighbors in galleries of any size, read once, in half precision, block by block.

Products in bfloat16, where the processor is fast at them, leave few items of a block that could be among a query's
best; these alone are computed exactly. What was rounded away is measured for every query and every block, so that no
neighbor is ever missed. Memory is that of queries times neighbors and of a few blocks.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from tutelage.curation.neighbors import Neighbors
from tutelage.data.prefetch import prefetched
from tutelage.errors import DataError

Vectors = npt.NDArray[np.floating[Any]]
Rows = npt.NDArray[np.int64]
Similarities = npt.NDArray[np.float32]

BLOCK = 8192
"""Most gallery items that are compared at a time."""

FIRST = 256
"""Items of the first block; blocks double from there, so that each finds the limits that the ones before it set."""

TILE = 1024
"""Queries that are compared with a block at a time."""

CHUNK = 128
"""Rows that are converted at a time: they stay in a core's cache."""

PAIRS = 256
"""Pairs that are computed exactly at a time."""

DENSE = 1 / 16
"""From this share of a block's pairs on, all of them are computed exactly: one product is faster than many."""

PARTS = 4
"""Columns that carry a query's limit: of three parts each has 8 more bits in bfloat16; the fourth is 0."""

UNIT = 0.01
"""How much the length of a vector may differ from 1: half precision loses far less."""

_NOTHING = np.iinfo(np.int64).max


@dataclass(frozen=True)
class _Block:
    """Some items of the gallery.

    Attributes:
        start: Row of the first.
        values: Their vectors as stored, [n, D_e] for each encoder.
        narrow: All of an item's vectors, rounded, and ones for the limits: [n, D + PARTS].
        length: Largest length of an item.
        lost: Largest length of what rounding took from an item.
    """

    start: int
    values: tuple[Vectors, ...]
    narrow: Tensor
    length: float
    lost: float

    def wide(self, rows: Rows) -> Tensor:
        """Return the vectors of some items, float32 [m, D]."""
        parts = [torch.from_numpy(np.take(each, rows, axis=0)).float() for each in self.values]
        return parts[0] if len(parts) == 1 else torch.cat(parts, 1)


def search(queries: Sequence[Vectors], gallery: Sequence[Sequence[Vectors]], k: int, *, first: int = 0) -> Neighbors:
    """Find the nearest items of a gallery for each query.

    A similarity is the mean of the encoders' cosine similarities, of the vectors as they are given, in float64,
    rounded to float32. Equal ones are in the order of their rows. The same for one shard alone gives its neighbors,
    and :func:`merged` makes the gallery's of those.

    Args:
        queries: Unit vectors of each encoder, float32 [Q, D_e].
        gallery: Shards of each encoder, unit vectors, float16 [n, D_e]; an item has the same row for all encoders.
            Shards may be mapped, or opened when they are asked for: each is taken once, in order, and let go.
        k: How many neighbors; all items where there are no more.
        first: The row that the gallery's first item has in a larger one.

    Raises:
        DataError: A vector is not finite or not of length 1, encoders differ in shards or widths, or k is not
            positive.
    """
    if k < 1:
        raise DataError(f"search: there are no {k} nearest neighbors; ask for at least 1")
    if not queries or len(queries) != len(gallery):
        raise DataError(f"search: queries of {len(queries)} encoders and a gallery of {len(gallery)}; give the same")
    if len({len(each) for each in queries}) > 1:
        raise DataError(f"search: encoders have {[len(each) for each in queries]} queries; embed the same with all")
    joined = torch.from_numpy(np.concatenate([np.asarray(each, np.float32) for each in queries], axis=1))
    kind = _product_type()
    best = [
        _Best(joined[start : start + TILE], [each[start : start + TILE] for each in queries], k, kind)
        for start in range(0, len(joined), TILE)
    ]
    count = 0
    with closing(prefetched(_blocks(gallery, [each.shape[1] for each in queries], kind))) as blocks:
        for block in blocks:
            count = block.start + len(block.narrow)
            for tile in best:
                tile.add(block)
    found = [tile.found() for tile in best]
    kept = min(k, count)
    rows = np.concatenate([rows[:, :kept] for rows, _ in found]) if found else np.empty((0, kept), np.int64)
    similarity = np.concatenate([each[:, :kept] for _, each in found]) if found else np.empty((0, kept), np.float32)
    return Neighbors(rows + first, similarity)


def merged(parts: Sequence[Neighbors], k: int) -> Neighbors:
    """Return the k nearest of what was found in parts of a gallery.

    Args:
        parts: Neighbors of the same queries, in rows of the whole gallery.
        k: How many; all where there are no more.
    """
    rows = np.concatenate([part.rows for part in parts], axis=1)
    similarity = np.concatenate([part.similarity for part in parts], axis=1)
    order = np.lexsort((rows, -similarity), axis=1)[:, :k]
    return Neighbors(np.take_along_axis(rows, order, 1), np.take_along_axis(similarity, order, 1))


class _Best:
    """The best items so far of some queries.

    Args:
        queries: All vectors of each, float32 [q, D].
        parts: The same, of each encoder.
        k: How many are kept.
        kind: What products are computed in.
    """

    def __init__(self, queries: Tensor, parts: Sequence[Vectors], k: int, kind: torch.dtype) -> None:
        _check_lengths([np.linalg.norm(part, axis=1) for part in parts], "queries", 0)
        self._encoders, self._k = len(parts), k
        self._queries = queries
        mean = queries.double() / self._encoders
        self._narrow = torch.zeros(len(queries), queries.shape[1] + PARTS, dtype=kind)
        self._narrow[:, :-PARTS] = mean
        rounded = self._narrow[:, :-PARTS].double()
        self._length = torch.linalg.vector_norm(rounded, dim=1)
        self._lost = torch.linalg.vector_norm(mean - rounded, dim=1)
        self._similarity = torch.full((len(queries), k), -torch.inf)
        self._rows = torch.full((len(queries), k), _NOTHING)
        self._pending: list[tuple[Rows, Rows, Similarities]] = []
        self._waiting = 0

    def add(self, block: _Block) -> None:
        """Compare the queries with a block."""
        self._limit(block)
        scores = self._narrow @ block.narrow.T
        # Where the rounded product is above the limit, the sign is not set: rounding a sum keeps its sign.
        bits = scores.view(torch.int16 if scores.dtype == torch.bfloat16 else torch.int32).numpy()
        places = np.flatnonzero(bits >= 0)
        if len(places) > DENSE * bits.size:
            self._add_all(block)
        elif len(places):
            which, items = np.divmod(places, bits.shape[1])
            similarity = self._exact(which, items, block)
            near = similarity > self._similarity[:, -1].numpy()[which]
            self._keep(which[near], items[near] + block.start, similarity[near])
        if self._waiting > len(self._rows) * self._k // 4:
            self._merge()

    def found(self) -> tuple[Rows, Similarities]:
        """Return rows and similarities, the best first."""
        self._merge()
        return self._rows.numpy(), self._similarity.numpy()

    def _limit(self, block: _Block) -> None:
        """Put into the product what it must reach: a query's k-th best, less all that rounding may have taken.

        With q = q' + dq and g = g' + dg, q·g - q'·g' = dq·g + q'·dg, at most |dq||g| + |q'||dg|. A sum of n products
        in float32 loses at most n·2⁻²³ of what the lengths allow, however it is rounded and in whatever order.
        """
        limit = self._similarity[:, -1].double().clamp(min=-2.0)
        rounding = block.narrow.shape[1] * 2.0**-23 * (self._length * (block.length + block.lost) + 3.0)
        margin = self._lost * block.length + self._length * block.lost + rounding + 2.0**-20
        rest = margin - limit
        for part in range(PARTS - 1):
            self._narrow[:, part - PARTS] = rest
            rest = rest - self._narrow[:, part - PARTS].double()

    def _exact(self, which: Rows, items: Rows, block: _Block) -> Similarities:
        """Return the similarities of pairs of queries and a block's items."""
        found = torch.empty(len(which))
        for start in range(0, len(which), PAIRS):
            part = slice(start, start + PAIRS)
            products = self._queries[torch.from_numpy(which[part])].double().mul_(block.wide(items[part]))
            found[part] = products.sum(1) / self._encoders
        return found.numpy()

    def _add_all(self, block: _Block) -> None:
        limit = self._similarity[:, -1:]
        wide = self._queries.double()
        for start in range(0, len(block.narrow), PAIRS):
            similarity = (
                wide @ block.wide(np.arange(start, min(start + PAIRS, len(block.narrow)))).double().T / self._encoders
            ).float()
            which, items = (each.numpy() for each in torch.nonzero(similarity > limit, as_tuple=True))
            self._keep(which, items + (block.start + start), similarity.numpy()[which, items])

    def _keep(self, which: Rows, rows: Rows, similarity: Similarities) -> None:
        self._pending.append((which, rows, similarity))
        self._waiting += len(which)

    def _merge(self) -> None:
        """Take what waits among the best. It lies behind them in the gallery, so a stable sort leaves ties right."""
        if not self._waiting:
            return
        which, rows, similarity = (np.concatenate(each) for each in zip(*self._pending, strict=True))
        self._pending, self._waiting = [], 0
        order = np.argsort(which, kind="stable")
        which, rows, similarity = which[order], rows[order], similarity[order]
        queries, starts, counts = np.unique(which, return_index=True, return_counts=True)
        places = np.arange(len(which)) - np.repeat(starts, counts)
        more = torch.full((len(queries), int(counts.max())), -torch.inf)
        behind = torch.full(more.shape, _NOTHING)
        at = (torch.from_numpy(np.repeat(np.arange(len(queries)), counts)), torch.from_numpy(places))
        more[at], behind[at] = torch.from_numpy(similarity), torch.from_numpy(rows)
        touched = torch.from_numpy(queries)
        every = torch.cat([self._similarity[touched], more], 1)
        ranked, places_of = torch.sort(every, dim=1, descending=True, stable=True)
        self._similarity[touched] = ranked[:, : self._k]
        self._rows[touched] = torch.cat([self._rows[touched], behind], 1).gather(1, places_of[:, : self._k])


def _blocks(gallery: Sequence[Sequence[Vectors]], widths: Sequence[int], kind: torch.dtype) -> Iterator[_Block]:
    """Yield the gallery in blocks."""
    if len({len(shards) for shards in gallery}) > 1:
        raise DataError(f"search: encoders have {[len(each) for each in gallery]} shards; embed one gallery with all")
    row, most = 0, FIRST
    for number in range(len(gallery[0])):
        shard = tuple(shards[number] for shards in gallery)
        shapes = [each.shape for each in shard]
        if shapes != [(len(shard[0]), width) for width in widths]:
            raise DataError(
                f"search: shard {number} has {shapes}, and the queries have widths {list(widths)}; encoders must "
                "have the same items, and queries and gallery the same encoders"
            )
        start = 0
        while start < len(shard[0]):
            values = tuple(each[start : start + most] for each in shard)
            yield _block(row, values, kind)
            start, row, most = start + len(values[0]), row + len(values[0]), min(2 * most, BLOCK)


def _block(row: int, values: tuple[Vectors, ...], kind: torch.dtype) -> _Block:
    width = sum(each.shape[1] for each in values)
    narrow = torch.ones(len(values[0]), width + PARTS, dtype=kind)
    length = lost = 0.0
    for start in range(0, len(narrow), CHUNK):
        # Copied, since torch refuses what is mapped for reading alone.
        parts = [torch.from_numpy(np.array(each[start : start + CHUNK])).float() for each in values]
        lengths = [torch.linalg.vector_norm(part, dim=1) for part in parts]
        _check_lengths([each.numpy() for each in lengths], "gallery", row + start)
        wide = parts[0] if len(parts) == 1 else torch.cat(parts, 1)
        rounded = narrow[start : start + CHUNK, :width]
        rounded[:] = wide
        # A little more than float32 finds.
        length = max(length, 1.001 * float(torch.linalg.vector_norm(torch.stack(lengths), dim=0).max()))
        lost = max(lost, 1.001 * float(torch.linalg.vector_norm(wide.sub_(rounded), dim=1).max()))
    return _Block(row, values, narrow, length, lost)


def _check_lengths(lengths: Sequence[Vectors], what: str, first: int) -> None:
    for encoder, found in enumerate(lengths):
        wrong = ~((np.abs(found - 1.0) <= UNIT) | (found == 0.0))  # also where it is not a number
        if wrong.any():
            row = int(wrong.argmax())
            raise DataError(
                f"search: {what}, encoder {encoder}, row {first + row}: length {found[row]:.4g}; vectors must be "
                "finite, of length 1 (or 0)"
            )


def _product_type() -> torch.dtype:
    """Return bfloat16 where the processor multiplies it faster than float32, which else loses nothing."""
    fast = (
        getattr(torch.cpu, "_is_avx512_bf16_supported", bool)()
        or getattr(torch.cpu, "_is_amx_tile_supported", bool)()
    )
    return torch.bfloat16 if fast else torch.float32
