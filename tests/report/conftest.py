"""A finished run's folder, written as the pipeline writes one, without training anything."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tutelage.data.problems import KINDS, Problem, summarize
from tutelage.data.samples import Samples
from tutelage.data.settings import DataSettings
from tutelage.evaluation.mistakes import write_mistakes
from tutelage.ledger import Cost
from tutelage.models.weights import save_weights
from tutelage.recipe import Recipe
from tutelage.report.finished import Finished, read_run
from tutelage.run import SCHEMA, versions
from tutelage.runtime.texts import paired
from tutelage.tasks import TASKS

METRICS = TASKS["classification"].metrics


def write_run(
    folder: Path,
    *,
    classes: list[str] | int = 10,
    method: str = "task-oriented",
    baselines: tuple[str, ...] = ("scratch",),
    test: bool = True,
    validation: bool = False,
    history: bool = True,
    start: str = "random",
    images: int = 597,
    extras: list[str] | None = None,
    modality: str = "image",
) -> Path:
    """Write it; with ``extras``, texts to be found in them, also what only newer or more curious runs have."""
    names = [str(number) for number in range(classes)] if isinstance(classes, int) else classes
    random = np.random.default_rng(0)
    targets = torch.from_numpy(np.arange(images) % max(1, len(names) - (len(names) > 50)))
    folders: dict[str, str] = {}

    def stage(name: str, results: dict[str, Any], cost: dict[str, Any]) -> Path:
        folders[name] = f"{len(folders) + 1:02d}-{name}"
        place = folder / folders[name]
        place.mkdir(parents=True, exist_ok=True)
        manifest = {"schema": SCHEMA, "name": name, "fingerprint": "f" * 64, "inputs": {}, "results": results}
        (place / "stage.json").write_text(json.dumps({**manifest, "cost": cost, "versions": versions()}))
        return place

    def logits(accuracy: float) -> Tensor:
        """Predictions that are right so often, and otherwise near misses."""
        right = random.random(images) < accuracy
        far = random.choice([1, 1, 1, 2, 5], images) % len(names)
        predicted = np.where(right, targets.numpy(), (targets.numpy() + far) % len(names))
        values = torch.from_numpy(random.normal(size=(images, len(names)))).float()
        values[torch.arange(images), torch.from_numpy(predicted)] += 6
        return values

    def tested(ids: list[str]) -> Samples:
        """Test images under hostile names, every other one larger than a digit; or texts of such words."""
        named = tuple(f"{row} {ids[row % len(ids)]}" for row in range(images))
        texts = [f"{ids[row % len(ids)]} {'and on ' * (row % 2 * 100)}end" for row in range(images)]
        if modality == "text":
            texts = [paired(text, "and another") if row % 3 else text for row, text in enumerate(texts)]
            return Samples(named, None, texts, targets.numpy(), tuple(names))
        pixels = [random.integers(0, 256, (90, 120, 3) if row % 2 else (8, 8), np.uint8) for row in range(images)]
        return Samples(named, pixels, texts if modality == "pair" else None, targets.numpy(), tuple(names))

    def spent(seconds: float, seen: int, flops: float) -> dict[str, Any]:
        return Cost(seconds, seen, flops, 0.07 * seconds, 1_432_000_000, "cpu").as_dict()

    def choice(group: str, value: float, variant: str, accuracy: float) -> dict[str, Any]:
        metrics = {"accuracy": accuracy, "macro_f1": accuracy - 0.004, "nll": 2 - 1.8 * accuracy}
        metrics["calibration_error"] = 0.03
        return {"candidate": f"{group}-{value:g}", "group": group, "variant": variant, "metrics": metrics}

    def losses(steps: int, first: float, last: float) -> list[dict[str, float]]:
        every = max(1, steps // 200)
        points = []
        for step in [*range(every, steps, every), steps]:
            loss = last + (first - last) * math.exp(-5 * step / steps) + 0.1 * first * float(random.random())
            points.append({"step": step, "loss": loss, "cross_entropy": loss, "learning_rate": 1e-3})
        return points

    def finetuned(prefix: str, best: float) -> tuple[dict[str, Any], dict[str, Any]]:
        judged = [
            choice("finetune", rate, variant, best - 0.02 * place)
            for place, (rate, variant) in enumerate([(1e-3, "raw"), (3e-4, "average"), (1e-3, "average")])
        ]
        cost = spent(14.2, 9000, 3.1e11)
        place = stage(f"{prefix}finetune", {"chosen": judged[0], "judged": judged}, cost)
        if history:
            (place / "history.json").write_text(json.dumps({"finetune": losses(600, 2.3, 0.6)}))
        return judged[0]["metrics"], {"name": f"{prefix}finetune", **cost}

    def evaluated(prefix: str, accuracies: dict[str, float]) -> tuple[dict[str, Any], dict[str, Any]]:
        results: dict[str, Any] = {"student": None, "teacher": {}, "images": images if test else 0}
        cost = spent(1.3, images, 2.4e10) if test else Cost().as_dict()
        predictions = {name: logits(accuracy) for name, accuracy in accuracies.items()}
        if test:
            metrics = {name: METRICS(values, targets) for name, values in predictions.items()}
            results["student"] = metrics.pop("student")
            results["teacher"] = metrics
            if metrics:
                same = predictions["student"].argmax(1) == predictions["finetune"].argmax(1)
                results["agreement"] = float(same.float().mean())
        place = stage(f"{prefix}evaluate", results, cost)
        if test:
            save_weights(place / "predictions.safetensors", {**predictions, "targets": targets})
            if extras and not prefix:
                write_mistakes(place, tested(extras), predictions["student"], predictions.get("finetune"))
        return results, {"name": f"{prefix}evaluate", **cost}

    taught = method != "scratch"
    data = DataSettings(labeled="digits", labels="5", test="digits" if test else None)
    counts = {"labeled": 5 * len(names), "validation": 120 if validation else 0, "test": images * test}
    counts["transfer"] = 1200
    stage("data", {"classes": names}, {})
    rows = []
    teacher = None
    if taught:
        probe, tuned = choice("probe", 0.01, "raw", 0.88), choice("finetune", 3e-4, "average", 0.93)
        judged = [probe, choice("probe", 0.1, "raw", 0.86), tuned, choice("finetune", 1e-3, "raw", 0.9)]
        teacher = {"name": "bundled:efficientnet-lite0", "params": 3_383_684, "source": "bundled", "license": None}
        results = {"chosen": "finetune", "modes": {"probe": probe, "finetune": tuned}, "judged": judged}
        adapting = {"adapt-probe": spent(6.4, 2000, 4.1e11), "adapt-finetune": spent(55.3, 20000, 3.5e12)}
        for name, cost in adapting.items():
            kind = [each for each in judged if f"adapt-{each['group']}" == name]
            place = stage(name, {"judged": kind, "teacher": teacher}, cost)
            rows.append({"name": name, **cost})
        if history:
            (place / "history.json").write_text(json.dumps({"finetune the teacher": losses(200, 2.2, 0.55)}))
        stage("adapt", {**results, "teacher": teacher}, Cost().as_dict())
        rows.append({"name": "adapt", **Cost().as_dict()})
        cost = spent(142.0, 64000, 1.32e13)
        place = stage("distill", {"steps": 900, "loss": 0.2}, cost)
        rows.append({"name": "distill", **cost})
        if history:
            (place / "history.json").write_text(json.dumps({"distill": losses(900, 2.1, 0.1)}))
    val, cost = finetuned("", 0.92)
    rows.append(cost)
    found, cost = evaluated("", {"student": 0.92, **({"probe": 0.87, "finetune": 0.94} if taught else {})})
    rows.append(cost)
    exported: dict[str, Any] = {"onnx": {"bytes": 2_384_112, "parity": 3e-6}}
    if extras:
        exported |= {"torch": {"bytes": 2_401_000, "parity": 0.0}, "int8": int8(extras), extras[0]: {"bytes": 1}}
    stage("export", exported, spent(4.0, 0, 0.0))
    if extras:
        stage("latency", {}, spent(9.0, 0, 0.0))
    compared = {}
    for name in baselines:
        metrics, first = finetuned(f"{name}-", 0.83)
        theirs, second = evaluated(f"{name}-", {"student": 0.84})
        both = [first, second]
        total = {"stages": both, "seconds": sum(c["seconds"] for c in both), "flops": sum(c["flops"] for c in both)}
        compared[name] = {"metrics": {"val": metrics, "test": theirs["student"]}, "cost": total}
    results = {
        "schema": SCHEMA,
        "task": "classification",
        **({} if modality == "image" else {"modality": modality}),
        "method": method,
        "start": start,
        "seed": 0,
        "teacher": teacher,
        "student": {"name": "timm:lcnet_050", "params": 584_010},
        "labels": {"amount": "5", "images": counts["labeled"], "classes": len(names)},
        "images": {**counts, "dropped": {"labeled": 0, "validation": 0, "transfer": 3}},
        "metrics": {"val": val, "test": found["student"]},
        "teacher_metrics": found["teacher"],
        "agreement": found.get("agreement"),
        "cost": {
            "stages": rows,
            "seconds": sum(row["seconds"] for row in rows),
            "flops": sum(row["flops"] for row in rows),
        },
        "baselines": compared,
        "versions": versions(),
        "export": exported,
        "folders": folders,
        **(optional(extras, found["student"], modality) if extras else {}),
    }
    (folder / "results.json").write_text(json.dumps(results, allow_nan=False))
    recipe = Recipe(data=data, student="timm:lcnet_050", method=method, teacher=teacher and teacher["name"])
    recipe = recipe.resolved(short_side=8, labels=counts["labeled"], transfer=1200, classes=10)
    (folder / "recipe.yaml").write_text(recipe.to_yaml())
    return folder


def int8(texts: list[str]) -> dict[str, Any]:
    kept = {"kept": False, "tolerance": 0.02, "why": f"its answers differ {texts[-1]}"}
    return {"bytes": 700_123, "agreement": 0.973, "images": 256, **kept}


def optional(texts: list[str], tested: dict[str, float] | None, modality: str) -> dict[str, Any]:
    """Return parts of ``results.json`` that a run may lack."""
    problems = [Problem(kind, text, text) for kind in [*KINDS, "a new kind"] for text in texts]
    rows = [
        {"model": model, "runtime": text, "threads": threads, "p50_ms": median / threads, "p95_ms": 1.4 * median}
        | {"runs": 200, "bytes": None if model == "teacher" else 2_384_112}
        for text in texts
        for model, median in {"student": 1.2, "student int8": 0.7, "teacher": 14.0, text: 3.0}.items()
        for threads in (1, 16)
    ]
    shown = {"image": {"image": [224, 224]}, "text": {"tokens": 21}, "pair": {"image": [224, 224], "tokens": 21}}
    worse = tested and {
        "onnx": tested,
        "int8": {**tested, "accuracy": tested["accuracy"] - 0.012},
        "int8_loss": 0.012,
    }
    return {
        "problems": {"labeled": summarize(problems), "transfer": summarize(problems[:1]), "test": summarize([])},
        "exported": worse,
        "latency": {"rows": rows, **shown[modality], "machine": " ".join(texts)},
    }


@pytest.fixture
def make_run(tmp_path: Path) -> Callable[..., Path]:
    return lambda **how: write_run(tmp_path / "runs" / "digits", **how)


@pytest.fixture
def finished(make_run: Callable[..., Path]) -> Callable[..., Finished]:
    return lambda **how: read_run(make_run(**how))
