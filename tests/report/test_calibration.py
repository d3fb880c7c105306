from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torchmetrics.functional.classification import multiclass_calibration_error

from tutelage.report.calibration import BINS, calibration, reliability_bins, sureness
from tutelage.report.finished import Finished

RANDOM = np.random.default_rng(7)
SURE = np.concatenate([RANDOM.uniform(0.1, 1, 500), [1.0, 0.0]])
RIGHT = RANDOM.random(502) < SURE


def slow(sure: np.ndarray, right: np.ndarray) -> list[tuple[int, float, int]]:
    rows = []
    for number in range(BINS):
        low, high = number / BINS, (number + 1) / BINS
        last = number == BINS - 1
        inside = [row for row in range(len(sure)) if low <= sure[row] < high or (last and sure[row] == 1)]
        if inside:
            rows.append((len(inside), sum(sure[row] for row in inside) / len(inside), sum(right[inside])))
    return rows


def test_bins_hold_every_image_once_and_where_it_belongs() -> None:
    found = reliability_bins(SURE, RIGHT)
    expected = slow(SURE, RIGHT)
    assert [(each.images, each.correct) for each in found] == [(images, right) for images, _, right in expected]
    assert [each.confidence for each in found] == pytest.approx([confidence for _, confidence, _ in expected])


def test_bins_are_those_of_the_expected_calibration_error() -> None:
    logits = torch.from_numpy(RANDOM.normal(size=(400, 6)) * 2)
    targets = torch.from_numpy(RANDOM.integers(0, 6, 400))
    confidence, predicted = logits.softmax(1).max(1)
    found = reliability_bins(confidence.numpy(), (predicted == targets).numpy())
    error = sum(each.images / 400 * abs(each.correct / each.images - each.confidence) for each in found)
    expected = multiclass_calibration_error(logits.softmax(1), targets, 6, n_bins=BINS)
    assert error == pytest.approx(float(expected), abs=1e-5)


def test_empty_bins_are_left_out() -> None:
    assert [each.low for each in reliability_bins([0.99, 0.2], [True, False])] == pytest.approx([3 / 15, 14 / 15])


@pytest.mark.parametrize(
    ("confidence", "correct", "said"),
    [
        (0.95, 850, "it is over-confident by 10.0 points."),
        (0.75, 850, "it is under-confident by 10.0 points."),
        (0.86, 850, "as sure as it should be, as far as 1,000 test images can tell."),
    ],
)
def test_sentence_says_which_way_and_how_far(confidence: float, correct: int, said: str) -> None:
    assert sureness(confidence, correct, 1000).endswith(said)


def test_few_images_tell_little() -> None:
    assert "as sure as it should be" in sureness(0.93, 17, 20)


def test_the_diagram_describes_every_bin_in_words(finished: Callable[..., Finished]) -> None:
    found = calibration(finished())
    described = ElementTree.fromstring(found["picture"]).get("aria-label").split("; ")
    assert len(described) == len(found["rows"])


def test_shares_of_the_bins_are_of_all_test_images(finished: Callable[..., Finished]) -> None:
    rows = calibration(finished())["rows"]
    assert sum(int(row["images"]) for row in rows) == 597
    assert sum(float(row["part"].rstrip("%")) for row in rows) == pytest.approx(100, abs=0.8)


def test_without_test_data_there_is_none(finished: Callable[..., Finished]) -> None:
    assert calibration(finished(test=False)) is None
