"""How good an exported classifier is on labeled data, without torch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tutelage.data.samples import Samples
from tutelage.errors import DataError
from tutelage.evaluation.measures import IntArray, measure
from tutelage.report.confusion import confused_pairs, confusion_matrix
from tutelage.report.intervals import wilson
from tutelage.runtime import Classifier

PAIRS = 20
"""Most confused pairs of classes that are told."""


def evaluate_classifier(
    classifier: Classifier,
    samples: Samples,
    *,
    batch_size: int = 64,
    update: Callable[[int], None] = lambda done: None,
) -> dict[str, Any]:
    """Evaluate a model on labeled samples, whose classes are matched to its own by name.

    Those of classes that the model does not know are left out and counted; so are those that cannot be read.

    Args:
        classifier: The model.
        samples: Labeled images, texts or pairs, as the model reads them.
        batch_size: Samples that go through the model together.
        update: Told how many samples are done.

    Returns:
        Plain data: ``images`` (how many samples were judged), the metrics with ``accuracy_interval`` (95 %),
        ``classes`` (each with ``images, recall, precision``; ``None`` where there is nothing to divide by),
        ``confused`` pairs, ``unknown_classes`` with their samples, and ``failed`` (what could not be read, with the
        reason).

    Raises:
        DataError: The samples have no labels or not what the model reads, or none can be judged.
        ModelError: The model cannot be run.
    """
    given = classifier.given(samples)
    names = classifier.classes
    targets = _matched(samples, names)
    rows: list[int] = np.flatnonzero(targets >= 0).tolist()
    if not rows:
        raise DataError(
            f"{samples.origin}: none of its classes ({some(samples.classes)}) is one of the model's "
            f"({some(names)}); rename one of them"
        )
    found, judged, failed = [], [], []
    answers = classifier.answers((given[row] for row in rows), batch_size=batch_size)
    for row, answer in zip(rows, answers, strict=True):
        if answer.logits is None:
            failed.append({"image": samples.ids[row], "error": answer.error})
        else:
            found.append(answer.logits)
            judged.append(row)
        update(len(judged) + len(failed))
    if not found:
        raise DataError(f"{samples.origin}: none of {len(rows)} samples could be read; {failed[0]['error']}")
    logits, truth = np.stack(found), targets[judged]
    predicted = logits.argmax(axis=1).astype(np.int64)
    pairs = confused_pairs(truth, predicted)[:PAIRS]
    return {
        "images": len(truth),
        **measure(logits, truth),
        "accuracy_interval": list(wilson(int((truth == predicted).sum()), len(truth))),
        "classes": _classes(names, confusion_matrix(truth, predicted, len(names))),
        "confused": [{"class": names[a], "taken_for": names[b], "images": count} for a, b, count in pairs],
        "unknown_classes": {
            name: int((samples.labels() == number).sum())
            for number, name in enumerate(samples.classes)
            if name not in names
        },
        "failed": failed,
    }


def _matched(samples: Samples, names: tuple[str, ...]) -> IntArray:
    """Return the targets as the model's class numbers; -1 where it does not know the class."""
    numbers = {name: number for number, name in enumerate(names)}
    known = np.array([numbers.get(name, -1) for name in samples.classes], dtype=np.int64)
    matched: IntArray = known[samples.labels()]
    return matched


def _classes(names: tuple[str, ...], matrix: IntArray) -> list[dict[str, Any]]:
    shown, predicted, correct = matrix.sum(axis=1), matrix.sum(axis=0), matrix.diagonal()
    return [
        {
            "name": name,
            "images": int(shown[row]),
            "recall": float(correct[row] / shown[row]) if shown[row] else None,
            "precision": float(correct[row] / predicted[row]) if predicted[row] else None,
        }
        for row, name in enumerate(names)
    ]


def some(names: tuple[str, ...]) -> str:
    """Return the first few of many names, in words."""
    return ", ".join(names[:5]) + (", …" if len(names) > 5 else "")
