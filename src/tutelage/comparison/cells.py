"""One cell of a comparison: its method, its test score, and the checkpoints on the way."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import load_file

from tutelage.comparison.table import Cell, Outcome, Point, Right, Spent
from tutelage.data.samples import Samples
from tutelage.evaluation.stage import evaluate_weights
from tutelage.ledger import Cost
from tutelage.methods import METHODS
from tutelage.methods.adapt import adapted_by
from tutelage.methods.finetune import refit
from tutelage.methods.job import LABELS, Job
from tutelage.methods.pretraining import PRETRAINING, collapse_of, pretrained_by, snapshot
from tutelage.methods.pseudo_label import round_students, student_stage
from tutelage.methods.regularize import refit_held
from tutelage.models.weights import load_weights, save_weights
from tutelage.pipeline import run_method
from tutelage.run import Stage

STUDENT = "student.safetensors"

LAST = ("rate", "finetune", "judge")
"""Stages of the last finetuning, and what takes its place."""


@dataclass(frozen=True)
class CellStages:
    """The stages of a cell.

    Attributes:
        method: Its method's, by name.
        judged: The student on the test set.
        teacher: The teacher that taught on the test set, if it was adapted.
        points: The evaluation of each checkpoint on the way, or of each round, by its share.
    """

    method: Mapping[str, Stage]
    judged: Stage
    teacher: Stage | None
    points: Mapping[float, Stage]


def run_stages(job: Job, test: Samples, shares: Sequence[float]) -> CellStages:
    """Run a cell's stages, or find them finished.

    Args:
        job: Of the cell; its run holds the stages that cells share.
        test: Labeled test data.
        shares: After which shares of the pretraining its checkpoints are finetuned and tested; with some, so is the
            student of each round of a method that has rounds.

    Raises:
        TutelageError: Something in it cannot be done.
    """
    stages = run_method(job)
    judged = evaluate_weights(job, list(stages.values())[-1], STUDENT, test)
    teacher = None
    if "adapt" in stages:
        file = f"{stages['adapt'].results['chosen']}.safetensors"
        teacher = evaluate_weights(job, adapted_by(stages), file, test, teacher=True)
    rounds = round_students(stages)
    points = {
        number / len(rounds): evaluate_weights(job, stage, STUDENT, test)
        for number, stage in enumerate(rounds[:-1] if shares else (), 1)
    }
    pretrained = None if rounds else pretrained_by(stages)
    for share in shares if pretrained is not None else ():
        assert pretrained is not None
        made_by, file = pretrained, snapshot(share)
        if "finetune" in stages:
            made_by, file = _finetune_at(job, pretrained, stages, share), STUDENT
        points[share] = evaluate_weights(job, made_by, file, test)
    return CellStages(stages, judged, teacher, points)


def outcome_of(job: Job, cell: Cell, found: CellStages) -> Outcome:
    """Return what came of a cell."""
    stages = found.method
    last = list(stages.values())[-1]
    score = found.judged.results["metrics"][job.task.primary]
    # Learning from pseudo-labels has no last finetuning: all of it is spent before the student is what it will be.
    finetuned: tuple[str, ...] = () if round_students(stages) else LAST
    pretraining = _spent(stage for name, stage in stages.items() if name not in finetuned)
    points = [
        Point(share, _spent_until(stages, share), stage.results["metrics"][job.task.primary])
        for share, stage in found.points.items()
    ]
    chosen = last.results["chosen"]
    return Outcome(
        cell,
        score=score,
        metrics=found.judged.results["metrics"],
        held_out=chosen["metrics"],
        teacher_mode=stages["adapt"].results["chosen"] if "adapt" in stages else None,
        teacher_score=None if found.teacher is None else found.teacher.results["metrics"][job.task.primary],
        chosen=f"{chosen['candidate']} ({chosen['variant']})" if "finetune" in stages else None,
        pretraining=pretraining,
        finetuning=_spent(stage for name, stage in stages.items() if name in finetuned),
        curve=(*points, Point(1.0, pretraining, score)) if _has_curve(stages) else (),
        right=_right(found.judged),
        collapsed=collapse_of(stages),
    )


def _finetune_at(job: Job, pretrained: Stage, stages: Mapping[str, Stage], share: float) -> Stage:
    """Finetune a checkpoint, as held-out labels chose for the last one."""
    work = functools.partial(_finetune, job, pretrained, stages, share)
    return job.stage("point", [pretrained, stages["finetune"]], {"share": share}, work, reads=LABELS)


def _finetune(
    job: Job, pretrained: Stage, stages: Mapping[str, Stage], share: float, folder: Path
) -> tuple[dict[str, Any], dict[str, Any]]:
    cost = Cost()
    student = job.new_student()
    load_weights(pretrained.folder / snapshot(share), student)
    again = refit_held if METHODS[job.recipe.method].held else refit
    state = again(job, stages, student, folder, cost)
    if job.world.first:
        save_weights(folder / STUDENT, state)
    return {}, cost.as_dict()


def _has_curve(stages: Mapping[str, Stage]) -> bool:
    """Return whether there is something on the way that a curve can show: a pretraining, or rounds."""
    return pretrained_by(stages) is not None or bool(round_students(stages))


def _spent_until(stages: Mapping[str, Stage], share: float) -> Spent:
    """Return what was spent until a share of the pretraining was done, or of the rounds."""
    rounds = round_students(stages)
    if rounds:
        names = list(stages)
        last = names.index(student_stage(round(share * len(rounds))))
        return _spent(stages[name] for name in names[: last + 1])
    # What comes before the training itself is spent before its first step.
    before = _spent(stage for name, stage in stages.items() if name not in (*LAST, *PRETRAINING))
    during = _spent(stage for name, stage in stages.items() if name in PRETRAINING)
    return Spent(before.seconds + share * during.seconds, before.flops + share * during.flops)


def _right(judged: Stage) -> Right | None:
    kept = load_file(judged.folder / "predictions.safetensors")
    if "counts" in kept:
        return None
    right: Right = (kept["logits"].argmax(1) == kept["targets"]).numpy()
    return right


def _spent(stages: Iterable[Stage]) -> Spent:
    costs = [stage.cost for stage in stages]
    return Spent(
        float(sum(cost.get("seconds", 0.0) for cost in costs)), float(sum(cost.get("flops", 0.0) for cost in costs))
    )
