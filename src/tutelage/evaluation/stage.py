"""The stage that reads test labels: the only one that may."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tutelage.data.samples import Samples
from tutelage.evaluation.mistakes import write_mistakes
from tutelage.ledger import Cost, measured
from tutelage.methods.adapt import adapted_by, load_adapted
from tutelage.methods.job import Job
from tutelage.models.weights import load_weights, save_weights
from tutelage.run import Stage


def evaluate(job: Job, stages: Mapping[str, Stage], test: Samples | None) -> Stage:
    """Evaluate the student, and the teacher in every mode that it was adapted in, on the test set.

    Results hold ``student`` and ``teacher`` metrics; ``predictions.safetensors`` the logits of each, [N, C], and
    the ``targets``; ``mistakes.json`` and pictures what the student was most surely wrong about (a baseline's are
    not kept).
    """
    made_by = list(stages.values())[-1]
    inputs = {"test": None if test is None else test.fingerprint}
    return job.stage("evaluate", stages.values(), inputs, functools.partial(_work, job, stages, made_by, test))


def evaluate_weights(job: Job, made_by: Stage, file: str, test: Samples, *, teacher: bool = False) -> Stage:
    """Evaluate the weights in one file of a stage on the test set, as a stage of their own.

    Results hold the ``metrics``; ``predictions.safetensors`` the ``logits``, [N, C], and the ``targets``.

    Args:
        job: Task, views, device.
        made_by: The stage.
        file: A file in its folder.
        test: Labeled.
        teacher: Whether they are the teacher's; the student's otherwise.
    """

    def work(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
        cost = Cost()
        with measured(cost, job.world.device):
            model = job.new_teacher() if teacher else job.new_student()
            load_weights(made_by.folder / file, model)
            targets = torch.from_numpy(test.labels())
            logits = job.predict(model, test, cost=cost)
            if job.world.first:
                save_weights(folder / "predictions.safetensors", {"logits": logits, "targets": targets})
        return {"metrics": job.task.metrics(logits, targets)}, cost.as_dict()

    return job.stage("evaluate", [made_by], {"test": test.fingerprint, "file": file}, work)


def _work(
    job: Job, stages: Mapping[str, Stage], made_by: Stage, test: Samples | None, folder: Path
) -> tuple[dict[str, Any], dict[str, Any]]:
    cost = Cost()
    results: dict[str, Any] = {"student": None, "teacher": {}, "images": 0 if test is None else len(test)}
    if test is None:
        return results, cost.as_dict()
    with measured(cost, job.world.device):
        student = job.new_student()
        load_weights(made_by.folder / "student.safetensors", student)
        targets = torch.from_numpy(test.labels())
        chosen: Tensor | None = None
        logits = {"targets": targets, "student": job.predict(student, test, cost=cost)}
        results["student"] = job.task.metrics(logits["student"], targets)
        if "adapt" in stages:
            teacher = job.new_teacher()
            for mode in stages["adapt"].results["modes"]:
                load_adapted(adapted_by(stages, mode), teacher)
                logits[mode] = job.predict(teacher, test, cost=cost)
                results["teacher"][mode] = job.task.metrics(logits[mode], targets)
            chosen = logits[stages["adapt"].results["chosen"]]
            results["agreement"] = float((chosen.argmax(1) == logits["student"].argmax(1)).float().mean())
        if job.world.first:
            save_weights(folder / "predictions.safetensors", logits)
            if not job.prefix:
                write_mistakes(folder, test, logits["student"], chosen)
    return results, cost.as_dict()
