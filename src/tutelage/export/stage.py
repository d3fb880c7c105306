"""The stage that leaves the model folder."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from tutelage.data.samples import Samples
from tutelage.errors import ExportError
from tutelage.export import EXPORTERS, Exporter, Material, check_mask_parity, check_parity, save_model
from tutelage.export.graph import Deployable
from tutelage.export.int8 import Agreement, compare, compare_masks, readable, readable_samples
from tutelage.export.scoring import Sample, open_onnx, open_onnx_masks
from tutelage.ledger import Cost, measured
from tutelage.methods.job import Job
from tutelage.models.preprocess import TEXTUAL
from tutelage.models.weights import load_weights
from tutelage.run import Stage
from tutelage.runtime.palette import Color
from tutelage.runtime.texts import SEPARATOR


@dataclass(frozen=True)
class Amounts:
    """How many samples checks take at most.

    Attributes:
        parity: Real samples that an exact form is compared with the trained model on.
        calibration: Transfer samples that INT8 is calibrated with.
        gate: Transfer samples, others than those, that INT8 is judged on.
    """

    parity: int
    calibration: int
    gate: int


MOST = Amounts(parity=32, calibration=256, gate=512)

DENSE_MOST = Amounts(parity=8, calibration=64, gate=64)
"""Where every pixel is told: each image then counts many times, and takes long."""


def export(job: Job, stages: Mapping[str, Stage], provenance: Mapping[str, Any]) -> Stage:
    """Write ``model/``: weights, ``model.json`` and every form asked for, each checked.

    Results hold, by form, ``bytes`` and what the check found: ``parity`` with the trained model, or ``agreement``
    with the float file (on samples, or on pixels of images) and whether the form was ``kept``.

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
class _Shown:
    """Transfer samples by what they are for; none is both calibrated with and judged on."""

    parity: Sequence[Sample]
    calibration: Samples
    gate: Samples


def _shown(job: Job, deployable: Deployable) -> _Shown:
    transfer, amounts = job.transfer, DENSE_MOST if deployable.dense else MOST
    # Captions that came with images are nothing to a model of images.
    transfer = replace(transfer, texts=None) if deployable.modality == "image" else transfer
    spread = np.linspace(0, len(transfer) - 1, min(amounts.parity, len(transfer))).astype(np.int64)
    mixed = np.random.default_rng(job.recipe.seed).permutation(len(transfer))
    # Ranges of texts are found for each as it comes; there is nothing to calibrate.
    fitted = min(amounts.calibration, len(transfer) // 2) if transfer.modality == "image" else 0
    return _Shown(
        list(readable_samples(transfer.subset(spread))),
        transfer.subset(mixed[:fitted]),
        transfer.subset(mixed[fitted : fitted + amounts.gate]),
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
        deployable = Deployable(student)
        shown = _shown(job, deployable)
        # What an earlier export left beside these would be another model's.
        for name in (*(exporter.file for exporter in EXPORTERS.values()), "latency.json"):
            (folder / name).unlink(missing_ok=True)
        save_model(folder, student, classes=job.labeled.classes, task=job.task.name, provenance=provenance)
        metadata = {"provenance": json.dumps(provenance)}
        if any(SEPARATOR in text for text in job.labeled.texts or ()):
            metadata["sentences"] = "2"
        palette = _palette(job) if deployable.dense else None
        material = Material(student, job.labeled.classes, metadata, shown.calibration.images or (), palette)
        for name in forms:
            exporter = EXPORTERS[name]
            if exporter.exact:
                results[name] = _exact(exporter, material, folder, shown.parity)
            else:
                results[name] = _gated(exporter, material, folder, shown.gate, job.recipe.export.int8_drop)
                if not results[name]["kept"]:
                    job.progress.say(f"{exporter.file} is not kept: {results[name]['why']}")
    return results, cost.as_dict()


def _exact(exporter: Exporter, material: Material, folder: Path, samples: Sequence[Sample]) -> dict[str, Any]:
    path = exporter.write(material, folder)
    found: dict[str, Any] = {"bytes": path.stat().st_size}
    if Deployable(material.model).dense:
        if exporter.open_masks is not None:
            images = [sample for sample in samples if isinstance(sample, np.ndarray)]
            parity = check_mask_parity(material.model, path, images, opener=exporter.open_masks)
            found |= {"parity": parity.relative, "same_pixels": parity.agreement}
    elif exporter.open is not None:
        found["parity"] = check_parity(material.model, path, samples, opener=exporter.open).relative
    return found


def _gated(exporter: Exporter, material: Material, folder: Path, samples: Samples, drop: float) -> dict[str, Any]:
    """Write a form that may fall short, and remove it where it does; the run goes on without it."""
    path = folder / exporter.file
    dense = Deployable(material.model).dense
    found: dict[str, Any] = {"kept": False, "tolerance": drop}
    try:
        exporter.write(material, folder)
        judged = _compared(exporter, folder, samples, dense=dense)
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
    what = f"{judged.images} transfer {TEXTUAL[samples.modality]}"
    why = (
        f"it names the float file's class on {judged.agreement:.1%} of {of}{what}, and "
        f"{1 - drop:.1%} are asked for (export.int8_drop)"
    )
    return {**found, "why": why}


def _compared(exporter: Exporter, folder: Path, samples: Samples, *, dense: bool) -> Agreement:
    exact, path = folder / EXPORTERS["onnx"].file, folder / exporter.file
    if dense:
        assert exporter.open_masks is not None
        return compare_masks(open_onnx_masks(exact), exporter.open_masks(path), readable(samples.images or ()))
    assert exporter.open is not None
    return compare(open_onnx(exact), exporter.open(path), readable_samples(samples))


def _palette(job: Job) -> list[Color] | None:
    """Return the colors of the classes in the labeled masks, if those have one for each."""
    masks = job.labeled.masks
    return masks[0].code.colors(len(job.labeled.classes)) if masks else None
