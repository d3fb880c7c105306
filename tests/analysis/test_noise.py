from __future__ import annotations

import pytest
from scipy import stats
from tests.analysis.made_comparisons import made, plain_recipes

from tutelage.analysis.noise import NoiseCurve, noise_curves
from tutelage.comparison.table import Comparison

VARIANTS = {
    "plain": {},
    "some": {"regularize.noise": 512},
    "much": {"regularize": {"noise": 2048}},
    "rbf": {"regularize.kernel": "rbf"},
    "rbf, much": {"regularize.kernel": "rbf", "regularize.noise": 2048},
}


def curves(comparison: Comparison) -> list[NoiseCurve]:
    return noise_curves(comparison, plain_recipes(comparison))


def test_noise_is_set_beside_none_seed_by_seed() -> None:
    none, much = [0.8, 0.7, 0.9], [0.7, 0.65, 0.75]
    (curve,) = curves(made({("kd", "plain"): none, ("kd", "much"): much, ("kd", "some"): [0.8]}, VARIANTS))
    first, some, most = curve.levels
    assert [level.noise for level in curve.levels] == [0, 512, 2048]
    assert first.difference is None
    assert most.mean == pytest.approx(0.7)
    assert most.difference is not None
    assert most.difference.mean == pytest.approx(-0.1)
    low, high = stats.ttest_rel(much, none).confidence_interval(0.95)
    assert most.difference.t_interval == pytest.approx((low, high))
    assert some.difference is not None
    assert (some.runs, some.difference.t_interval) == (1, None)


def test_only_noise_may_differ() -> None:
    scores = {("aft", name): [0.5] for name in ("plain", "rbf", "rbf, much")}
    (curve,) = curves(made(scores, VARIANTS))
    assert [(level.variant, level.noise) for level in curve.levels] == [("rbf", 0), ("rbf, much", 2048)]


def test_methods_that_read_no_features_have_no_curve() -> None:
    scores = {("stl", "plain"): [0.5], ("stl", "much"): [0.5], ("scratch", "much"): [0.5], ("aft", "plain"): [0.5]}
    assert curves(made(scores, VARIANTS)) == []


def test_without_a_run_without_noise_there_is_no_difference() -> None:
    (curve,) = curves(made({("kd", "some"): [0.8, 0.7], ("kd", "much"): [0.7, 0.7]}, VARIANTS))
    assert [level.difference for level in curve.levels] == [None, None]


def test_failed_runs_leave_no_level() -> None:
    assert curves(made({("kd", "plain"): [None], ("kd", "some"): [0.7]}, VARIANTS)) == []
