"""What a training step costs, which models are timed, and the file that keeps it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from tutelage.comparison.bench import Step
from tutelage.comparison.speeds import Speeds, StepSpeed, step_speed
from tutelage.comparison.table import Spent
from tutelage.comparison.timed import Models, Use, read_timed, timed, uses, write_timed
from tutelage.errors import RunError

PLAIN = Models(["a"], "student", {"size": 32, "teacher_size": 64})
LARGE = Models(["b"], "student", {"size": 32, "teacher_size": 96})
ALONE = Models([], "student", {"size": 32, "teacher_size": 64})


def speeds(seconds: float, *steps: str) -> Speeds:
    spent = Spent(seconds, 100.0)
    training = {name: StepSpeed(1.0, seconds, 100.0) for name in steps}
    return Speeds(spent, spent, {"student": spent, "teacher": spent}, dict.fromkeys(steps, spent), training)


def test_a_step_is_a_line_through_two_batches() -> None:
    found = step_speed(Step(16, 0.3, 160.0), Step(64, 0.6, 640.0))
    assert (found.fixed, found.image, found.flops) == (pytest.approx(0.2), pytest.approx(0.00625), 10.0)
    assert found.training_cost(10, 64) == Spent(pytest.approx(6.0), 6400.0)


@pytest.mark.parametrize(
    ("small", "fixed", "image"),
    [
        (0.7, 0.6, 0.0),  # a step of few images that took longer: all of it is fixed
        (0.1, 0.0, 0.6 / 64),  # more than in proportion: nothing is
    ],
)
def test_no_part_of_a_step_takes_less_than_no_time(small: float, fixed: float, image: float) -> None:
    found = step_speed(Step(16, small, 160.0), Step(64, 0.6, 640.0))
    assert (found.fixed, found.image) == (pytest.approx(fixed), pytest.approx(image))


def test_two_batches_of_one_size_are_in_proportion() -> None:
    assert step_speed(Step(4, 0.2, 40.0), Step(4, 0.2, 40.0)).training_cost(1, 8) == Spent(pytest.approx(0.4), 80.0)


def test_models_are_timed_once_and_a_method_without_a_teacher_needs_no_time_of_its_own() -> None:
    asked = [("scratch", ALONE), ("agnostic-image", PLAIN), ("task-oriented", LARGE), ("task-oriented-lp", PLAIN)]
    assert uses(asked) == [
        Use(PLAIN, ("agnostic-image", "task-oriented-lp", "scratch")),
        Use(LARGE, ("task-oriented",)),
    ]


def test_a_student_that_learns_from_itself_is_timed_as_it_does_and_tells_how_fast_it_is_alone() -> None:
    few, many = (replace(ALONE, alone={"views": views}) for views in (2, 8))
    asked = [("scratch", ALONE), ("dino", few), ("dino", many), ("agnostic-image", PLAIN)]
    assert uses(asked) == [Use(few, ("dino", "scratch")), Use(many, ("dino",)), Use(PLAIN, ("agnostic-image",))]
    assert not Use(few, ("dino",)).known(speeds(1.0, "student"))
    assert Use(few, ("dino",)).known(speeds(1.0, "student", "self-distill"))


def test_speeds_of_a_student_that_learns_from_itself_are_read_back(tmp_path: Path) -> None:
    written = [(replace(ALONE, alone={"views": 8}), speeds(1.0, "student", "self-distill"))]
    write_timed(tmp_path / "speeds.json", written)
    assert read_timed(tmp_path / "speeds.json", ALONE) == written


def test_another_student_is_timed() -> None:
    other = Models([], "other", ALONE.views)
    assert [use.models for use in uses([("scratch", ALONE), ("scratch", other)])] == [ALONE, other]


def test_what_is_known_stays_and_only_what_is_not_is_measured() -> None:
    measured = []

    def measure(use: Use) -> Speeds:
        measured.append(use.models)
        return speeds(9.0, "student", "teacher", *use.lessons)

    wanted = uses([("task-oriented", PLAIN), ("task-oriented", LARGE), ("scratch", ALONE)])
    found = timed([(PLAIN, speeds(1.0, "student", "teacher", "logits"))], wanted, measure)
    assert measured == [LARGE]
    assert [(models, each.view.seconds) for models, each in found] == [(PLAIN, 1.0), (LARGE, 9.0)]


def test_a_lesson_that_is_new_is_measured_beside_what_is_known() -> None:
    known = [(PLAIN, speeds(1.0, "student", "logits"))]
    ((_, found),) = timed(known, uses([("agnostic-image", PLAIN)]), lambda use: speeds(9.0, "student", "image"))
    assert {name: each.seconds for name, each in found.steps.items()} == {"student": 1.0, "logits": 1.0, "image": 9.0}
    assert found.training["image"].image == 9.0


def test_speeds_are_read_back(tmp_path: Path) -> None:
    written = [(PLAIN, speeds(1.0, "student")), (LARGE, speeds(2.0, "student", "teacher"))]
    write_timed(tmp_path / "speeds.json", written)
    assert read_timed(tmp_path / "speeds.json", ALONE) == written


def test_speeds_of_an_earlier_version_are_the_recipe_s_own_and_in_proportion(tmp_path: Path) -> None:
    data = speeds(2.0, "student").as_dict()
    del data["training"]
    (tmp_path / "speeds.json").write_text(json.dumps(data))
    ((models, found),) = read_timed(tmp_path / "speeds.json", PLAIN)
    assert models == PLAIN
    assert found.training["student"].training_cost(3, 5) == Spent(30.0, 1500.0)


@pytest.mark.parametrize("content", ["", "[]", '{"measured": [{}]}', "{}"])
def test_damaged_speeds_are_said_to_be(tmp_path: Path, content: str) -> None:
    (tmp_path / "speeds.json").write_text(content)
    with pytest.raises(RunError, match=r"speeds\.json: holds no speeds .*; remove it"):
        read_timed(tmp_path / "speeds.json", PLAIN)


def test_no_file_has_no_speeds(tmp_path: Path) -> None:
    assert read_timed(tmp_path / "speeds.json", PLAIN) == []
