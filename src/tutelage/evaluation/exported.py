"""What the exported files are worth: their own metrics on the test set, and what INT8 costs."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import torch

from tutelage.data.samples import Samples
from tutelage.ledger import Cost, measured
from tutelage.methods.job import Job
from tutelage.run import Stage
from tutelage.runtime import Classifier

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
    assert test.images is not None
    folder, targets = job.run.folder / "model", torch.from_numpy(test.labels())
    with measured(cost, job.world.device):
        for form in FORMS:
            logits = Classifier(folder, int8=form == "int8").logits(test.images)
            results[form] = job.task.metrics(torch.from_numpy(logits), targets)
        results["int8_loss"] = results["onnx"][job.task.primary] - results["int8"][job.task.primary]
        results["images"] = len(test)
        cost.images = len(FORMS) * len(test)
    return results, cost.as_dict()
