"""What the exported files are worth: their own metrics on the test set, and what INT8 costs."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tutelage.data.pixels import decode_pixels
from tutelage.data.samples import ImageSource, Samples
from tutelage.errors import DataError
from tutelage.export import EXPORTERS
from tutelage.export.scoring import Score, open_onnx
from tutelage.ledger import Cost, measured
from tutelage.methods.job import Job
from tutelage.run import Stage

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
    with measured(cost, job.world.device):
        files = [open_onnx(job.run.folder / "model" / EXPORTERS[form].file) for form in FORMS]
        rows, logits = _logits(files, test.images, job)
        targets = torch.from_numpy(test.labels()[rows])
        for form, found in zip(FORMS, logits, strict=True):
            results[form] = job.task.metrics(found, targets)
        results["int8_loss"] = results["onnx"][job.task.primary] - results["int8"][job.task.primary]
        results["images"] = len(rows)
        cost.images = len(FORMS) * len(rows)
    return results, cost.as_dict()


def _logits(files: list[Score], images: Any, job: Job) -> tuple[list[int], list[Tensor]]:
    """Return which images can be decoded, and every file's logits of them; one image is held at a time."""
    rows: list[int] = []
    found: list[list[Tensor]] = [[] for _ in files]
    with job.progress.track("evaluate the exported files", len(images)) as update:
        for row, image in enumerate(images):
            pixels = _decoded(image)
            if pixels is not None:
                rows.append(row)
                for logits, score in zip(found, files, strict=True):
                    logits.append(torch.from_numpy(score(pixels)))
            update(row + 1, {})
    if not rows:
        raise DataError("no test image can be decoded")
    return rows, [torch.cat(logits) for logits in found]


def _decoded(image: ImageSource) -> Any:
    try:
        return np.ascontiguousarray(decode_pixels(image))[None]
    except DataError:
        return None
