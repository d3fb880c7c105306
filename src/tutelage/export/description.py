"""All that ``model.json`` says once a run is finished: what the model is worth, made of and cost."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tutelage.data.prepare import PreparedData
from tutelage.export.card import limits
from tutelage.report.intervals import wilson

if TYPE_CHECKING:
    from tutelage.recipe import Recipe

TAKEN = (
    "modality",
    "method",
    "start",
    "seed",
    "teacher",
    "student",
    "labels",
    "images",
    "metrics",
    "teacher_metrics",
    "class_iou",
    "cost",
    "export",
    "exported",
    "latency",
    "problems",
)
"""Keys of the results that go with the model's files as they are; none is one that a model is loaded from."""


def describe(
    description: Mapping[str, Any], results: Mapping[str, Any], *, recipe: Recipe, data: PreparedData
) -> dict[str, Any]:
    """Return ``model.json`` with what is known after evaluation; what loads a model stays as it is.

    Args:
        description: Its content so far.
        results: The content of ``results.json``.
        recipe: Resolved.
        data: The run's samples.
    """
    taken = {key: results[key] for key in TAKEN if key in results}
    return {
        **description,
        **taken,
        "data": origins(data),
        "intervals": intervals(results),
        "limits": limits(results),
        "recipe": recipe.model_dump(mode="json"),
    }


def origins(data: PreparedData) -> dict[str, Any]:
    """Return where each part of the data came from, and how many images it has."""
    parts = {
        "labeled": data.labeled,
        "validation": data.validation,
        "test": data.test,
        "transfer": data.transfer,
    }
    return {name: {"origin": part.origin, "images": len(part)} for name, part in parts.items() if part is not None}


def intervals(results: Mapping[str, Any]) -> dict[str, Any]:
    """Return 95 % Wilson intervals of the accuracies on the test set, by whose they are."""
    images = results["images"]["test"]
    judged = {"student": results["metrics"]["test"], **results["teacher_metrics"]}
    return {
        who: {"accuracy": list(wilson(round(metrics["accuracy"] * images), images)), "images": images}
        for who, metrics in judged.items()
        if images and metrics and "accuracy" in metrics
    }
