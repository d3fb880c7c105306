from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from tutelage.curation.cleaning import select_clean
from tutelage.curation.neighbors import nearest
from tutelage.curation.strategies import Candidates, Select, balanced, best_matches
from tutelage.data.samples import IntArray
from tutelage.errors import RecipeError

GALLERY = 200


def candidates(crops: int = 1) -> Candidates:
    similarity = np.random.default_rng(0).random((4, GALLERY), dtype=np.float32)
    return Candidates(GALLERY, nearest(similarity, GALLERY), crops)


def repeated(images: IntArray) -> IntArray:
    """Return images but for the first of each ten, as if those were duplicates."""
    _, first = np.unique(images // 10, return_index=True)
    return np.setdiff1d(images, images[first])


@pytest.mark.parametrize("crops", [1, 4])
@pytest.mark.parametrize("select", [balanced, best_matches])
def test_exactly_as_many_as_asked_for_are_selected_and_none_is_dirty(select: Select, crops: int) -> None:
    found, clean = select_clean(select, candidates(crops), 5, seed=1, dirty=repeated)
    images = candidates(crops).images(found.rows)
    assert len(found.rows) == 5
    assert not len(repeated(images))
    assert clean.excluded is not None
    assert not np.isin(images, clean.excluded).any()


def test_what_comes_in_late_is_looked_at_with_all_from_before() -> None:
    looked: list[list[int]] = []

    def dirty(images: IntArray) -> IntArray:
        looked.append(images.tolist())
        return repeated(images)

    found, _ = select_clean(best_matches, candidates(), 18, seed=0, dirty=dirty)
    assert len(looked) > 1
    assert all(later[: len(earlier)] == earlier for earlier, later in pairwise(looked))
    assert set(found.rows.tolist()) <= set(looked[-1])


def test_the_most_relevant_of_duplicates_stays() -> None:
    found, _ = select_clean(best_matches, candidates(), 20, seed=0, dirty=repeated)
    order = best_matches(candidates(), GALLERY, seed=0).rows
    firsts = np.sort(np.unique(order // 10, return_index=True)[1])
    assert found.rows.tolist() == order[firsts].tolist()


def test_too_few_clean_items_are_an_error() -> None:
    with pytest.raises(RecipeError, match="that may be taken"):
        select_clean(best_matches, candidates(), 21, seed=0, dirty=repeated)
