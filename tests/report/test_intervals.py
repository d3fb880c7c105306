from __future__ import annotations

import math

import numpy as np
import pytest

from tutelage.report.intervals import Z, paired_difference, wilson


@pytest.mark.parametrize(("correct", "images"), [(550, 597), (0, 12), (12, 12), (1, 2)])
def test_wilson_is_where_the_score_test_stops_rejecting(correct: int, images: int) -> None:
    for bound in wilson(correct, images):
        deviation = math.sqrt(bound * (1 - bound) / images)
        assert abs(correct / images - bound) == pytest.approx(Z * deviation, abs=1e-9)


def test_wilson_refuses_what_is_no_share() -> None:
    with pytest.raises(ValueError, match="k"):
        wilson(3, 2)


def test_paired_difference_is_wald_on_half_an_image_more_in_each_cell() -> None:
    gained, lost, images = 61, 12, 597
    # One row an image (or half of one), from its definition: mean and standard error of weighted differences.
    differences = np.array([1.0, -1.0, 0.0])
    weights = np.array([gained + 0.5, lost + 0.5, images - gained - lost + 1.0])
    mean = np.average(differences, weights=weights)
    error = math.sqrt(np.average((differences - mean) ** 2, weights=weights) / weights.sum())
    assert paired_difference(gained, lost, images) == pytest.approx((mean - Z * error, mean + Z * error))


def test_paired_difference_covers_the_truth_about_as_often_as_it_says() -> None:
    random = np.random.default_rng(0)
    draws = random.multinomial(120, [0.12, 0.06, 0.82], size=4000)
    covered = [low <= 0.06 <= high for low, high in (paired_difference(int(b), int(c), 120) for b, c, _ in draws)]
    assert np.mean(covered) == pytest.approx(0.95, abs=0.012)


def test_models_that_never_differ_may_still_differ_a_little() -> None:
    low, high = paired_difference(0, 0, 40)
    assert -0.1 < low < 0 < high < 0.1
