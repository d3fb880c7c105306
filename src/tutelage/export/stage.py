"""The stage that leaves the model folder."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tutelage.data.samples import ImageSource
from tutelage.errors import ExportError
from tutelage.export import EXPORTERS, Exporter, Material, check_mask_parity, check_parity, save_model
from tutelage.export.graph import Deployable
from tutelage.export.int8 import Agreement, compare, compare_masks, readable
from tutelage.export.scoring import Pixels, open_onnx, open_onnx_masks
from tutelage.ledger import Cost, measured
from tutelage.methods.job import Job
from tutelage.models.weights import load_weights
from tutelage.run import Stage
from tutelage.runtime.palette import Color


@dataclass(frozen=True)
class Amounts:
    """How many images checks take at most.

    Attributes:
        parity: Real images that an exact form is compared with the trained model on.
        calibration: Transfer images that INT8 is calibrated with.
        gate: Transfer images, others than those, that INT8 is judged on.
    """

    parity: int
    calibration: int
    gate: int


IMAGES = Amounts(parity=32, calibration=256, gate=512)

DENSE_IMAGES = Amounts(parity=8, calibration=64, gate=64)
"""Where every pixel is told: each image then counts many times, and takes long."""


def export(job: Job, stages: Mapping[str, Stage], provenance: Mapping[str, Any]) -> Stage:
    """Write ``model/``: weights, ``model.json`` and every form asked for, each checked.

    Results hold, by form, ``bytes`` and what the check found: ``parity`` with the trained model, or ``agreement``
    with the float file (on images, or on their pixels) and whether the form was ``kept``.

    Raises:
        ExportError: An exact form cannot be made, or does not agree with the trained model.
    """
    folder = job.run.folder / "model"
    made_by = list(stages.values())[-1]
    settings = job.recipe.export
    forms = [name for name in EXPORTERS if name == "onnx" or name in settings.forms]
    inputs: dict[str, Any] = {"forms": forms}
    if not all(EXPORTERS[name].exact for name in forms):
        inputs["int8_drop"] = settings.int8_drop

    def outputs(results: Mapping[str, Any]) -> list[Path]:
        kept = [EXPORTERS[name].file for name, found in results.items() if found.get("kept", True)]
        return [folder / name for name in ("model.safetensors", "model.json", *kept)]

    work = functools.partial(_work, job, made_by, folder, provenance, forms)
    return job.stage("export", stages.values(), inputs, work, outputs=outputs)


@dataclass(frozen=True)
class _Pictures:
    """Transfer images by what they are for; no image is both calibrated with and judged on."""

    parity: Sequence[Pixels]
    calibration: Sequence[ImageSource]
    gate: Sequence[ImageSource]


def _pictures(job: Job, amounts: Amounts) -> _Pictures:
    images = job.transfer.images
    assert images is not None
    spread = np.linspace(0, len(images) - 1, min(amounts.parity, len(images))).astype(int)
    mixed = np.random.default_rng(job.recipe.seed).permutation(len(images))
    fitted = min(amounts.calibration, len(images) // 2)
    return _Pictures(
        list(readable([images[row] for row in spread])),
        [images[row] for row in mixed[:fitted]],
        [images[row] for row in mixed[fitted : fitted + amounts.gate]],
    )


def _work(
    job: Job, made_by: Stage, folder: Path, provenance: Mapping[str, Any], forms: Sequence[str], _: Path
) -> tuple[dict[str, Any], dict[str, Any]]:
    cost = Cost()
    results: dict[str, Any] = {}
    if not job.world.first:
        return results, cost.as_dict()
    with measured(cost, job.world.device):
        student = job.new_student()
        load_weights(made_by.folder / "student.safetensors", student)
        student.cpu().eval()
        dense = Deployable(student).dense
        pictures = _pictures(job, DENSE_IMAGES if dense else IMAGES)
        # What an earlier export left beside these would be another model's.
        for name in (*(exporter.file for exporter in EXPORTERS.values()), "latency.json"):
            (folder / name).unlink(missing_ok=True)
        save_model(folder, student, classes=job.labeled.classes, task=job.task.name, provenance=provenance)
        metadata = {"provenance": json.dumps(provenance)}
        palette = _palette(job) if dense else None
        material = Material(student, job.labeled.classes, metadata, pictures.calibration, palette)
        for name in forms:
            exporter = EXPORTERS[name]
            if exporter.exact:
                results[name] = _exact(exporter, material, folder, pictures.parity)
            else:
                results[name] = _gated(exporter, material, folder, pictures.gate, job.recipe.export.int8_drop)
                if not results[name]["kept"]:
                    job.progress.say(f"{exporter.file} is not kept: {results[name]['why']}")
    return results, cost.as_dict()


def _exact(exporter: Exporter, material: Material, folder: Path, pictures: Sequence[Pixels]) -> dict[str, Any]:
    path = exporter.write(material, folder)
    found: dict[str, Any] = {"bytes": path.stat().st_size}
    if Deployable(material.model).dense:
        if exporter.open_masks is not None:
            parity = check_mask_parity(material.model, path, pictures, opener=exporter.open_masks)
            found |= {"parity": parity.relative, "same_pixels": parity.agreement}
    elif exporter.open is not None:
        found["parity"] = check_parity(material.model, path, pictures, opener=exporter.open).relative
    return found


def _gated(
    exporter: Exporter, material: Material, folder: Path, images: Sequence[ImageSource], drop: float
) -> dict[str, Any]:
    """Write a form that may fall short, and remove it where it does; the run goes on without it."""
    path = folder / exporter.file
    dense = Deployable(material.model).dense
    found: dict[str, Any] = {"kept": False, "tolerance": drop}
    try:
        exporter.write(material, folder)
        judged = _compared(exporter, folder, images, dense=dense)
    except ExportError as error:
        path.unlink(missing_ok=True)
        return {**found, "why": str(error)}
    found |= {
        "bytes": path.stat().st_size,
        "agreement": judged.agreement,
        "probability": judged.probability,
        "images": judged.images,
    }
    if judged.agreement >= 1 - drop:
        return {**found, "kept": True}
    path.unlink()
    of = "the pixels of " if dense else ""
    why = (
        f"it names the float file's class on {judged.agreement:.1%} of {of}{judged.images} transfer images, and "
        f"{1 - drop:.1%} are asked for (export.int8_drop)"
    )
    return {**found, "why": why}


def _compared(exporter: Exporter, folder: Path, images: Sequence[ImageSource], *, dense: bool) -> Agreement:
    exact, path = folder / EXPORTERS["onnx"].file, folder / exporter.file
    if dense:
        assert exporter.open_masks is not None
        return compare_masks(open_onnx_masks(exact), exporter.open_masks(path), images)
    assert exporter.open is not None
    return compare(open_onnx(exact), exporter.open(path), images)


def _palette(job: Job) -> list[Color] | None:
    """Return the colors of the classes in the labeled masks, if those have one for each."""
    masks = job.labeled.masks
    return masks[0].code.colors(len(job.labeled.classes)) if masks else None
