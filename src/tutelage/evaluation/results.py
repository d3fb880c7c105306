"""What a run found, as plain data with a version: ``results.json``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tutelage.data.prepare import PreparedData
from tutelage.data.problems import summarize
from tutelage.methods.job import Job
from tutelage.methods.pretraining import collapse_of
from tutelage.methods.pseudo_label import found_in_rounds
from tutelage.models.model import parameter_count
from tutelage.run import SCHEMA, Stage, versions


@dataclass(frozen=True)
class Result:
    """A finished run.

    Attributes:
        folder: The run folder.
        data: The content of ``results.json``.
        stages: Its stages in order.
    """

    folder: Path
    data: Mapping[str, Any]
    stages: tuple[Stage, ...] = ()

    @property
    def metrics(self) -> Mapping[str, Any]:
        """The student's metrics: ``val`` (on held-out labels) and ``test``, or ``None`` without test data."""
        metrics: Mapping[str, Any] = self.data["metrics"]
        return metrics


def collect(
    job: Job,
    data: PreparedData,
    stages: Mapping[str, Stage],
    evaluated: Stage,
    baselines: Mapping[str, tuple[Mapping[str, Stage], Stage]],
) -> dict[str, Any]:
    """Return the content of ``results.json``.

    Args:
        job: What was run.
        data: Its samples.
        stages: The method's stages.
        evaluated: The evaluation.
        baselines: Stages and evaluation of each baseline.
    """
    recipe = job.recipe
    spent = [*stages.values(), evaluated]
    model = job.new_student()
    student = {"name": recipe.student, "params": parameter_count(model), **model.encoder.source}
    teacher: Any = stages["adapt"].results["teacher"] if "adapt" in stages else None
    if teacher is None and "features" in stages:
        teacher = stages["features"].results["teachers"]
    return {
        "schema": SCHEMA,
        "task": recipe.task,
        "modality": recipe.modality,
        "method": recipe.method,
        "start": recipe.start,
        "seed": recipe.seed,
        "teacher": teacher,
        "student": student,
        "labels": {"amount": recipe.data.labels, "images": len(data.labeled), "classes": len(data.labeled.classes)},
        "images": data.counts(),
        "problems": {part: summarize(found) for part, found in data.problems.items()},
        "metrics": {"val": _held_out(stages), "test": evaluated.results["student"]},
        "teacher_metrics": evaluated.results["teacher"],
        **_class_iou(evaluated, data.labeled.classes),
        "agreement": evaluated.results.get("agreement"),
        "collapsed": collapse_of(stages),
        "rounds": found_in_rounds(stages),
        "cost": _cost(spent),
        "baselines": {
            name: {
                "metrics": {"val": _held_out(theirs), "test": judged.results["student"]},
                "cost": _cost([*theirs.values(), judged]),
                "collapsed": collapse_of(theirs),
            }
            for name, (theirs, judged) in baselines.items()
        },
        "versions": versions(),
    }


def _class_iou(evaluated: Stage, classes: Sequence[str]) -> dict[str, Any]:
    """Return each class's intersection over union on the test set, where every pixel is told."""
    values = evaluated.results.get("class_iou")
    return {} if values is None else {"class_iou": dict(zip(classes, values, strict=True))}


def _held_out(stages: Mapping[str, Stage]) -> dict[str, Any]:
    """Return the metrics that a method's last stage chose by."""
    return dict(list(stages.values())[-1].results["chosen"]["metrics"])


def _cost(stages: list[Stage]) -> dict[str, Any]:
    rows = [{"name": stage.name, **stage.cost} for stage in stages]
    return {
        "stages": rows,
        "seconds": sum(row["seconds"] for row in rows),
        "flops": sum(row["flops"] for row in rows),
    }
