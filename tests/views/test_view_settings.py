from __future__ import annotations

from typing import Any

import pytest

from tutelage.errors import RecipeError
from tutelage.views import POLICIES, WHOLE, Augmentation, ViewPolicy
from tutelage.views.settings import ViewSettings


@pytest.mark.parametrize(
    ("short_side", "size", "augment"),
    [(512, 512, "dense"), (2000, 512, "dense"), (130, 160, "dense"), (64, 64, "dense"), (28, 64, "dense-light")],
)
def test_dense_views_suit_the_images(short_side: int, size: int, augment: Augmentation) -> None:
    found = ViewSettings().resolved(short_side, teacher_native=224, dense=True)
    assert (found.size, found.student_size, found.teacher_size) == (size, size, size)
    assert (found.augment, found.crop) == (augment, 1.0)
    assert found.policy == POLICIES[augment]


def test_unaugmented_dense_views_are_whole_images() -> None:
    assert ViewSettings(augment="none").resolved(300, teacher_native=None, dense=True).policy == WHOLE


@pytest.mark.parametrize("key", ["size", "student_size", "teacher_size"])
def test_one_size_given_is_that_of_all_dense_views(key: str) -> None:
    given: dict[str, Any] = {key: 200}
    found = ViewSettings(**given).resolved(500, teacher_native=None, dense=True)
    assert (found.size, found.student_size, found.teacher_size) == (200, 200, 200)


def test_resolved_dense_views_stay_as_they_are() -> None:
    once = ViewSettings().resolved(130, teacher_native=None, dense=True)
    assert once.resolved(999, teacher_native=224, dense=True) == once


@pytest.mark.parametrize("given", [{"size": 256, "student_size": 512}, {"teacher_size": 500}])
def test_sizes_that_dense_tasks_do_not_allow_are_refused(given: dict[str, Any]) -> None:
    with pytest.raises(RecipeError, match="same multiple of 8"):
        ViewSettings(**given).resolved(500, teacher_native=None, dense=True)


@pytest.mark.parametrize(
    ("dense", "given", "message"),
    [
        (True, {"augment": "full"}, "'full' is not for this task; give one of auto, none, dense-light, dense"),
        (False, {"augment": "dense"}, "'dense' is not for this task; give one of auto, none, light, full"),
        (True, {"policy": ViewPolicy()}, "a part named dense"),
        (False, {"policy": WHOLE}, "leave it out"),
        (True, {"crop": 0.875}, "evaluates whole images"),
    ],
)
def test_views_of_the_other_kind_of_task_are_refused(dense: bool, given: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        ViewSettings(**given).resolved(500, teacher_native=None, dense=dense)


@pytest.mark.parametrize("short_side", [28, 300])
def test_pairs_are_seen_as_they_are_unless_asked_otherwise(short_side: int) -> None:
    views = ViewSettings().resolved(short_side, teacher_native=None, pairs=True)
    assert (views.augment, views.policy, views.crop) == ("none", ViewPolicy(), 1.0)


def test_augmented_pairs_are_not_mixed() -> None:
    views = ViewSettings(augment="full").resolved(300, teacher_native=None, pairs=True)
    assert views.policy == POLICIES["full"].model_copy(update={"mixup": 0.0, "cutmix": 0.0})


def test_a_policy_that_mixes_pairs_is_refused() -> None:
    with pytest.raises(RecipeError, match="texts cannot be mixed"):
        ViewSettings(policy=ViewPolicy(cutmix=1.0)).resolved(300, teacher_native=None, pairs=True)
