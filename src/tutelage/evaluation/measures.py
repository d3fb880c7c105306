"""How good a classifier's logits are, without torch; equal to what the classification task measures."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from tutelage.runtime.probabilities import softmax

BINS = 15
"""Equally wide bins of confidence in the expected calibration error."""

IntArray = npt.NDArray[np.int64]


def measure(logits: npt.NDArray[Any], targets: IntArray) -> dict[str, float]:
    """Return accuracy, macro F1, negative log-likelihood and expected calibration error.

    Args:
        logits: float [N, C], at least one row.
        targets: Class numbers, int64 [N].
    """
    probabilities = softmax(logits)
    predicted = probabilities.argmax(axis=1)
    return {
        "accuracy": float((predicted == targets).mean()),
        "macro_f1": macro_f1(targets, predicted),
        "nll": negative_log_likelihood(logits, targets),
        "calibration_error": calibration_error(probabilities, targets),
    }


def macro_f1(targets: IntArray, predicted: IntArray) -> float:
    """Return F1, mean over the classes that occur among targets or predictions."""
    from sklearn.metrics import f1_score

    return float(f1_score(targets, predicted, average="macro", zero_division=0))


def negative_log_likelihood(logits: npt.NDArray[Any], targets: IntArray) -> float:
    """Return the mean cross entropy, in nats, of logits [N, C]; finite where a probability rounds to 0."""
    wide = logits.astype(np.float64)
    top = wide.max(axis=1)
    total = top + np.log(np.exp(wide - top[:, None]).sum(axis=1))
    return float((total - wide[np.arange(len(targets)), targets]).mean())


def calibration_error(probabilities: npt.NDArray[np.float64], targets: IntArray) -> float:
    """Return the gap between confidence and accuracy over 15 bins, weighted by their images (Guo et al., 2017).

    Args:
        probabilities: float [N, C], rows adding up to 1.
        targets: Class numbers, int64 [N].
    """
    confidence = probabilities.max(axis=1)
    correct = probabilities.argmax(axis=1) == targets
    bins = np.digitize(confidence, np.linspace(0.0, 1.0, BINS + 1)) - 1
    gaps = np.bincount(bins, weights=correct.astype(np.float64) - confidence)
    return float(np.abs(gaps).sum() / len(targets))
