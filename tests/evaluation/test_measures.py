from __future__ import annotations

import numpy as np
import pytest
import torch

from tutelage.evaluation.measures import measure
from tutelage.tasks import Classification

CASES = {
    "few": (40, 5, 2.0, 5),
    "many": (3000, 17, 1.0, 17),
    "certain": (500, 3, 60.0, 3),
    "absent classes": (60, 30, 3.0, 4),
    "one image": (1, 4, 1.0, 4),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_numbers_are_those_of_the_task(case: tuple[int, int, float, int]) -> None:
    images, classes, scale, shown = case
    generator = np.random.default_rng(0)
    targets = generator.integers(0, shown, images)
    logits = (scale * (generator.normal(size=(images, classes)) + np.eye(classes)[targets])).astype(np.float32)
    expected = Classification().metrics(torch.from_numpy(logits).double(), torch.from_numpy(targets))
    assert measure(logits, targets) == pytest.approx(expected, abs=1e-6)
