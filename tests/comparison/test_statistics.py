from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from tutelage.comparison.statistics import bootstrap_interval, mean_curve, mean_std, paired, reached, t_interval
from tutelage.comparison.table import Cell, Outcome, Point, Right, Spent


def outcome(
    seed: int, score: float | None = None, right: Right | None = None, curve: tuple[Point, ...] = ()
) -> Outcome:
    return Outcome(Cell("scratch", "5", seed, None, "random"), score=score, right=right, curve=curve)


def graded(seed: int, items: list[int]) -> Outcome:
    return outcome(seed, float(np.mean(items)), np.array(items, dtype=bool))


def curve(*points: tuple[float, float]) -> tuple[Point, ...]:
    """Return checkpoints of (FLOPs, score); each FLOP takes ten seconds."""
    return tuple(
        Point((i + 1) / len(points), Spent(10 * flops, flops), score) for i, (flops, score) in enumerate(points)
    )


def flops(spent: Spent) -> float:
    return spent.flops


def resampled(first: Right, second: Right, draws: int) -> tuple[float, float]:
    """Draw items one by one, the same ones for both models and all seeds."""
    random = np.random.default_rng(1)
    means = []
    for _ in range(draws):
        items = random.integers(first.shape[1], size=first.shape[1])
        means.append(float(first[:, items].mean() - second[:, items].mean()))
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


def test_the_standard_deviation_divides_by_one_less_than_the_runs() -> None:
    values = [0.71, 0.75, 0.82]
    mean = sum(values) / 3
    deviation = math.sqrt(sum((value - mean) ** 2 for value in values) / 2)
    assert mean_std(values) == pytest.approx((mean, deviation))


def test_one_run_has_no_standard_deviation() -> None:
    assert mean_std([0.7]) == (0.7, None)


def test_the_mean_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="no values"):
        mean_std([])


@pytest.mark.parametrize("differences", [[0.01, 0.05], [0.02, -0.01, 0.04], [-0.3, -0.1, -0.2, 0.05, 0.0]])
def test_the_t_interval_is_that_of_scipy_on_the_differences(differences: list[float]) -> None:
    expected = stats.ttest_1samp(differences, 0.0).confidence_interval(0.95)
    assert t_interval(differences) == pytest.approx((expected.low, expected.high))


@pytest.mark.parametrize("differences", [[], [0.1]])
def test_fewer_than_two_seeds_have_no_t_interval(differences: list[float]) -> None:
    assert t_interval(differences) is None


def test_the_bootstrap_is_that_of_items_drawn_one_by_one() -> None:
    random = np.random.default_rng(0)
    first, second = random.random((3, 60)) < 0.8, random.random((3, 60)) < 0.7
    expected = resampled(first, second, draws=20_000)
    # Means are multiples of 1/180, and quantiles of so many draws are off by less than that: they may be neighbors.
    assert bootstrap_interval(first, second, draws=20_000) == pytest.approx(expected, abs=1.01 / 180)


def test_the_bootstrap_keeps_an_item_together_over_seeds() -> None:
    random = np.random.default_rng(0)
    one = random.random((2, 1, 400)) < np.array([0.8, 0.7])[:, None, None]
    first, second = np.repeat(one, 5, axis=1)
    # Five copies of the same predictions say no more than one does.
    assert bootstrap_interval(first, second) == pytest.approx(bootstrap_interval(*one))


def test_the_bootstrap_draws_the_same_items_for_both_models() -> None:
    right = np.random.default_rng(0).random((3, 50)) < 0.6
    assert bootstrap_interval(right, right) == (0.0, 0.0)


def test_the_bootstrap_draws_the_same_again() -> None:
    random = np.random.default_rng(0)
    first, second = random.random((2, 3, 200)) < 0.6
    assert bootstrap_interval(first, second, seed=3) == bootstrap_interval(first, second, seed=3)


@pytest.mark.parametrize("shapes", [((2, 5), (3, 5)), ((2, 5), (2, 6)), ((5,), (5,)), ((2, 0), (2, 0))])
def test_the_bootstrap_refuses_what_cannot_be_paired(shapes: tuple[tuple[int, ...], tuple[int, ...]]) -> None:
    with pytest.raises(ValueError, match="same seeds and items"):
        bootstrap_interval(*(np.ones(shape, dtype=bool) for shape in shapes))


