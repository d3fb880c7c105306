"""How well a segmenter tells each class, and the images that it tells worst."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from tutelage.report.finished import Finished
from tutelage.report.mistakes import picture_type
from tutelage.report.numbers import MISSING, percent, plural, whole
from tutelage.report.sections import MATRIX_CLASSES, SHOWN_CLASSES
from tutelage.runtime.palette import Color
from tutelage.tasks.segmentation import class_iou

PARTS = {"image": "image", "truth": "true classes", "prediction": "the student\N{RIGHT SINGLE QUOTATION MARK}s"}
"""The pictures of one of the worst images, in order, and what each shows."""


def segments(run: Finished) -> dict[str, Any] | None:
    """Return how each class fared, the hardest first, and sentences; ``None`` without predictions of pixels."""
    predictions = run.predictions.get("evaluate")
    if predictions is None or not run.dense:
        return None
    names: Sequence[str] = run.stages["data"]["results"]["classes"]
    counts = predictions["student"]
    teacher = None
    if "adapt" in run.stages:
        teacher = predictions[run.stages["adapt"]["results"]["chosen"]]
    ours = class_iou(counts)
    theirs: Sequence[float | None] = [None] * len(names) if teacher is None else class_iou(teacher)
    order = sorted(range(len(names)), key=lambda number: (_or(ours[number], 2.0), number))
    total = int(counts[..., 2].sum())
    rows = [_class_row(names[number], counts[:, number], ours[number], theirs[number], total) for number in order]
    long = len(rows) > MATRIX_CLASSES
    return {
        "sentence": told(counts),
        "beside": "" if teacher is None else beside(ours, theirs),
        "teacher": teacher is not None,
        "hardest": rows[:SHOWN_CLASSES] if long else rows,
        "others": rows[SHOWN_CLASSES:] if long else [],
    }


def told(counts: Tensor) -> str:
    """Return how many pixels are told right, as one sentence.

    Args:
        counts: Pixels in intersection, prediction and truth of each image and class, int64 [N, C, 3].
    """
    right, total = int(counts[..., 0].sum()), int(counts[..., 2].sum())
    images = plural(len(counts), "test image")
    if not total:
        return f"No pixel of {images} counts."
    return f"Of {whole(total)} pixels of {images}, {percent(1 - right / total)} are told wrong."


def beside(ours: Sequence[float | None], theirs: Sequence[float | None]) -> str:
    """Return on how many classes a student is better than its teacher, as one sentence.

    Args:
        ours: IoU of each class, ``None`` for one that is nowhere.
        theirs: The teacher's.
    """
    pairs = [(one, other) for one, other in zip(ours, theirs, strict=True) if one is not None and other is not None]
    better = sum(one > other for one, other in pairs)
    return f"On {whole(better)} of {plural(len(pairs), 'class', 'classes')} the student is better than its teacher."


def worst(run: Finished) -> dict[str, Any]:
    """Return the worst images with their pictures as ``data:`` addresses, the worst first, and a legend."""
    shown = []
    colors: dict[str, Color] = {}
    for each in run.worst:
        kinds = {part: picture_type(content) for part, content in each["pictures"].items()}
        if set(kinds) != set(PARTS) or not all(kinds.values()):
            continue
        shown.append(_shown(each, kinds))
        colors |= {name: _color(color) for name, color in each["classes"]}
    numbers = {name: number for number, name in enumerate(run.stages["data"]["results"]["classes"])}
    legend = sorted(colors.items(), key=lambda item: numbers.get(item[0], len(numbers)))
    return {
        "images": shown,
        "legend": [(name, "#{:02x}{:02x}{:02x}".format(*color)) for name, color in legend],
        "ignored": any(each["ignored"] for each in run.worst),
    }


def _shown(each: Mapping[str, Any], kinds: Mapping[str, str]) -> dict[str, Any]:
    pictures = [
        {
            "source": f"data:{kinds[part]};base64,{base64.b64encode(each['pictures'][part]).decode()}",
            "kind": kinds[part].removeprefix("image/"),
            "what": what,
        }
        for part, what in PARTS.items()
    ]
    teacher = each["teacher"]
    return {
        "id": each["id"],
        "iou": percent(each["iou"]),
        "teacher": "" if teacher is None else percent(teacher),
        "pictures": pictures,
    }


def _class_row(name: str, counts: Tensor, ours: float | None, theirs: float | None, total: int) -> dict[str, Any]:
    """Return a class's row.

    Args:
        name: The class's.
        counts: Its pixels in intersection, prediction and truth of each image, int64 [N, 3].
        ours: The student's IoU, ``None`` where the class is nowhere.
        theirs: The teacher's.
        total: Pixels of all classes.
    """
    hit, predicted, true = counts.sum(0).tolist()
    return {
        "name": name,
        "images": whole(int((counts[:, 2] > 0).sum())),
        "pixels": percent(true / total) if total else MISSING,
        "share": ours,
        "iou": percent(ours),
        "teacher": percent(theirs),
        "recall": percent(hit / true) if true else MISSING,
        "precision": percent(hit / predicted) if predicted else MISSING,
    }


def _color(color: Sequence[int]) -> Color:
    red, green, blue = (int(np.clip(each, 0, 255)) for each in color)
    return red, green, blue


def _or(value: float | None, other: float) -> float:
    return other if value is None else value
