from __future__ import annotations

import numpy as np
import pytest
import torch

from tutelage.evaluation.overlap import measure_overlap, pixel_counts, pixel_matrix
from tutelage.tasks.segmentation import Segmentation
from tutelage.tasks.segmentation import pixel_counts as task_counts


@pytest.mark.parametrize("seed", range(3))
def test_counts_and_metrics_are_those_of_the_task(seed: int) -> None:
    generator = np.random.default_rng(seed)
    predicted = generator.integers(0, 4, (9, 7)).astype(np.uint8)
    truth = generator.integers(-1, 5, (9, 7)).astype(np.int16)
    counts = pixel_counts(pixel_matrix(predicted, truth, 6))
    expected = task_counts(torch.from_numpy(predicted), torch.from_numpy(truth), 6)
    assert counts.tolist() == expected.tolist()
    assert measure_overlap(counts) == pytest.approx(Segmentation().metrics(expected[None], torch.empty(1, 0)))


def test_where_everything_is_ignored_nothing_counts() -> None:
    counts = pixel_counts(pixel_matrix(np.zeros((2, 2), np.uint8), np.full((2, 2), -1, np.int16), 3))
    assert measure_overlap(counts) == {"miou": 0.0, "pixel_accuracy": 0.0, "class_accuracy": 0.0}
