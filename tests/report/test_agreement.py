from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from tutelage.report.agreement import Agreement, agreement, compare, in_words
from tutelage.report.finished import Finished

RANDOM = np.random.default_rng(11)
TARGETS, STUDENT, TEACHER = RANDOM.integers(0, 4, (3, 500))


def test_counts_are_those_of_a_plain_loop() -> None:
    counts = dict.fromkeys(("both", "student", "teacher", "same", "different"), 0)
    for true, ours, theirs in zip(TARGETS, STUDENT, TEACHER, strict=True):
        if ours == true and theirs == true:
            counts["both"] += 1
        elif ours == true:
            counts["student"] += 1
        elif theirs == true:
            counts["teacher"] += 1
        elif ours == theirs:
            counts["same"] += 1
        else:
            counts["different"] += 1
    assert compare(TARGETS, STUDENT, TEACHER) == Agreement(**counts)


def test_every_image_is_in_one_row() -> None:
    assert compare(TARGETS, STUDENT, TEACHER).images == len(TARGETS)


def test_sentence_counts_the_errors_that_are_shared_and_those_that_are_not() -> None:
    assert in_words(Agreement(both=80, student=6, teacher=7, same=5, different=2)) == (
        "Student and teacher give the same answer on 85.0% of the test images. The teacher is wrong on 13: the "
        "student gets 6 of them right and gives the same wrong answer on 5. On another 7 the student alone is wrong."
    )


def test_a_teacher_without_errors_has_none_to_pass_on() -> None:
    assert in_words(Agreement(9, 0, 1, 0, 0)).endswith("The teacher is wrong on none, the student on 1.")


def test_the_sentence_has_the_agreement_that_was_measured(finished: Callable[..., Finished]) -> None:
    run = finished()
    assert f"{100 * run.data['agreement']:.1f}%" in agreement(run)["sentence"]


@pytest.mark.parametrize("how", [{"test": False}, {"method": "scratch", "baselines": ()}], ids=["no test", "scratch"])
def test_it_takes_a_teacher_and_test_data(finished: Callable[..., Finished], how: dict) -> None:
    assert agreement(finished(**how)) is None
