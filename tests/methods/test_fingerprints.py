"""Which stages are the same one, so that a comparison runs them once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.methods.tiny_jobs import tiny_run

from tutelage.methods import METHODS
from tutelage.methods.pretraining import pretrained_by

AGNOSTIC = ["agnostic-patch", "agnostic-image", "supervised", "dino", "clip", "clip-mimic"]


def pretraining(folder: Path, method: str, **how: Any) -> str:
    stage = pretrained_by(tiny_run(folder, method, **how))
    assert stage is not None
    return stage.fingerprint


@pytest.mark.parametrize("method", AGNOSTIC)
def test_what_knows_nothing_of_the_task_is_the_same_for_any_labels(tmp_path: Path, method: str) -> None:
    few, many = (pretraining(tmp_path / str(labels), method, labels=labels) for labels in (6, 12))
    assert few == many


@pytest.mark.parametrize("method", [name for name in METHODS if name.startswith("task-oriented")])
def test_what_a_teacher_adapted_to_the_task_has_taught_depends_on_its_labels(tmp_path: Path, method: str) -> None:
    few, many = (pretraining(tmp_path / str(labels), method, labels=labels) for labels in (6, 12))
    assert few != many


@pytest.mark.parametrize("method", METHODS)
def test_the_student_depends_on_the_labels(tmp_path: Path, method: str) -> None:
    runs = (tiny_run(tmp_path / str(labels), method, labels=labels, transfer=16) for labels in (6, 12))
    few, many = (list(stages.values())[-1] for stages in runs)
    assert few.fingerprint != many.fingerprint


@pytest.mark.parametrize("method", ["agnostic-patch", "agnostic-image", "task-oriented", "dino"])
def test_what_is_distilled_depends_on_the_transfer_set(tmp_path: Path, method: str) -> None:
    small, large = (pretraining(tmp_path / str(images), method, transfer=images) for images in (8, 12))
    assert small != large


def test_supervised_pretraining_depends_on_no_transfer_set(tmp_path: Path) -> None:
    small, large = (pretraining(tmp_path / str(images), "supervised", transfer=images) for images in (8, 12))
    assert small == large


def test_a_teacher_is_adapted_without_the_transfer_set(tmp_path: Path) -> None:
    small, large = (tiny_run(tmp_path / str(images), transfer=images) for images in (8, 12))
    assert small["adapt"].fingerprint == large["adapt"].fingerprint


@pytest.mark.parametrize("method", ["agnostic-patch", "agnostic-image"])
def test_another_lesson_is_another_stage(tmp_path: Path, method: str) -> None:
    other = {"agnostic-patch": "agnostic-image", "agnostic-image": "agnostic-patch"}[method]
    assert pretraining(tmp_path / "one", method) != pretraining(tmp_path / "other", other)


@pytest.mark.parametrize(("mode", "variant"), [("probe", "task-oriented-lp"), ("finetune", "task-oriented-ft")])
def test_a_mode_is_adapted_in_the_same_stage_whichever_others_there_are(
    tmp_path: Path, mode: str, variant: str
) -> None:
    both, alone = tiny_run(tmp_path / "both"), tiny_run(tmp_path / "alone", variant)
    assert both[f"adapt-{mode}"].fingerprint == alone[f"adapt-{mode}"].fingerprint


def test_settings_of_one_mode_leave_the_other_alone(tmp_path: Path) -> None:
    stages = tiny_run(tmp_path / "one")
    changed = tiny_run(tmp_path / "other", adapt__penalties=[0.2])
    same = {name for name in stages if stages[name].fingerprint == changed[name].fingerprint}
    assert ("adapt-probe" in same, "adapt-finetune" in same) == (False, True)


@pytest.mark.parametrize("part", ["targets", "distill", "finetune"])
def test_what_follows_is_what_follows_the_chosen_mode(tmp_path: Path, part: str) -> None:
    whole = tiny_run(tmp_path / "whole")
    chosen = {"probe": "task-oriented-lp", "finetune": "task-oriented-ft"}
    mode = whole["adapt"].results["chosen"]
    same = tiny_run(tmp_path / "same", chosen.pop(mode))
    other = tiny_run(tmp_path / "other", *chosen.values())
    assert whole[part].fingerprint == same[part].fingerprint != other[part].fingerprint


def test_without_the_last_finetuning_the_earlier_stages_are_the_same(tmp_path: Path) -> None:
    whole, without = tiny_run(tmp_path / "whole"), tiny_run(tmp_path / "without", "task-oriented-no-finetuning")
    assert whole["distill"].fingerprint == without["distill"].fingerprint


@pytest.mark.parametrize(
    ("setting", "same"),
    [
        ({"pseudo_label__threshold": 0.2}, set()),
        ({"pseudo_label__soft": True}, set()),
        ({"pseudo_label__epochs": 3}, {"label-2"}),
        ({"pseudo_label__rounds": 3}, {"label-2", "train-2"}),
        ({"distill__epochs": 3}, {"label-2", "train-2"}),
    ],
    ids=lambda each: next(iter(each)) if isinstance(each, dict) else None,
)
def test_a_round_depends_on_what_it_reads(tmp_path: Path, setting: dict[str, Any], same: set[str]) -> None:
    one = tiny_run(tmp_path / "one", "pseudo-label", transfer=16)
    other = tiny_run(tmp_path / "other", "pseudo-label", transfer=16, **setting)
    found = {name for name in one if other[name].fingerprint == one[name].fingerprint}
    assert found == {"finetune", *same}
