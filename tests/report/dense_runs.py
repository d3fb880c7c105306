"""A finished run of segmentation, made of one of classification: what differs is written anew."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tests.report.conftest import write_run
from torch import Tensor

from tutelage.data.masks import Mask, MaskCode, decode_mask
from tutelage.data.samples import Samples
from tutelage.evaluation.mistakes import MISTAKES
from tutelage.evaluation.worst import write_worst
from tutelage.models.weights import save_weights
from tutelage.tasks import TASKS
from tutelage.tasks.segmentation import pixel_counts

METRICS = TASKS["segmentation"].metrics

ERRORS = {"student": 0.25, "probe": 0.4, "finetune": 0.15, "scratch": 0.5}
"""Share of the blocks of a mask that each model tells wrong."""

BLOCK = 8


def write_dense_run(
    folder: Path,
    *,
    classes: Sequence[str] = ("background", "cat", "dog"),
    ids: Sequence[str] = ("photo",),
    images: int = 14,
    nowhere: int = 0,
    **how: Any,
) -> Path:
    """Write it.

    Args:
        folder: Where.
        classes: Their names.
        ids: What the test images' ids end with, in turn.
        images: Test images.
        nowhere: How many of the classes, the last ones, no image has.
        how: As :func:`write_run` takes it.
    """
    write_run(folder, classes=list(classes), images=images, **how)
    samples = pictures(images, classes, ids, nowhere)
    results = json.loads((folder / "results.json").read_text())
    counts = {name: counted(samples, name) for name in ERRORS}
    found = {name: METRICS(each, torch.empty(images, 0)) for name, each in counts.items()}
    tested = results["metrics"]["test"] is not None

    for part in results["folders"].values():
        manifest = folder / part / "stage.json"
        stage = json.loads(manifest.read_text())
        _judged(stage["results"])
        manifest.write_text(json.dumps(stage))
    evaluated = folder / results["folders"]["evaluate"]
    (evaluated / MISTAKES).unlink(missing_ok=True)
    taught = bool(results["teacher"])
    if tested:
        kept = {name: counts[name] for name in (["student", "probe", "finetune"] if taught else ["student"])}
        save_weights(evaluated / "predictions.safetensors", kept)
        teacher = counts["finetune"] if taught else None
        write_worst(evaluated, samples, lambda shown: predicted(samples, shown), counts["student"], teacher)
    for name, baseline in results["baselines"].items():
        baseline["metrics"] = {"val": found["scratch"], "test": found["scratch"] if tested else None}
        if tested:
            place = folder / results["folders"][f"{name}-evaluate"]
            save_weights(place / "predictions.safetensors", {"student": counts["scratch"]})
    if results.get("exported"):
        results["exported"] |= dict.fromkeys(("onnx", "int8"), found["student"])
    results |= {
        "task": "segmentation",
        "metrics": {"val": found["student"], "test": found["student"] if tested else None},
        "teacher_metrics": {mode: found[mode] for mode in results["teacher_metrics"]},
        "agreement": None,
    }
    (folder / "results.json").write_text(json.dumps(results, allow_nan=False))
    return folder


def pictures(images: int, classes: Sequence[str], ids: Sequence[str], nowhere: int) -> Samples:
    """Return images of blocks of classes, the first class the most frequent, with a frame that does not count."""
    random = np.random.default_rng(3)
    numbers = max(1, len(classes) - nowhere)
    pixels, masks = [], []
    for row in range(images):
        shape = (5, 7) if row % 2 else (20, 35)
        blocks = np.minimum(random.geometric(0.6, shape) - 1, numbers - 1).astype(np.uint8)
        truth = blocks.repeat(BLOCK, 0).repeat(BLOCK, 1)
        truth[:2] = 255
        masks.append(Mask(truth, MaskCode()))
        pixels.append(random.integers(0, 256, (*truth.shape, 3)).astype(np.uint8))
    named = tuple(f"{row} {ids[row % len(ids)]}" for row in range(images))
    return Samples(ids=named, images=pixels, masks=masks, classes=tuple(classes))


def told(samples: Samples, row: int, model: str) -> Tensor:
    """Return the mask of an image that a model tells, wrong in some blocks."""
    assert samples.masks is not None
    truth = decode_mask(samples.masks[row]).clamp(min=0).long().numpy()
    random = np.random.default_rng([row, *map(ord, model)])
    wrong = random.random((truth.shape[0] // BLOCK, truth.shape[1] // BLOCK)) < ERRORS[model]
    mask = np.where(wrong.repeat(BLOCK, 0).repeat(BLOCK, 1), (truth + 1) % len(samples.classes), truth)
    return torch.from_numpy(mask)


def counted(samples: Samples, model: str) -> Tensor:
    """Return what is counted of a model's masks, [N, C, 3]."""
    assert samples.masks is not None
    truths = [decode_mask(mask) for mask in samples.masks]
    rows = [pixel_counts(told(samples, row, model), truth, len(samples.classes)) for row, truth in enumerate(truths)]
    return torch.stack(rows)


def predicted(samples: Samples, shown: Sequence[Any]) -> Iterator[Tensor]:
    """Yield the student's masks of some of the images."""
    assert samples.images is not None
    for picture in shown:
        row = next(row for row, each in enumerate(samples.images) if np.array_equal(np.asarray(each), picture))
        yield told(samples, row, "student")


def _judged(results: dict[str, Any]) -> None:
    """Give choices the metrics of a task that is told for every pixel."""
    choices = [*results.get("judged", ()), *results.get("modes", {}).values()]
    choices += [results["chosen"]] if isinstance(results.get("chosen"), dict) else []
    for choice in choices:
        share = choice["metrics"].get("accuracy")
        if share is not None:
            choice["metrics"] = {"miou": share - 0.2, "pixel_accuracy": share, "class_accuracy": share - 0.1}
