"""Selecting exactly as many items as asked for that are no duplicates and no leaks."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from tutelage.curation.strategies import Candidates, Select, Selection
from tutelage.data.samples import IntArray

SPARE = 0.1
"""Share of what is asked for that is retrieved beyond it at first."""


def select_clean(
    select: Select, candidates: Candidates, size: int, *, seed: int, dirty: Callable[[IntArray], IntArray]
) -> tuple[Selection, Candidates]:
    """Select ``size`` items of which none is found dirty when all that was retrieved is looked at together.

    More than asked for is retrieved and looked at; what is dirty is excluded, and exactly ``size`` items are selected
    anew. What then comes in for the first time is looked at, too, with all from before, until nothing new comes in.

    Args:
        select: A strategy's.
        candidates: What to select from.
        size: Items to select.
        seed: Of the strategy.
        dirty: Given the numbers of images, most relevant first and unique, returns those that must not be taken:
            all but the first of duplicates, and leaks.

    Returns:
        The selection, and the candidates without the images that were found dirty.

    Raises:
        RecipeError: Too few clean items are left.
        SearchDepthError: More neighbors must be known.
    """
    ample = min(size + math.ceil(SPARE * size), candidates.available())
    seen = _images(candidates, select(candidates, max(ample, size), seed=seed).rows)
    while True:
        clean = candidates.without(dirty(seen))
        selection = select(clean, size, seed=seed)
        images = _images(clean, selection.rows)
        new = images[~np.isin(images, seen)]
        if not len(new):
            return selection, clean
        seen = np.concatenate([seen, new])


def _images(candidates: Candidates, rows: IntArray) -> IntArray:
    images = candidates.images(rows)
    return images[np.sort(np.unique(images, return_index=True)[1])]
