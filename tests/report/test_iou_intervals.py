from __future__ import annotations

import numpy as np
import pytest
import torch

from tutelage.report.overlap import iou_difference, iou_interval, mean_iou
from tutelage.tasks import TASKS

METRICS = TASKS["segmentation"].metrics


def counted(images: int, classes: int = 4, seed: int = 0) -> np.ndarray:
    """Counts of random masks; most images have few of the classes, and the last class is in a single image."""
    random = np.random.default_rng(seed)
    found = np.zeros((images, classes, 3), np.int64)
    for row in range(images):
        there = random.choice(classes - 1, 2, replace=False)
        truth = random.choice([*there, *([classes - 1] if row == 0 else [])], 200)
        told = np.where(random.random(200) < 0.7, truth, random.choice(there, 200))
        for number in range(classes):
            one, other = told == number, truth == number
            found[row, number] = (one & other).sum(), one.sum(), other.sum()
    return found


def slow(counts: np.ndarray) -> float:
    return METRICS(torch.from_numpy(counts), torch.empty(len(counts), 0))["miou"]


def test_the_mean_is_what_the_task_measures() -> None:
    counts = counted(9)
    assert float(mean_iou(counts.sum(0))) == pytest.approx(slow(counts), abs=1e-12)


def test_leading_axes_are_kept_apart() -> None:
    counts = counted(9)
    assert mean_iou(counts).tolist() == pytest.approx([slow(each[None]) for each in counts], abs=1e-12)


def test_where_no_pixel_counts_there_is_no_mean() -> None:
    assert np.isnan(mean_iou(np.zeros((2, 4, 3)))).all()


def test_the_interval_is_that_of_metrics_of_images_drawn_one_by_one() -> None:
    counts, random = counted(9), np.random.default_rng(5)
    values = [slow(counts[random.integers(9, size=9)]) for _ in range(230)]
    low, high = iou_interval(counts, draws=230, seed=5)
    assert (low, high) == pytest.approx(tuple(np.quantile(values, [0.025, 0.975])), abs=1e-12)


def test_a_difference_is_over_the_same_images_of_both() -> None:
    ours, theirs, random = counted(9), counted(9, seed=1), np.random.default_rng(5)
    values = []
    for _ in range(230):
        rows = random.integers(9, size=9)
        values.append(slow(ours[rows]) - slow(theirs[rows]))
    low, high = iou_difference(ours, theirs, draws=230, seed=5)
    assert (low, high) == pytest.approx(tuple(np.quantile(values, [0.025, 0.975])), abs=1e-12)


def test_a_model_is_level_with_itself() -> None:
    assert iou_difference(counted(9), counted(9)) == (0.0, 0.0)


def test_the_interval_is_the_same_each_time() -> None:
    assert iou_interval(counted(9)) == iou_interval(counted(9))


def test_images_without_a_pixel_that_counts_move_no_interval_out_of_range() -> None:
    low, high = iou_interval(np.concatenate([counted(1), np.zeros((3, 4, 3), np.int64)]))
    assert 0 <= low < high <= 1


@pytest.mark.parametrize("shape", [(9, 3, 3), (8, 4, 3)])
def test_other_classes_or_images_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="same images"):
        iou_difference(counted(9), np.ones(shape, np.int64))


@pytest.mark.parametrize("shape", [(0, 4, 3), (4, 3), (9, 4, 2)])
def test_what_was_not_counted_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"\[N, C, 3\]"):
        iou_interval(np.ones(shape, np.int64))
