from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import numpy as np
import pytest

from tutelage.curation.decontamination import Decontamination, Policy, TaskImages
from tutelage.curation.originals import Originals
from tutelage.curation.suspects import Decision, decision_key
from tutelage.data.samples import IntArray, Samples

AXES = np.eye(6, dtype=np.float16)


def picture(number: int) -> Any:
    return np.full((3, 4, 3), number, dtype=np.uint8)


def turned(first: int, second: int, cosine: float) -> Any:
    """Return a unit vector that has a cosine with the first of two axes."""
    found = cosine * AXES[first].astype(np.float64) + np.sqrt(1 - cosine**2) * AXES[second]
    return found.astype(np.float16)


class Gallery:
    """Seven images: 0 and 1 are the same file; 2 and 3 near; 4 is a test image; 5 is like one, and like 6."""

    def __init__(self) -> None:
        self.images = [picture(value) for value in (0, 0, 2, 3, 100, 5, 6)]
        self.features = np.stack(
            [AXES[0], AXES[0], AXES[1], turned(1, 2, 0.995), AXES[3], turned(4, 5, 0.98), turned(4, 5, 0.945)]
        )
        self.embedded: list[int] = []

    def samples(self, numbers: IntArray) -> Samples:
        return Samples(tuple(f"g{number}" for number in numbers), images=[self.images[each] for each in numbers])

    def vectors(self, numbers: IntArray) -> list[Any]:
        self.embedded += numbers.tolist()
        return [self.features[numbers]]


def task() -> TaskImages:
    train, test = Samples(("a",), images=[picture(50)]), Samples(("b", "c"), images=[picture(100), picture(101)])
    return TaskImages(
        (("train", "data/train", train), ("test", "data/test", test)), [np.stack([AXES[5], AXES[3], AXES[4]])]
    )


def cleaning(
    *,
    duplicates: float | None = 0.99,
    leaks: float | None = 0.95,
    policy: Policy = "drop",
    decisions: Mapping[str, Decision] | None = None,
    gallery: Gallery | None = None,
) -> Decontamination:
    return Decontamination(
        "gallery",
        cast("Originals", gallery or Gallery()),
        task(),
        duplicates=duplicates,
        leaks=None if leaks is None else [leaks],
        policy=policy,
        decisions=decisions or {},
    )


ALL = np.arange(7)
LEAK = decision_key("gallery", "g5")


def dropped(made: Decontamination, images: IntArray = ALL) -> list[int]:
    return sorted(made.dirty(images).tolist())


def test_copies_duplicates_and_leaks_are_not_taken() -> None:
    assert dropped(cleaning()) == [1, 3, 4, 5]


def test_of_duplicates_the_most_relevant_one_is_kept() -> None:
    assert dropped(cleaning(), ALL[::-1].copy()) == [0, 2, 4, 5]


def test_what_is_left_out_is_counted_by_its_reason() -> None:
    made = cleaning()
    made.dirty(ALL)
    assert made.counts() == {"exact_copies_of_task": 1, "exact_duplicates": 1, "duplicates": 1, "leaks": 1}


def test_without_thresholds_exact_copies_are_still_left_out_and_nothing_is_embedded() -> None:
    gallery = Gallery()
    assert dropped(cleaning(duplicates=None, leaks=None, gallery=gallery)) == [1, 4]
    assert gallery.embedded == []


def test_an_exact_copy_is_certain_and_nobody_is_asked_about_it() -> None:
    made = cleaning()
    made.dirty(ALL)
    assert list(made.suspects) == [5]


def test_a_duplicate_of_a_leak_that_is_none_itself_may_be_taken() -> None:
    gallery = Gallery()
    assert gallery.features[5] @ gallery.features[6] > 0.99
    assert 6 not in dropped(cleaning(gallery=gallery), np.array([5, 6]))


def test_a_suspect_has_the_nearest_images_of_the_task() -> None:
    made = cleaning()
    made.dirty(ALL)
    suspect = made.suspects[5]
    assert (suspect.source, suspect.id) == ("gallery", "g5")
    assert [(near.source, near.id, near.part) for near in suspect.nearest] == [
        ("data/test", "c", "test"),
        ("data/train", "a", "train"),
        ("data/test", "b", "test"),
    ]
    assert suspect.similarity == suspect.nearest[0].similarity == pytest.approx(0.98, abs=1e-3)


def test_suspects_are_kept_if_that_is_wanted() -> None:
    made = cleaning(policy="keep")
    assert 5 not in dropped(made, np.array([0, 5]))
    assert made.decided(5) is None


@pytest.mark.parametrize("policy", ["drop", "keep", "ask"])
def test_what_a_person_has_decided_holds_whatever_the_policy(policy: Policy) -> None:
    few = np.array([0, 5])
    assert 5 not in dropped(cleaning(policy=policy, decisions={LEAK: "fine"}), few)
    assert 5 in dropped(cleaning(policy=policy, decisions={LEAK: "leak"}), few)


def test_what_is_to_be_asked_about_is_not_taken_meanwhile() -> None:
    assert 5 in dropped(cleaning(policy="ask"))


def test_an_image_is_compared_with_the_task_once() -> None:
    gallery = Gallery()
    made = cleaning(duplicates=None, gallery=gallery)
    made.dirty(ALL[:4])
    made.dirty(ALL)
    assert sorted(gallery.embedded) == list(range(7))


def test_later_rounds_find_what_earlier_ones_did() -> None:
    made = cleaning()
    made.dirty(ALL[:5])
    assert dropped(made) == dropped(cleaning())
