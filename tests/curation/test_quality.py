"""Which sizes are tried and which of them is enough, against a slow reference."""

from __future__ import annotations

import math
import statistics

import numpy as np
import pytest

from tutelage.curation.quality import Quality, choose, paired, spread_sizes

SIZES = (100, 200, 400, 800)


def slowly_chosen(sizes: tuple[int, ...], runs: list[list[float]]) -> int:
    means = [statistics.fmean(scores) for scores in runs]
    best = means.index(max(means))
    for size, scores in zip(sizes, runs, strict=True):
        differences = [top - score for top, score in zip(runs[best], scores, strict=True)]
        error = statistics.stdev(differences) / math.sqrt(len(differences)) if len(differences) > 1 else 0.0
        if statistics.fmean(differences) <= error:
            return size
    raise AssertionError("the best size is as good as itself")


@pytest.mark.parametrize("seeds", [1, 2, 3, 7])
def test_the_smallest_size_within_one_standard_error_is_chosen(seeds: int) -> None:
    rng = np.random.default_rng(seeds)
    for _ in range(100):
        trend = np.array([0.0, 0.02, 0.03, 0.03])[:, None]
        runs = (0.6 + trend + rng.normal(0, 0.02, (4, 1)) + rng.normal(0, 0.01, (4, seeds))).tolist()
        assert choose(SIZES, runs)[0] == slowly_chosen(SIZES, runs)


def test_what_a_seed_does_to_all_sizes_does_not_count() -> None:
    steady = [[0.50, 0.51, 0.52], [0.60, 0.61, 0.62]]
    shaken = [[score + shift for score, shift in zip(scores, (0.0, 0.3, -0.3), strict=True)] for scores in steady]
    assert choose((1, 2), shaken)[0] == choose((1, 2), steady)[0] == 2


def test_one_seed_takes_the_best() -> None:
    assert choose(SIZES, [[0.5], [0.7], [0.6999], [0.6]])[0] == 200


def test_equals_take_the_smallest() -> None:
    assert choose(SIZES, [[0.5, 0.5]] * 4)[0] == 100


def test_the_error_is_that_of_a_mean() -> None:
    mean, error = paired([0.5, 0.7, 0.9], [0.4, 0.7, 0.5])
    assert mean == pytest.approx(0.5 / 3)
    assert error == pytest.approx(statistics.stdev([0.1, 0.0, 0.4]) / math.sqrt(3))


@pytest.mark.parametrize(
    ("runs", "why"),
    [
        ([[0.50, 0.52], [0.51, 0.52]], "2 is better by 0.5 ± 0.5 points, within one standard error"),
        ([[0.50, 0.52], [0.60, 0.64]], "no other size is better; 1 is worse by 11.0 ± 1.0 points"),
        ([[0.60, 0.62], [0.50, 0.54]], "no other size is better"),
    ],
)
def test_why_is_said(runs: list[list[float]], why: str) -> None:
    assert choose((1, 2), runs)[1] == why


def test_a_size_that_is_given_stays() -> None:
    found = Quality((1, 2), [[0.5], [0.6]], "likelihood", {}, 10)
    assert found.chosen(None)[0] == 2
    size, why = found.chosen(1)
    assert size == 1
    assert why.startswith("as the recipe says; by these trainings 2 are enough")


@pytest.mark.parametrize(
    ("least", "most", "expected"),
    [
        (1, 10_000, (200, 530, 1400, 3800, 10_000)),
        (500, 10_000, (500, 1100, 2200, 4700, 10_000)),
        (6, 40, (6, 9, 15, 25, 40)),
        (1, 3, (1, 2, 3)),
        (50, 40, (40,)),
        (1, 1, (1,)),
    ],
)
def test_sizes_grow_by_a_factor(least: int, most: int, expected: tuple[int, ...]) -> None:
    assert spread_sizes(least, most) == expected
