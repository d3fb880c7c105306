"""What every pretraining of a student shares: the loop, its checkpoints on the way, and what it leaves."""

from __future__ import annotations

import math
from collections.abc import Container, Mapping, Sequence
from pathlib import Path
from typing import Annotated

from pydantic import Field

from tutelage.ledger import Cost
from tutelage.methods.job import Job
from tutelage.models.model import Model
from tutelage.models.weights import load_weights, save_weights
from tutelage.run import Stage, write_json
from tutelage.training.loop import State, Trained, train
from tutelage.training.phase import Phase

Share = Annotated[float, Field(gt=0, lt=1)]

PRETRAINING = {"distill": "distill", "pretrain": "pretrain", "self-distill": "dino", "align": "clip"}
"""Stages that leave a student who has learned something before it sees the labels, each with its section of the
recipe, which says how long it is (``epochs``) and which checkpoints it keeps (``snapshots``)."""

UNLABELED = ("distill", "self-distill", "label-2")
"""Stages that learn from the transfer set."""


def pretrained_by(stages: Mapping[str, Stage]) -> Stage | None:
    """Return the stage that pretrained the student, if one did."""
    return next((stages[name] for name in PRETRAINING if name in stages), None)


def after_pretraining(stages: Mapping[str, Stage]) -> tuple[Stage, ...]:
    """Return what a training on labels comes after: the stage that pretrained the student, if one did."""
    pretraining = pretrained_by(stages)
    return () if pretraining is None else (pretraining,)


def started(job: Job, stages: Mapping[str, Stage]) -> Model:
    """Build the student as it is before it sees the labels: as its pretraining left it, or at its start."""
    student, pretraining = job.new_student(), pretrained_by(stages)
    if pretraining is not None:
        load_weights(pretraining.folder / "student.safetensors", student)
    return student


def collapse_of(stages: Mapping[str, Stage]) -> str | None:
    """Return how the outputs of a pretraining have collapsed, in words; ``None`` if none are known to have."""
    return next((stage.results["why"] for stage in stages.values() if stage.results.get("collapsed")), None)


def pretraining_section(stages: Container[str]) -> str | None:
    """Return the section of the recipe that says how long a method with these stages pretrains, if it does."""
    return next((section for name, section in PRETRAINING.items() if name in stages), None)


def snapshot(share: float) -> str:
    """Return the file of the checkpoint after a share of the training."""
    return f"at-{share:g}.safetensors"


def pretraining_epochs(images: int, *, steps: int | None, batch_size: int) -> int:
    """Return how often to pass over a set: as near to so many steps as whole epochs allow, at least once.

    Where the steps are not given, 64,000 views of 1,000 images, growing with the root of their number.
    """
    if steps is not None:
        return max(1, round(steps * batch_size / images))
    return math.ceil(64 * math.sqrt(1000 / images))


def pretraining_batch(images: int) -> int:
    """Return the batch size for a set: a sixteenth of it, 16 to 128."""
    return min(128, max(16, 1 << round(math.log2(max(1, images / 16)))))


def pretrained(
    job: Job,
    phase: Phase,
    student: Model,
    snapshots: Sequence[float],
    folder: Path,
    cost: Cost,
    *,
    head: bool,
) -> Trained:
    """Train a student, and leave ``student.safetensors``, its checkpoints on the way and ``history.json``.

    The averaged weights are what is kept, if they are averaged.

    Args:
        job: Where the work happens.
        phase: Its name is that of the history.
        student: At its start.
        snapshots: Shares of the training after which a checkpoint is kept.
        folder: The stage's.
        cost: Gets what it took.
        head: Whether the head learns the task; else a new one is kept in its place.
    """
    fresh = {} if head else job.fresh_head()

    def kept(state: State) -> State:
        return state if head else {key: value for key, value in state.items() if key[:5] != "head."} | fresh

    def keep(share: float, state: State) -> None:
        save_weights(folder / snapshot(share), kept(state))

    trained = train(
        phase,
        student,
        world=job.world,
        seed=job.recipe.seed,
        progress=job.progress,
        checkpoint=folder / f"{phase.name}.checkpoint",
        snapshots=snapshots,
        keep=keep,
    )
    cost.add(trained.cost)
    if job.world.first:
        save_weights(
            folder / "student.safetensors", kept(trained.raw if trained.average is None else trained.average)
        )
        write_json(folder / "history.json", {phase.name: trained.history})
    return trained
