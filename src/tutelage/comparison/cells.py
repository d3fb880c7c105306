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
from tutelage.ledger import Cost, measured
from tutelage.methods.adapt import adapted_by
from tutelage.methods.choose import Choice
from tutelage.methods.finetune import SHOWN
from tutelage.methods.fit import Mode, new_fit
from tutelage.methods.job import LABELS, Job
from tutelage.methods.pretraining import PRETRAINING, pretrained_by, snapshot
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
        points: The evaluation of each checkpoint on the way, by its share.
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
        shares: After which shares of the pretraining its checkpoints are finetuned and tested.

    Raises:
        TutelageError: Something in it cannot be done.
    """
    stages = run_method(job)
    judged = evaluate_weights(job, list(stages.values())[-1], STUDENT, test)
    teacher = None
    if "adapt" in stages:
        file = f"{stages['adapt'].results['chosen']}.safetensors"
        teacher = evaluate_weights(job, adapted_by(stages), file, test, teacher=True)
    points = {}
    pretrained = pretrained_by(stages)
    for share in shares if pretrained is not None else ():
        assert pretrained is not None
        made_by, file = pretrained, snapshot(share)
        if "finetune" in stages:
            made_by, file = _finetune_at(job, pretrained, stages["finetune"], share), STUDENT
        points[share] = evaluate_weights(job, made_by, file, test)
    return CellStages(stages, judged, teacher, points)


def outcome_of(job: Job, cell: Cell, found: CellStages) -> Outcome:
    """Return what came of a cell."""
    stages = found.method
    last = list(stages.values())[-1]
    score = found.judged.results["metrics"][job.task.primary]
    pretraining = _spent(stage for name, stage in stages.items() if name not in LAST)
    # What comes before the training itself is spent before its first step.
    before = _spent(stage for name, stage in stages.items() if name not in (*LAST, *PRETRAINING))
    during = _spent(stage for name, stage in stages.items() if name in PRETRAINING)
    points = [
        Point(
            share,
            Spent(before.seconds + share * during.seconds, before.flops + share * during.flops),
            stage.results["metrics"][job.task.primary],
        )
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
        finetuning=_spent(stage for name, stage in stages.items() if name in LAST),
        curve=(*points, Point(1.0, pretraining, score)) if pretrained_by(stages) is not None else (),
        right=_right(found.judged),
    )


def _finetune_at(job: Job, pretrained: Stage, finetuned: Stage, share: float) -> Stage:
    """Finetune a checkpoint, as held-out labels chose for the last one."""
    work = functools.partial(_finetune, job, pretrained, Choice(**finetuned.results["chosen"]), share)
    return job.stage("point", [pretrained, finetuned], {"share": share}, work, reads=LABELS)


def _finetune(
    job: Job, pretrained: Stage, choice: Choice, share: float, folder: Path
) -> tuple[dict[str, Any], dict[str, Any]]:
    cost = Cost()
    with measured(cost, job.world.device):
        student = job.new_student()
        load_weights(pretrained.folder / snapshot(share), student)
        mode: Mode = "probe" if choice.group == "probe" else "finetune"
        state = new_fit(mode, job, student, job.recipe.finetune, shown=SHOWN).fitted(choice, folder, cost)
        if job.world.first:
            save_weights(folder / STUDENT, state)
    return {}, cost.as_dict()


def _right(judged: Stage) -> Right:
    kept = load_file(judged.folder / "predictions.safetensors")
    right: Right = (kept["logits"].argmax(1) == kept["targets"]).numpy()
    return right


def _spent(stages: Iterable[Stage]) -> Spent:
    costs = [stage.cost for stage in stages]
    return Spent(
        float(sum(cost.get("seconds", 0.0) for cost in costs)), float(sum(cost.get("flops", 0.0) for cost in costs))
    )
