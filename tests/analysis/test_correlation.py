from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from tests.analysis.made_comparisons import made, plain_recipes

from tutelage.analysis.correlation import correlate, probes_needed, teacher_curves, teacher_groups

VARIANTS = {
    "color": {},
    "noise": {"teacher": "toy:noise"},
    "both": {"teacher": ["toy:color", "toy:noise"], "views.teacher_size": 64},
    "other": {"teacher": "toy:other"},
    "rbf": {"teacher": "toy:more", "regularize.kernel": "rbf"},
    "again": {"teacher": "toy:color"},
}


@pytest.mark.parametrize("count", [4, 7, 20])
def test_a_correlation_is_scipy_s(count: int) -> None:
    generator = np.random.default_rng(count)
    x = generator.normal(size=count)
    y = 0.5 * x + generator.normal(size=count)
    found = correlate(x.tolist(), y.tolist())
    assert found is not None
    wanted = stats.pearsonr(x, y)
    assert found.n == count
    assert found.r == pytest.approx(wanted.statistic)
    assert found.interval == pytest.approx(tuple(wanted.confidence_interval(0.95)))
    assert found.slope == pytest.approx(stats.linregress(x, y).slope)


def test_three_pairs_have_no_interval() -> None:
    found = correlate([1.0, 2.0, 3.0], [1.0, 3.0, 2.0])
    assert found is not None
    assert (found.r, found.interval, found.slope) == (pytest.approx(0.5), None, pytest.approx(0.5))


def test_a_perfect_line_is_sure_of_itself() -> None:
    found = correlate([1.0, 2.0, 3.0, 4.0], [8.0, 6.0, 4.0, 2.0])
    assert found is not None
    assert found.interval == pytest.approx((-1.0, -1.0))
    assert found.slope == pytest.approx(-2.0)


@pytest.mark.parametrize("pairs", [([1.0, 1.0, 1.0], [1.0, 2.0, 3.0]), ([1.0, 2.0], [5.0, 5.0]), ([1.0], [1.0])])
def test_what_does_not_vary_is_not_correlated(pairs: tuple[list[float], list[float]]) -> None:
    assert correlate(*pairs) is None


def test_variants_differ_in_teachers_alone_and_each_counts_once() -> None:
    comparison = made({("aft", name): [0.5] for name in VARIANTS}, VARIANTS)
    assert teacher_groups(plain_recipes(comparison)) == [["color", "noise", "both", "other"]]


def test_two_teachers_are_too_few() -> None:
    comparison = made({("aft", name): [0.5] for name in ("color", "noise", "again")}, VARIANTS)
    assert teacher_groups(plain_recipes(comparison)) == []


def test_students_are_set_beside_their_teachers_over_the_same_seeds() -> None:
    scores = {
        ("aft", "color"): [0.9, 0.8],
        ("aft", "noise"): [0.5, None],
        ("aft", "both"): [0.8, 0.8],
        ("aft", "other"): [0.6, 0.6],
        ("kd", "color"): [0.7, 0.7],
        ("stl", "color"): [0.4, 0.4],
    }
    comparison = made(scores, VARIANTS)
    recipes = plain_recipes(comparison)
    groups = teacher_groups(recipes)
    needed = probes_needed(comparison, groups)
    assert ("noise", "5", 0) in needed
    assert ("noise", "5", 1) not in needed
    quality = {"color": 0.9, "noise": 0.3, "both": 0.8, "other": 0.5}
    probes = {each: quality[each[0]] + 0.02 * each[2] for each in needed}
    (curve,) = teacher_curves(comparison, recipes, groups, probes)  # of kd there is but one
    assert curve.contender.method == "aft"
    assert [point.variant for point in curve.points] == ["noise", "other", "both", "color"]
    assert [point.probe for point in curve.points] == pytest.approx([0.3, 0.51, 0.81, 0.91])
    assert [point.score for point in curve.points] == pytest.approx([0.5, 0.6, 0.8, 0.85])
    assert curve.points[2].teachers == ("toy:color", "toy:noise")
    assert curve.found is not None
    wanted = stats.pearsonr([0.3, 0.51, 0.81, 0.91], [0.5, 0.6, 0.8, 0.85])
    assert curve.found.r == pytest.approx(wanted.statistic)
