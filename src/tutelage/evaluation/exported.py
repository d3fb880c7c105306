"""What the exported files are worth: their own metrics on the test set, and what INT8 costs."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tutelage.data.masks import decode_mask
from tutelage.data.samples import Samples
from tutelage.errors import DataError
from tutelage.ledger import Cost, measured
from tutelage.methods.job import Job
from tutelage.run import Stage
from tutelage.runtime import Classifier, Segmenter, open_model
from tutelage.tasks.segmentation import pixel_counts

FORMS = ("onnx", "int8")


def evaluate_exported(job: Job, exported: Stage, test: Samples | None) -> dict[str, Any] | None:
    """Evaluate ``model.onnx`` and ``model.int8.onnx`` on the test set, as those who use them run them.

    Returns:
        Metrics by form, ``images``, and ``int8_loss`` (what INT8 loses of the primary metric); ``None`` without test
        data or without a kept INT8 file: the float file gives the trained model's logits, whose metrics are known.
    """
    # Asked of the recipe, not of the results, which other processes do not have: all must wait for the same stages.
    if test is None or "int8" not in job.recipe.export.forms:
        return None
    work = functools.partial(_work, job, exported, test)
    return dict(job.stage("exported", [exported], {"test": test.fingerprint}, work).results) or None


def _work(job: Job, exported: Stage, test: Samples, _: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    cost = Cost()
    results: dict[str, Any] = {}
    if not job.world.first or not exported.results["int8"]["kept"]:
        return results, cost.as_dict()
    folder = job.run.folder / "model"
    with measured(cost, job.world.device):
        for form in FORMS:
            model = open_model(folder, int8=form == "int8")
            results[form] = job.task.metrics(_outcomes(model, test), job.truth(test))
        results["int8_loss"] = results["onnx"][job.task.primary] - results["int8"][job.task.primary]
        results["images"] = len(test)
        cost.images = len(FORMS) * len(test)
    return results, cost.as_dict()


def _outcomes(model: Classifier | Segmenter, test: Samples) -> Tensor:
    """Return what a file makes of the test set, as the task's metrics read it (see :meth:`Job.outcomes`)."""
    given = model.given(test)
    if isinstance(model, Classifier):
        return torch.from_numpy(model.logits(given))
    assert test.masks is not None
    counts = []
    for answer, truth in zip(model.answers(given), test.masks, strict=True):
        if answer.mask is None:
            raise DataError(answer.error)
        counts.append(pixel_counts(torch.from_numpy(answer.mask), decode_mask(truth), len(model.classes)))
    return torch.stack(counts)
