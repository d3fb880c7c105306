"""Segmentation: its loss and metrics against slow references, pixel by pixel."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torchmetrics.segmentation import MeanIoU

from tutelage.data.masks import IGNORED
from tutelage.tasks.segmentation import Segmentation, class_iou, pixel_counts

TASK = Segmentation()


def drawn(*shape: int, classes: int = 4, ignored: float = 0.0) -> Tensor:
    found = torch.randint(classes, shape)
    return torch.where(torch.rand(shape) < ignored, IGNORED, found)


def slow_loss(logits: Tensor, targets: Tensor, smoothing: float) -> float:
    """The mean of each counted pixel's cross entropy, in float64."""
    full = F.interpolate(logits.double(), targets.shape[-2:], mode="bilinear", align_corners=False)
    losses = []
    for image, truth in zip(full, targets, strict=True):
        for row in range(truth.shape[0]):
            for column in range(truth.shape[1]):
                if truth[row, column] == IGNORED:
                    continue
                logs = image[:, row, column].log_softmax(0)
                wanted = torch.full_like(logs, smoothing / len(logs))
                wanted[truth[row, column]] += 1 - smoothing
                losses.append(-float((wanted * logs).sum()))
    return sum(losses) / len(losses)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_loss_is_the_mean_over_pixels_that_count(smoothing: float) -> None:
    torch.manual_seed(0)
    logits, targets = torch.randn(2, 4, 3, 3).double(), drawn(2, 7, 5, ignored=0.3)
    found = float(TASK.loss(logits, targets, label_smoothing=smoothing))
    assert found == pytest.approx(slow_loss(logits, targets, smoothing), rel=1e-9)


def test_what_is_not_valid_does_not_count() -> None:
    torch.manual_seed(1)
    logits, targets = torch.randn(2, 4, 5, 5), drawn(2, 5, 5)
    valid = torch.rand(2, 5, 5) < 0.6
    expected = TASK.loss(logits, torch.where(valid, targets, IGNORED))
    assert torch.equal(TASK.loss(logits, targets, valid=valid), expected)


def test_a_batch_of_which_nothing_counts_costs_nothing() -> None:
    logits = torch.randn(1, 3, 2, 2, requires_grad=True)
    loss = TASK.loss(logits, torch.full((1, 4, 4), IGNORED))
    loss.backward()  # type: ignore[no-untyped-call]
    assert float(loss.detach()) == 0
    assert logits.grad is not None
    assert not logits.grad.any()


def slow_counts(predicted: Tensor, truth: Tensor, classes: int) -> list[list[int]]:
    found = [[0, 0, 0] for _ in range(classes)]
    for ours, theirs in zip(predicted.flatten().tolist(), truth.flatten().tolist(), strict=True):
        if theirs == IGNORED:
            continue
        found[ours][1] += 1
        found[theirs][2] += 1
        found[ours][0] += ours == theirs
    return found


def test_pixels_are_counted_by_class() -> None:
    torch.manual_seed(2)
    predicted, truth = drawn(6, 9), drawn(6, 9, ignored=0.2)
    assert pixel_counts(predicted, truth, 4).tolist() == slow_counts(predicted, truth, 4)


def test_nothing_is_counted_where_all_is_ignored() -> None:
    assert not pixel_counts(drawn(3, 3), torch.full((3, 3), IGNORED), 4).any()


def test_the_mean_iou_is_that_of_torchmetrics_over_all_images_together() -> None:
    torch.manual_seed(3)
    predicted, truth = drawn(5, 8, 8), drawn(5, 8, 8)
    counts = torch.stack([pixel_counts(p, t, 4) for p, t in zip(predicted, truth, strict=True)])
    # One image of all pixels: torchmetrics otherwise takes the mean of each image's.
    together = MeanIoU(num_classes=4, input_format="index")
    together.update(predicted.reshape(1, -1, 8), truth.reshape(1, -1, 8))
    assert TASK.metrics(counts, torch.empty(5, 0))["miou"] == pytest.approx(float(together.compute()), rel=1e-6)


def test_a_class_that_is_nowhere_is_left_out_of_the_mean() -> None:
    predicted, truth = torch.tensor([[0, 0, 1, 1]]), torch.tensor([[0, 1, 1, 1]])
    counts = pixel_counts(predicted, truth, 5)[None]
    found = TASK.metrics(counts, torch.empty(1, 0))
    assert found["miou"] == pytest.approx((1 / 2 + 2 / 3) / 2)
    assert class_iou(counts) == [pytest.approx(1 / 2), pytest.approx(2 / 3), None, None, None]


def test_a_class_that_is_only_predicted_counts_as_missed() -> None:
    counts = pixel_counts(torch.tensor([[0, 2]]), torch.tensor([[0, 0]]), 3)[None]
    assert TASK.metrics(counts, torch.empty(1, 0))["miou"] == pytest.approx((1 / 2 + 0) / 2)


def test_accuracies_are_those_of_pixels_and_of_classes() -> None:
    counts = pixel_counts(torch.tensor([[0, 0, 0, 1]]), torch.tensor([[0, 0, 1, 1]]), 3)[None]
    found = TASK.metrics(counts, torch.empty(1, 0))
    assert found["pixel_accuracy"] == pytest.approx(3 / 4)
    assert found["class_accuracy"] == pytest.approx((1 + 1 / 2) / 2)


def test_of_no_pixels_all_metrics_are_numbers() -> None:
    assert all(
        math.isfinite(value) for value in TASK.metrics(torch.zeros(2, 3, 3).long(), torch.empty(2, 0)).values()
    )
