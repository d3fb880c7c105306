"""Labeled samples of two sets as one."""

from __future__ import annotations

import numpy as np
import pytest

from tutelage.data.samples import Samples, joined
from tutelage.errors import DataError

FIRST = Samples(("a", "b"), images=[b"1", b"2"], targets=np.array([2, 0]), classes=("x", "y", "z"), origin="first")
SECOND = Samples(("c", "a"), images=[b"3", b"4"], targets=np.array([1, 1]), classes=("x", "y", "z"), origin="second")
SHARES = np.array([[0.5, 0.25, 0.25], [0, 1, 0]], dtype=np.float16)


def with_targets(samples: Samples, **changes: object) -> Samples:
    return Samples(**{**{name: getattr(samples, name) for name in samples.__dataclass_fields__}, **changes})


def test_one_comes_after_the_other() -> None:
    found = joined(FIRST, SECOND)
    assert (found.images, found.labels().tolist()) == ([b"1", b"2", b"3", b"4"], [2, 0, 1, 1])


def test_an_id_that_both_have_is_told_apart() -> None:
    assert joined(FIRST, SECOND).ids == ("a", "b", "c", "a (unlabeled)")


def test_beside_shares_a_class_number_is_a_whole_share() -> None:
    found = joined(FIRST, with_targets(SECOND, targets=SHARES)).labels()
    assert found.dtype == np.float16
    assert found.tolist() == [[0, 0, 1], [1, 0, 0], [0.5, 0.25, 0.25], [0, 1, 0]]


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"classes": ("x", "z", "y")}, "first and second have different classes"),
        ({"images": None, "texts": ["c", "a"]}, "one has images or texts that the other lacks"),
        ({"targets": None}, "second have no labels"),
    ],
)
def test_what_does_not_fit_together_is_told(changes: dict[str, object], problem: str) -> None:
    with pytest.raises(DataError, match=problem):
        joined(FIRST, with_targets(SECOND, **changes))
