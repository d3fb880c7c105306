from __future__ import annotations

import math

import pytest
import torch

from tutelage.data.batch import Batch
from tutelage.models.outputs import Outputs
from tutelage.objectives import Supervised
from tutelage.tasks import Classification

LOGITS = torch.tensor([[2.0, -1.0, 0.5], [0.0, 3.0, 1.0], [-2.0, 0.0, 0.3], [1.0, 1.0, 1.0]], dtype=torch.float64)
CLASSES = torch.tensor([0, 2, 1, 1])
SHARES = torch.tensor([[0.7, 0.3, 0.0], [0.0, 0.0, 1.0], [0.5, 0.25, 0.25], [0.0, 1.0, 0.0]], dtype=torch.float64)


def supervised(targets: torch.Tensor, *, smoothing: float = 0.0, valid: torch.Tensor | None = None) -> float:
    batch = Batch({"view": torch.zeros(4, 3, 2, 2)}, {"view": 1}, torch.arange(4), targets, valid)
    objective = Supervised(Classification(), label_smoothing=smoothing)
    losses = objective(batch, {"view": Outputs(logits=LOGITS)}, {})
    return losses["supervised"].item()


def slow_cross_entropy(shares: list[list[float]], smoothing: float, rows: list[int]) -> float:
    total = 0.0
    for row in rows:
        logits = LOGITS[row].tolist()
        log_sum = math.log(sum(math.exp(value) for value in logits))
        for share, value in zip(shares[row], logits, strict=True):
            total -= ((1 - smoothing) * share + smoothing / 3) * (value - log_sum)
    return total / len(rows)


def one_hot() -> list[list[float]]:
    return [[float(number == target) for number in range(3)] for target in CLASSES.tolist()]


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.5])
def test_loss_on_classes_is_that_of_the_slow_reference(smoothing: float) -> None:
    expected = slow_cross_entropy(one_hot(), smoothing, [0, 1, 2, 3])
    assert supervised(CLASSES, smoothing=smoothing) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.5])
def test_loss_on_shares_is_that_of_the_slow_reference(smoothing: float) -> None:
    expected = slow_cross_entropy(SHARES.tolist(), smoothing, [0, 1, 2, 3])
    assert supervised(SHARES, smoothing=smoothing) == pytest.approx(expected, rel=1e-9)


def test_rows_that_are_not_valid_do_not_count() -> None:
    valid = torch.tensor([True, False, False, True])
    assert supervised(CLASSES, valid=valid) == pytest.approx(slow_cross_entropy(one_hot(), 0.0, [0, 3]), rel=1e-9)


def test_sure_shares_are_classes() -> None:
    shares = torch.tensor(one_hot(), dtype=torch.float64)
    assert supervised(shares, smoothing=0.1) == pytest.approx(supervised(CLASSES, smoothing=0.1))
