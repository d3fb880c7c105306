"""The stage that leaves the model folder."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tutelage.data.images import decode
from tutelage.export import EXPORTERS, check_parity, save_model
from tutelage.ledger import Cost, measured
from tutelage.methods.job import Job
from tutelage.models.weights import load_weights
from tutelage.run import Stage

PARITY_IMAGES = 32
"""Real images that the exported model is compared with the trained one on."""


def export(job: Job, stages: Mapping[str, Stage], provenance: Mapping[str, Any]) -> Stage:
    """Write ``model/``: weights, ``model.json`` and every exported form, each checked against the trained model.

    Raises:
        ExportError: An exported form does not agree with the trained model.
    """
    folder = job.run.folder / "model"
    made_by = list(stages.values())[-1]
    outputs = [folder / "model.onnx", folder / "model.safetensors", folder / "model.json"]
    work = functools.partial(_work, job, made_by, folder, provenance)
    return job.stage("export", stages.values(), {"forms": list(EXPORTERS)}, work, outputs=outputs)


def _work(
    job: Job, made_by: Stage, folder: Path, provenance: Mapping[str, Any], _: Path
) -> tuple[dict[str, Any], dict[str, Any]]:
    cost = Cost()
    results: dict[str, Any] = {}
    if not job.world.first:
        return results, cost.as_dict()
    with measured(cost, job.world.device):
        student = job.new_student()
        load_weights(made_by.folder / "student.safetensors", student)
        student.cpu().eval()
        rows = np.linspace(0, len(job.transfer) - 1, min(PARITY_IMAGES, len(job.transfer))).astype(int)
        assert job.transfer.images is not None
        pictures = [decode(job.transfer.images[row]).permute(1, 2, 0).numpy() for row in rows]
        save_model(folder, student, classes=job.labeled.classes, task=job.task.name, provenance=provenance)
        for name, exporter in EXPORTERS.items():
            path = exporter(
                student,
                folder / f"model.{name}",
                classes=job.labeled.classes,
                metadata={"provenance": json.dumps(provenance)},
            )
            parity = check_parity(student, path, pictures)
            results[name] = {"bytes": path.stat().st_size, "parity": parity.relative}
    return results, cost.as_dict()
