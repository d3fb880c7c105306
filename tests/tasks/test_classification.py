from __future__ import annotations

import numpy as np
import pytest
import torch

from tutelage.tasks import TASKS, Classification

BINS = 15


def softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)


def slow_accuracy(logits: np.ndarray, targets: np.ndarray) -> float:
    return sum(int(np.argmax(row)) == target for row, target in zip(logits, targets, strict=True)) / len(targets)


def slow_macro_f1(logits: np.ndarray, targets: np.ndarray) -> float:
    """The mean over classes that were there or were predicted."""
    predicted = logits.argmax(1)
    scores = []
    for number in range(logits.shape[1]):
        right = int(((predicted == number) & (targets == number)).sum())
        wrong = int(((predicted == number) != (targets == number)).sum())
        if right or wrong:
            scores.append(2 * right / (2 * right + wrong))
    return float(np.mean(scores))


def slow_nll(logits: np.ndarray, targets: np.ndarray) -> float:
    chosen = softmax(logits)[np.arange(len(targets)), targets]
    return float(-np.log(chosen).mean())


def slow_calibration_error(logits: np.ndarray, targets: np.ndarray) -> float:
    """Guo et al., 2017, equation 3: bins of equal width, the gap of each weighted by how many fall into it."""
    probabilities = softmax(logits)
    confidence, right = probabilities.max(1), probabilities.argmax(1) == targets
    error = 0.0
    for number in range(BINS):
        inside = (confidence > number / BINS) & (confidence <= (number + 1) / BINS)
        if inside.any():
            error += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
    return float(error)


SLOW = {
    "accuracy": slow_accuracy,
    "macro_f1": slow_macro_f1,
    "nll": slow_nll,
    "calibration_error": slow_calibration_error,
}


def predictions(classes: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Predictions that are better than chance, and one class that the targets lack."""
    generator = np.random.default_rng(seed)
    targets = generator.integers(0, classes - 1, 120)
    logits = generator.normal(size=(120, classes))
    logits[np.arange(120), targets] += 1.5
    return logits, targets


@pytest.mark.parametrize("classes", [2, 3, 10])
@pytest.mark.parametrize("metric", sorted(SLOW))
def test_metrics_are_those_of_the_slow_reference(metric: str, classes: int) -> None:
    logits, targets = predictions(classes, seed=classes)
    found = Classification().metrics(torch.from_numpy(logits).float(), torch.from_numpy(targets))
    assert found[metric] == pytest.approx(SLOW[metric](logits, targets), abs=1e-5)


def test_every_metric_has_a_reference() -> None:
    logits, targets = predictions(3, seed=0)
    assert Classification().metrics(torch.from_numpy(logits), torch.from_numpy(targets)).keys() == SLOW.keys()


@pytest.mark.parametrize("name", sorted(TASKS))
def test_the_primary_metric_is_one_of_a_tasks_metrics(name: str) -> None:
    logits, targets = predictions(3, seed=0)
    assert TASKS[name].primary in TASKS[name].metrics(torch.from_numpy(logits), torch.from_numpy(targets))


@pytest.mark.parametrize("name", sorted(TASKS))
def test_tasks_are_listed_by_their_names(name: str) -> None:
    assert TASKS[name].name == name
