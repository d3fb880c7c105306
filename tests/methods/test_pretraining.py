"""What pretraining leaves for the last finetuning."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tests.methods.tiny_jobs import tiny_job, tiny_run
from tests.training.tiny_models import CLASSES, WIDTH, tiny_samples
from torch import Tensor

from tutelage.methods import METHODS
from tutelage.methods.pretraining import PRETRAINING, pretrained_by
from tutelage.progress import Quiet, Update
from tutelage.training.loop import train

SECTIONS = {
    "supervised": "pretrain",
    "dino": "dino",
    "clip": "clip",
    "clip-mimic": "clip",
    "agnostic-patch": "distill",
    "agnostic-image": "distill",
    "task-oriented-lp": "distill",
}
WITHOUT_HEAD = ["supervised", "dino", "clip", "clip-mimic", "agnostic-patch", "agnostic-image"]

State = Mapping[str, Tensor]


def folder_of(folder: Path, method: str, *, shares: tuple[float, ...] = (), **how: Any) -> Path:
    """Run a method, and return the folder of the stage that pretrained the student."""
    stage = pretrained_by(tiny_run(folder, method, **how, **{f"{SECTIONS[method]}__snapshots": shares}))
    assert stage is not None
    return stage.folder


def pretrained(folder: Path, method: str, **how: Any) -> State:
    return load_file(folder_of(folder, method, **how) / "student.safetensors")


def part(state: State, name: str) -> State:
    return {key: value for key, value in state.items() if key.startswith(f"{name}.")}


def equal(one: State, other: State) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


@pytest.mark.parametrize("method", SECTIONS)
def test_the_encoder_has_learned(tmp_path: Path, method: str) -> None:
    start = tiny_job(tmp_path / "start", method).new_student().state_dict()
    assert not equal(part(pretrained(tmp_path / "run", method), "encoder"), part(start, "encoder"))


@pytest.mark.parametrize("method", WITHOUT_HEAD)
def test_a_head_that_was_not_taught_the_task_is_new(tmp_path: Path, method: str) -> None:
    # The other task has as many classes as this one, so that its head would fit.
    start = tiny_job(tmp_path / "start", method).new_student().state_dict()
    assert equal(part(pretrained(tmp_path / "run", method), "head"), part(start, "head"))


def test_a_head_that_was_taught_the_task_is_kept(tmp_path: Path) -> None:
    start = tiny_job(tmp_path / "start").new_student().state_dict()
    assert not equal(part(pretrained(tmp_path / "run", "task-oriented-lp"), "head"), part(start, "head"))


def test_the_head_is_the_task_s_whatever_the_other_task_tells_apart(tmp_path: Path) -> None:
    samples = tiny_samples()
    other = samples.__class__(
        samples.ids, images=samples.images, targets=samples.labels() % 2, classes=("odd", "even")
    )
    found = pretrained(tmp_path, "supervised", pretraining=other)
    assert tuple(found["head.linear.weight"].shape) == (CLASSES, WIDTH)


@pytest.mark.parametrize("method", SECTIONS)
def test_checkpoints_are_kept_at_the_shares_asked_for(tmp_path: Path, method: str) -> None:
    folder = folder_of(tmp_path, method, shares=(0.125, 0.5))
    assert {path.name for path in folder.glob("at-*")} == {"at-0.125.safetensors", "at-0.5.safetensors"}


@pytest.mark.parametrize("method", SECTIONS)
def test_a_checkpoint_is_what_the_student_was_on_the_way(tmp_path: Path, method: str) -> None:
    folder = folder_of(tmp_path, method, shares=(0.2, 0.5))
    states = [
        load_file(folder / name) for name in ("at-0.2.safetensors", "at-0.5.safetensors", "student.safetensors")
    ]
    assert len({tuple(state) for state in states}) == 1
    assert not any(equal(part(one, "encoder"), part(other, "encoder")) for one, other in itertools.pairwise(states))


@pytest.mark.parametrize("method", WITHOUT_HEAD)
def test_a_checkpoint_has_a_new_head_too(tmp_path: Path, method: str) -> None:
    folder = folder_of(tmp_path, method, shares=(0.5,))
    start = tiny_job(tmp_path / "start", method).new_student().state_dict()
    assert equal(part(load_file(folder / "at-0.5.safetensors"), "head"), part(start, "head"))


@pytest.mark.parametrize("method", SECTIONS)
def test_checkpoints_do_not_change_what_is_learned(tmp_path: Path, method: str) -> None:
    without, with_them = (
        pretrained(tmp_path / str(len(shares)), method, shares=shares) for shares in ((), (0.2, 0.5, 0.8))
    )
    assert equal(without, with_them)


class StopIn(Quiet):
    """Interrupts a phase after a step."""

    def __init__(self, label: str, step: int) -> None:
        self.label, self.step = label, step

    @contextmanager
    def track(self, label: str, total: int) -> Iterator[Update]:
        def update(done: int, numbers: Mapping[str, float]) -> None:
            if (label, done) == (self.label, self.step):
                raise KeyboardInterrupt

        yield update


@pytest.mark.parametrize("step", [2, 5])
@pytest.mark.parametrize("method", SECTIONS)
def test_an_interrupted_stage_leaves_the_same_checkpoints(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str, step: int
) -> None:
    # Before the one that is asked for, and after it.
    whole = folder_of(tmp_path / "whole", method, shares=(0.5,))
    assert train.__kwdefaults__ is not None
    monkeypatch.setitem(train.__kwdefaults__, "every", 0.0)
    stop = StopIn(next(name for name in PRETRAINING if name in METHODS[method].stages), step)
    with pytest.raises(KeyboardInterrupt):
        folder_of(tmp_path / "pieces", method, shares=(0.5,), progress=stop)
    pieces = folder_of(tmp_path / "pieces", method, shares=(0.5,))
    assert equal(load_file(whole / "at-0.5.safetensors"), load_file(pieces / "at-0.5.safetensors"))


@pytest.mark.parametrize("method", WITHOUT_HEAD)
def test_finetuning_starts_from_what_was_pretrained(tmp_path: Path, method: str) -> None:
    stages = tiny_run(tmp_path, method, finetune__modes=["probe"])
    before = pretrained_by(stages)
    assert before is not None
    encoders = [
        part(load_file(stage.folder / "student.safetensors"), "encoder") for stage in (before, stages["finetune"])
    ]
    assert equal(*encoders)
