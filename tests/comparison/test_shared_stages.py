"""Stages that cells share: found by what they are asked for, and not tried twice when they fail."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tutelage.comparison.stages import PlannedStages, SharedStages
from tutelage.errors import RunError, TrainingError


class Work:
    """Counts how often it is done."""

    def __init__(self, error: Exception | None = None) -> None:
        self.done, self._error = 0, error

    def __call__(self, folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
        self.done += 1
        if self._error is not None:
            raise self._error
        return {"done": self.done}, {"seconds": 1.0}


def test_the_same_inputs_are_the_same_stage(tmp_path: Path) -> None:
    work = Work()
    first, second = (SharedStages(tmp_path).stage("train", {"seed": 1}, work) for _ in range(2))
    assert (work.done, first.folder, second.reused) == (1, second.folder, True)


def test_other_inputs_are_another_stage(tmp_path: Path) -> None:
    run = SharedStages(tmp_path)
    first, second = (run.stage("train", {"seed": seed}, Work()) for seed in (1, 2))
    assert first.folder != second.folder


def test_the_order_of_stages_does_not_matter(tmp_path: Path) -> None:
    alone = SharedStages(tmp_path).stage("train", {"seed": 1}, Work())
    later = SharedStages(tmp_path)
    later.stage("adapt", {}, Work())
    assert later.stage("train", {"seed": 1}, Work()).folder == alone.folder


def test_a_stage_that_failed_is_not_tried_for_another_cell(tmp_path: Path) -> None:
    run, work = SharedStages(tmp_path), Work(TrainingError("the loss is not finite"))
    with pytest.raises(TrainingError):
        run.stage("adapt", {"seed": 1}, work)
    with pytest.raises(RunError, match="adapt: failed before, for another cell: the loss is not finite"):
        run.stage("adapt", {"seed": 1}, work)
    assert work.done == 1


def test_a_stage_that_failed_is_tried_by_the_next_comparison(tmp_path: Path) -> None:
    with pytest.raises(TrainingError):
        SharedStages(tmp_path).stage("adapt", {"seed": 1}, Work(TrainingError("no")))
    assert SharedStages(tmp_path).stage("adapt", {"seed": 1}, Work()).results == {"done": 1}


def test_an_interrupted_stage_has_not_failed(tmp_path: Path) -> None:
    run = SharedStages(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        run.stage("adapt", {"seed": 1}, Work(KeyboardInterrupt()))  # type: ignore[arg-type]
    assert run.stage("adapt", {"seed": 1}, Work()).results == {"done": 1}


def test_a_planned_stage_does_no_work(tmp_path: Path) -> None:
    work = Work()
    found = PlannedStages(tmp_path, results={"train": {"loss": 1.0}}).stage("train", {}, work)
    assert (work.done, found.results) == (0, {"loss": 1.0})


def test_a_planned_stage_is_noted_once(tmp_path: Path) -> None:
    noted: list[str] = []
    run = PlannedStages(tmp_path, made_up=lambda name, inputs: noted.append(name))
    for _ in range(2):
        run.stage("train", {"seed": 1}, Work())
    assert (noted, run.asked) == (["train"], 2)


def test_a_finished_stage_is_not_planned(tmp_path: Path) -> None:
    SharedStages(tmp_path).stage("train", {"seed": 1}, Work())
    run = PlannedStages(tmp_path)
    assert run.stage("train", {"seed": 1}, Work()).results == {"done": 1}
    assert run.asked == 0
