"""Where a classifier errs: counts of what was shown and what it was taken for."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True)
class ClassCount:
    """How one class fared.

    Attributes:
        number: The class.
        images: Its test images.
        correct: How many of them were recognized.
        taken_for: The class that most of its other images were taken for, or ``None``.
        mistaken: How many those are.
    """

    number: int
    images: int
    correct: int
    taken_for: int | None
    mistaken: int


def confusion_matrix(targets: IntArray, predicted: IntArray, classes: int) -> IntArray:
    """Return counts [classes, classes]: true classes down, predicted ones across."""
    return np.bincount(targets * classes + predicted, minlength=classes**2).reshape(classes, classes)


def confused_pairs(targets: IntArray, predicted: IntArray) -> list[tuple[int, int, int]]:
    """Return (true class, predicted class, images) of all errors, the most frequent pair first."""
    wrong = targets != predicted
    pairs, counts = np.unique(np.stack([targets[wrong], predicted[wrong]]), axis=1, return_counts=True)
    order = np.lexsort((pairs[1], pairs[0], -counts))
    return [(int(pairs[0, i]), int(pairs[1, i]), int(counts[i])) for i in order]


def class_counts(targets: IntArray, predicted: IntArray, classes: int) -> list[ClassCount]:
    """Return each class's count, the class with the lowest share of recognized images first.

    Classes without test images come last.
    """
    images = np.bincount(targets, minlength=classes)
    correct = np.bincount(targets[targets == predicted], minlength=classes)
    worst: dict[int, tuple[int, int]] = {}
    for true, taken_for, count in confused_pairs(targets, predicted):
        worst.setdefault(true, (taken_for, count))
    counted = [
        ClassCount(number, int(images[number]), int(correct[number]), *worst.get(number, (None, 0)))
        for number in range(classes)
    ]
    return sorted(
        counted, key=lambda row: (not row.images, row.correct / max(1, row.images), -row.images, row.number)
    )
