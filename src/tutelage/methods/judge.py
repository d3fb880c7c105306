"""Last stage of a method without a last finetuning: what the distilled student is worth on held-out labels."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tutelage.ledger import Cost, measured
from tutelage.methods.choose import Choice
from tutelage.methods.job import LABELS, Job
from tutelage.methods.pretraining import pretrained_by
from tutelage.models.weights import load_weights, save_weights
from tutelage.run import Stage


def judge(job: Job, stages: Mapping[str, Stage]) -> Stage:
    """Take the student as its pretraining left it, and judge it as finetuning would; writes ``student.safetensors``.

    Without given validation data it is judged on all labels. Its teacher has seen those, so that the metrics are
    optimistic.
    """
    distilled = pretrained_by(stages)
    assert distilled is not None

    def work(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
        cost = Cost()
        held = job.labeled if job.validation is None else job.validation
        with measured(cost, job.world.device):
            student = job.new_student()
            load_weights(distilled.folder / "student.safetensors", student)
            metrics = job.task.metrics(job.outcomes(student, held, cost=cost), job.truth(held))
            if job.world.first:
                save_weights(folder / "student.safetensors", student.state_dict())
        chosen = Choice("distilled", "distilled", "raw", metrics)
        return {"chosen": chosen.as_dict()}, cost.as_dict()

    inputs = {"student": job.recipe.student, "start": job.recipe.start}
    return job.stage("judge", [distilled], inputs, work, reads=LABELS)
