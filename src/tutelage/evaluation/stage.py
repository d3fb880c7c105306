"""The stage that reads test labels: the only one that may."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from tutelage.data.samples import ImageSource, Samples
from tutelage.evaluation.mistakes import write_mistakes
from tutelage.evaluation.pixels import predict_masks
from tutelage.evaluation.worst import write_worst
from tutelage.ledger import Cost, measured
from tutelage.methods.adapt import adapted_by, load_adapted
from tutelage.methods.job import Job
from tutelage.models.model import Model
from tutelage.models.weights import load_weights, save_weights
from tutelage.run import Stage
from tutelage.tasks.segmentation import class_iou


def evaluate(job: Job, stages: Mapping[str, Stage], test: Samples | None) -> Stage:
    """Evaluate the student, and the teacher in every mode that it was adapted in, on the test set.

    Results hold ``student`` and ``teacher`` metrics, and the student's ``class_iou`` where every pixel is told;
    ``predictions.safetensors`` the logits of each, [N, C], and the ``targets``; ``mistakes.json`` and pictures what
    the student was most surely wrong about (a baseline's are not kept). Of a dense task the predictions are what was
    counted of each image's pixels, [N, C, 3], and ``worst.json`` and pictures the images that it tells worst.
    """
    made_by = list(stages.values())[-1]
    inputs = {"test": None if test is None else test.fingerprint}
    return job.stage("evaluate", stages.values(), inputs, functools.partial(_work, job, stages, made_by, test))


def evaluate_weights(job: Job, made_by: Stage, file: str, test: Samples, *, teacher: bool = False) -> Stage:
    """Evaluate the weights in one file of a stage on the test set, as a stage of their own.

    Results hold the ``metrics``; ``predictions.safetensors`` the ``logits``, [N, C], and the ``targets``, or of a
    dense task the ``counts``, [N, C, 3].

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
            outcomes, truth = job.outcomes(model, test, cost=cost), job.truth(test)
            if job.world.first:
                found = {"counts": outcomes} if job.dense else {"logits": outcomes, "targets": truth}
                save_weights(folder / "predictions.safetensors", found)
        return {"metrics": job.task.metrics(outcomes, truth)}, cost.as_dict()

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
        truth, chosen = job.truth(test), None
        outcomes = {"student": job.outcomes(student, test, cost=cost)}
        results["student"] = job.task.metrics(outcomes["student"], truth)
        if job.dense:
            results["class_iou"] = class_iou(outcomes["student"])
        if "adapt" in stages:
            teacher = job.new_teacher()
            for mode in stages["adapt"].results["modes"]:
                load_adapted(adapted_by(stages, mode), teacher)
                outcomes[mode] = job.outcomes(teacher, test, cost=cost)
                results["teacher"][mode] = job.task.metrics(outcomes[mode], truth)
            chosen = outcomes[stages["adapt"].results["chosen"]]
            if not job.dense:
                results["agreement"] = float((chosen.argmax(1) == outcomes["student"].argmax(1)).float().mean())
        if job.world.first:
            known = {} if job.dense else {"targets": truth}
            save_weights(folder / "predictions.safetensors", {**outcomes, **known})
            if not job.prefix and job.dense:
                write_worst(folder, test, functools.partial(_masks, job, student), outcomes["student"], chosen)
            elif not job.prefix:
                write_mistakes(folder, test, outcomes["student"], chosen)
    return results, cost.as_dict()


def _masks(job: Job, student: Model, images: Sequence[ImageSource]) -> Iterator[Tensor]:
    """Return the class of every pixel of a few images, as the evaluation tells it."""
    size = job.recipe.views.student_size
    assert size is not None
    return predict_masks(student, images, size=size, window=job.recipe.views.window)
