"""How well masks overlap with the true ones, without torch; equal to what the segmentation task measures."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from tutelage.data.mask_pixels import IGNORED
from tutelage.evaluation.measures import IntArray
from tutelage.report.confusion import confusion_matrix
from tutelage.report.overlap import mean_iou


def pixel_matrix(predicted: npt.NDArray[Any], truth: npt.NDArray[Any], classes: int) -> IntArray:
    """Return counts of pixels, int64 [classes, classes]: true classes down, predicted ones across.

    Args:
        predicted: Class numbers, integers [H, W].
        truth: Class numbers, integers [H, W], or ``IGNORED``: there nothing is counted.
        classes: How many there are.
    """
    counts = truth != IGNORED
    return confusion_matrix(truth[counts].astype(np.int64), predicted[counts].astype(np.int64), classes)


def pixel_counts(matrix: IntArray) -> IntArray:
    """Return the pixels in intersection, prediction and truth of each class, int64 [C, 3], of such a matrix."""
    return np.stack([matrix.diagonal(), matrix.sum(axis=0), matrix.sum(axis=1)], axis=1)


def measure_overlap(counts: IntArray) -> dict[str, float]:
    """Return mean intersection over union, pixel accuracy and mean class accuracy.

    A class counts in the mean IoU if it is somewhere in truth or predictions, in the mean accuracy if it is somewhere
    in truth.

    Args:
        counts: Pixels in intersection, prediction and truth of each class, int64 [C, 3].
    """
    hit, _, true = counts.T
    return {
        "miou": float(np.nan_to_num(mean_iou(counts))),
        "pixel_accuracy": float(hit.sum() / max(1, true.sum())),
        "class_accuracy": float((hit[true > 0] / true[true > 0]).mean()) if true.any() else 0.0,
    }
