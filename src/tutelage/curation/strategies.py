"""Ways to select a transfer set from a gallery (Vemulapalli et al., ICML 2024, section 3.4 and appendix B.5)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Literal, Protocol

import numpy as np

from tutelage.curation.neighbors import FloatArray, Neighbors, SearchDepthError
from tutelage.data.samples import IntArray
from tutelage.errors import RecipeError

DRAWN = 1024
"""Numbers that are drawn at a time, at least."""


class TooFewItemsError(RecipeError):
    """A gallery has fewer items that may be taken than are asked for.

    Attributes:
        available: How many it has, as far as they have been looked at.
    """

    def __init__(self, message: str, available: int) -> None:
        super().__init__(message)
        self.available = available


@dataclass(frozen=True)
class Candidates:
    """What a strategy selects from.

    Attributes:
        gallery: Items in the gallery.
        neighbors: Of the queries; ``None`` only where none are asked for.
        crops: Items of each image, which follow each other. An image is taken once at most, as its best crop: its
            crops count as one neighbor, as near as the nearest of them.
        excluded: Numbers of the images of which nothing may be taken: duplicates and leaks; each once.
    """

    gallery: int
    neighbors: Neighbors | None = None
    crops: int = 1
    excluded: IntArray | None = None

    def images(self, rows: IntArray) -> IntArray:
        """Return the numbers of the images that items were cut from."""
        return rows // self.crops

    def allowed(self, rows: IntArray) -> IntArray:
        """Return the rows of which nothing speaks against taking them, in their order."""
        if self.excluded is None or not len(self.excluded):
            return rows
        return rows[~np.isin(self.images(rows), self.excluded)]

    def without(self, images: IntArray) -> Candidates:
        """Return these without some more images."""
        before = np.empty(0, dtype=np.int64) if self.excluded is None else self.excluded
        return replace(self, excluded=np.union1d(before, images))

    def available(self) -> int:
        """Return how many items can be selected at most."""
        return self.gallery // self.crops - (0 if self.excluded is None else len(self.excluded))


@dataclass(frozen=True)
class Selection:
    """What a strategy has selected.

    Attributes:
        rows: Of the gallery, unique, int64 [N], most relevant first (of a random selection, in random order).
        k: Neighbors of each query that were looked at, of a balanced selection.
    """

    rows: IntArray
    k: int | None = None


class Select(Protocol):
    """Selects exactly ``size`` items, purely."""

    def __call__(self, candidates: Candidates, size: int, *, seed: int) -> Selection:
        """Return what is selected."""


@dataclass(frozen=True)
class Strategy:
    """A way to select.

    Attributes:
        summary: What it does, in one line.
        queries: What the gallery is compared with.
        select: The selection itself.
        balanced: Whether each query gets as much as the others, so that there must be no more of them than items.
        version: Of what it selects, all else being the same.
    """

    summary: str
    queries: Literal["nothing", "images", "texts"]
    select: Select
    balanced: bool = False
    version: int = 1


def random_items(candidates: Candidates, size: int, *, seed: int) -> Selection:
    """Select at random, each image as likely as any other, and each of its crops.

    With the same seed a smaller selection is the beginning of a larger one. Memory is that of the selection and of
    what is excluded, however large the gallery.

    Args:
        candidates: What to select from; no neighbors are read.
        size: Items to select.
        seed: Of the draw.

    Raises:
        RecipeError: There are fewer items.
    """
    _check_size(candidates, size)
    rng = np.random.default_rng(seed)
    found, count = list[IntArray](), 0
    for images in _in_random_order(candidates.gallery // candidates.crops, rng):
        found.append(candidates.allowed(images * candidates.crops + rng.integers(candidates.crops, size=len(images))))
        count += len(found[-1])
        if count >= size:
            break
    return Selection(np.concatenate(found)[:size])


def best_matches(candidates: Candidates, size: int, *, seed: int) -> Selection:
    """Select what is most similar to any one of the queries; ties by the smaller row.

    Args:
        candidates: What to select from.
        size: Items to select.
        seed: Not used: nothing is left to chance.

    Raises:
        RecipeError: There are fewer items.
        SearchDepthError: Items that are not among the neighbors could be more similar than the last one selected.
    """
    _check_size(candidates, size)
    neighbors = _neighbors(candidates)
    found = entries(candidates, neighbors)
    order = np.lexsort((found.row, -found.similarity))
    best = order[_first_of_each(found.image[order])][:size]
    if neighbors.depth < candidates.gallery:
        # What is not known of a query comes after the last of its neighbors, by similarity, then row.
        ends = zip((-neighbors.similarity[:, -1]).tolist(), neighbors.rows[:, -1].tolist(), strict=True)
        if len(best) < size or (-float(found.similarity[best[-1]]), int(found.row[best[-1]])) > min(ends):
            raise _too_shallow(candidates, neighbors, f"the {size} best matches may lie farther from a query")
    return Selection(found.row[best])


def balanced(candidates: Candidates, size: int, *, seed: int) -> Selection:
    r"""Select by giving each query equally many neighbors.

    Let k be the smallest for which the union of the queries' k nearest items

    .. math:: \bigcup_q k\text{-NN}(q)

    has ``size`` items or more. The k-th neighbor of randomly chosen queries is dropped until exactly ``size`` remain;
    what another query holds as well stays in the union until that one drops it, too. With the same seed a smaller
    selection is part of a larger one.

    Args:
        candidates: What to select from.
        size: Items to select, as many as queries at least.
        seed: Of the order in which queries drop their k-th neighbors.

    Returns:
        The rows by their smallest rank among the neighbors of a query, then by similarity; and k.

    Raises:
        RecipeError: There are fewer items, or more queries.
        SearchDepthError: The k nearest items that may be taken are not known of each query.
    """
    _check_size(candidates, size)
    neighbors = _neighbors(candidates)
    queries = len(neighbors.rows)
    if size < queries:
        raise RecipeError(
            f"{size} items cannot be balanced over {queries} queries, each of which gets one at least; "
            f"select {queries} or more, or use fewer queries"
        )
    found = entries(candidates, neighbors)
    counts = np.bincount(found.query, minlength=queries)
    known = int(counts.min()) if neighbors.depth < candidates.gallery else candidates.gallery
    order = np.lexsort((found.row, -found.similarity, found.rank))
    # The first of an image's entries has its smallest rank, and there the best of its crops.
    best = order[_first_of_each(found.image[order])]
    best = best[found.rank[best] < known]
    if len(best) < size:
        raise _too_shallow(
            candidates, neighbors, f"the {known} nearest of each query make {len(best)} of {size} items"
        )
    last = found.rank[best[size - 1]]
    inner = found.image[best[found.rank[best] < last]]
    # Dropping in a random order until enough have left the union keeps what the last queries in that order hold.
    turn = np.random.default_rng(seed).permutation(queries)
    held = np.flatnonzero((found.rank == last) & ~np.isin(found.image, inner))
    held = held[np.argsort(turn[found.query[held]])]
    outer = found.image[held[_first_of_each(found.image[held])]][: size - len(inner)]
    chosen = best[np.isin(found.image[best], np.concatenate([inner, outer]))]
    return Selection(found.row[chosen], int(last) + 1)


STRATEGIES: Mapping[str, Strategy] = {
    "random": Strategy("any items", "nothing", random_items, version=2),
    "best-matches": Strategy("what is nearest to any labeled image", "images", best_matches),
    "query-balanced": Strategy("equally many of the nearest of each labeled image", "images", balanced, True),
    "query-balanced-text": Strategy("equally many of the nearest of each prompt on a class", "texts", balanced, True),
}
"""How a transfer set can be selected."""


@dataclass(frozen=True)
class Entries:
    """Neighbors that may be taken, query after query, nearest first; an image once a query.

    Attributes:
        query: Which, int64 [M].
        rank: From 0, among those of the query, int64 [M].
        row: Of the gallery, int64 [M].
        image: Number of the image that it was cut from, int64 [M].
        similarity: To the query, float32 [M].
    """

    query: IntArray
    rank: IntArray
    row: IntArray
    image: IntArray
    similarity: FloatArray


def entries(candidates: Candidates, neighbors: Neighbors) -> Entries:
    """Return the neighbors that may be taken, as strategies rank them."""
    query = np.repeat(np.arange(len(neighbors.rows)), neighbors.depth)
    row, similarity = neighbors.rows.ravel(), neighbors.similarity.ravel()
    image = candidates.images(row)
    if candidates.excluded is not None:
        keep = ~np.isin(image, candidates.excluded)
        query, row, similarity, image = query[keep], row[keep], similarity[keep], image[keep]
    if candidates.crops > 1:
        # Stable, so that the nearest crop comes first.
        order = np.lexsort((image, query))
        repeated = (np.diff(image[order], prepend=-1) == 0) & (np.diff(query[order], prepend=-1) == 0)
        keep = np.sort(order[~repeated])
        query, row, similarity, image = query[keep], row[keep], similarity[keep], image[keep]
    starts = np.searchsorted(query, np.arange(len(neighbors.rows)))
    return Entries(query, np.arange(len(query)) - starts[query], row, image, similarity)


def _in_random_order(count: int, rng: np.random.Generator) -> Iterator[IntArray]:
    """Yield the numbers from 0 up to a limit in random order, some at a time.

    What was drawn before is left out until half are drawn, and the others are shuffled then: memory is that of what
    was yielded.
    """
    seen = np.empty(0, dtype=np.int64)
    while 2 * len(seen) < count:
        # Twice as many each time, so that leaving out takes about as long as drawing.
        new = rng.integers(count, size=max(DRAWN, len(seen)))
        new = new[_first_of_each(new)]
        new = new[~np.isin(new, seen)]
        seen = np.concatenate([seen, new])
        yield new
    yield rng.permutation(np.setdiff1d(np.arange(count), seen, assume_unique=True))


def _first_of_each(values: IntArray) -> IntArray:
    """Return where each value occurs first, in that order."""
    return np.sort(np.unique(values, return_index=True)[1])


def _neighbors(candidates: Candidates) -> Neighbors:
    if candidates.neighbors is None:
        raise ValueError("this strategy selects by the neighbors of queries")
    return candidates.neighbors


def _check_size(candidates: Candidates, size: int) -> None:
    if size < 1:
        raise RecipeError(f"expected a transfer set of one item or more, got {size}")
    available = candidates.available()
    if size > available:
        what = "images" if candidates.crops > 1 else "items"
        raise TooFewItemsError(
            f"{size} {what} are asked for, but the gallery of {candidates.gallery} items has {available} "
            f"that may be taken; select {available} or fewer",
            available,
        )


def _too_shallow(candidates: Candidates, neighbors: Neighbors, why: str) -> SearchDepthError:
    message = f"{why}; search deeper than the {neighbors.depth} nearest of {candidates.gallery} gallery items"
    return SearchDepthError(message, neighbors.depth)