def test_only_seeds_that_both_have_are_paired_whatever_their_order() -> None:
    first = [outcome(0, 0.7), outcome(1, 0.8), outcome(2, 0.9)]
    second = [outcome(3, 0.1), outcome(2, 0.5), outcome(0, 0.6)]
    difference = paired(first, second)
    assert difference is not None
    assert (difference.runs, difference.mean) == (2, pytest.approx((0.1 + 0.4) / 2))


def test_a_run_without_a_score_is_not_paired() -> None:
    assert paired([outcome(0, 0.7)], [outcome(0), outcome(1, 0.7)]) is None


def test_paired_items_are_those_of_the_same_seed() -> None:
    # Seed by seed nothing differs; item sets of other seeds would.
    runs = [graded(0, [1, 1, 0, 0]), graded(1, [0, 0, 1, 0])]
    difference = paired(runs, runs[::-1])
    assert difference is not None
    assert difference.bootstrap == (0.0, 0.0)


def test_items_are_not_resampled_where_a_seed_lacks_them() -> None:
    difference = paired([graded(0, [1, 0]), outcome(1, 0.5)], [graded(0, [1, 1]), graded(1, [1, 1])])
    assert difference is not None
    assert difference.bootstrap is None


def test_items_are_not_resampled_where_the_score_is_not_their_share() -> None:
    right = np.array([True, True, True, False])
    difference = paired([outcome(0, 0.6, right)], [outcome(0, 0.75, right)])
    assert difference is not None
    assert difference.bootstrap is None


def test_a_mean_curve_has_the_shares_that_all_seeds_have() -> None:
    one = (Point(0.25, Spent(1.0, 10.0), 0.2), Point(0.5, Spent(2.0, 20.0), 0.4), Point(1.0, Spent(4.0, 40.0), 0.6))
    two = (Point(0.5, Spent(4.0, 20.0), 0.5), Point(1.0, Spent(6.0, 40.0), 0.8))
    runs = [outcome(0, curve=one), outcome(1, curve=two), outcome(2, curve=(Point(1.0, Spent(9.0, 9.0), 0.0),))]
    assert mean_curve(runs, [0, 1]) == (
        Point(0.5, Spent(3.0, 20.0), pytest.approx(0.45)),
        Point(1.0, Spent(5.0, 40.0), pytest.approx(0.7)),
    )


def test_a_score_half_way_up_costs_the_geometric_mean_of_its_checkpoints() -> None:
    found = reached(curve((100, 0.4), (400, 0.6), (900, 0.9)), curve((1000, 0.5)), flops)
    assert found is not None
    assert (found.ours, found.rival, found.ratio) == pytest.approx((200, 1000, 5))


def test_the_first_crossing_counts_where_a_curve_comes_back_down() -> None:
    found = reached(curve((1, 0.1), (2, 0.5), (4, 0.3), (8, 0.7)), curve((16, 0.5)), flops)
    assert found is not None
    assert found.ours == pytest.approx(2)


def test_reaching_it_at_the_first_checkpoint_is_a_lower_bound() -> None:
    found = reached(curve((100, 0.5), (200, 0.6)), curve((1000, 0.5)), flops)
    assert found is not None
    assert (found.ours, found.ratio, found.lower_bound) == (100, 10, True)


def test_reaching_it_later_is_no_lower_bound() -> None:
    found = reached(curve((100, 0.4), (200, 0.6)), curve((1000, 0.5)), flops)
    assert found is not None
    assert not found.lower_bound


def test_a_score_never_reached_has_no_cost() -> None:
    assert reached(curve((100, 0.4), (200, 0.49)), curve((1000, 0.5)), flops) is None


def test_a_rival_that_stopped_gaining_reached_its_score_for_less() -> None:
    found = reached(curve((100, 0.4), (200, 0.6)), curve((10, 0.3), (50, 0.5), (1000, 0.5)), flops)
    assert found is not None
    assert (found.rival, found.rival_reached) == pytest.approx((1000, 50))


def test_a_checkpoint_before_any_compute_is_left_out() -> None:
    found = reached(curve((0, 0.5), (100, 0.5)), curve((1000, 0.5)), flops)
    assert found is not None
    assert (found.ours, found.lower_bound) == (100, True)


def test_the_compute_that_counts_is_chosen() -> None:
    found = reached(curve((100, 0.5)), curve((1000, 0.5)), lambda spent: spent.seconds)
    assert found is not None
    assert (found.ours, found.rival) == (1000, 10_000)
