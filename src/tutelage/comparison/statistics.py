"""Means over seeds, paired differences with an interval over seeds and one over test items, crossings of curves."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from tutelage.comparison.table import Outcome, Point, Right, Spent
from tutelage.report.intervals import Interval


class MeanStd(NamedTuple):
    """A mean, and the sample standard deviation (over n - 1) of single runs; ``None`` for one run."""

    mean: float
    std: float | None


@dataclass(frozen=True)
class Difference:
    """A mean paired difference of scores, over the seeds that both sides have.

    Attributes:
        mean: First minus second, a share (0.01 is one point).
        runs: How many seeds both have, at least one.
        t_interval: 95 % over seeds; ``None`` for one.
        bootstrap: 95 % over test items; ``None`` where the score is not the share of items that are right.
    """

    mean: float
    runs: int
    t_interval: Interval | None
    bootstrap: Interval | None


@dataclass(frozen=True)
class Reached:
    """What a score costs, in FLOPs or seconds of pretraining.

    Attributes:
        ours: Least at which our curve reaches the rival's final score.
        rival: The rival's whole pretraining.
        rival_reached: Least at which its own curve reaches that score: less than ``rival`` where it stopped gaining.
        ratio: ``rival / ours``.
        lower_bound: Our first checkpoint was that good already: the ratio may be larger.
    """

    ours: float
    rival: float
    rival_reached: float
    ratio: float
    lower_bound: bool


def mean_std(values: Sequence[float]) -> MeanStd:
    """Return the mean and sample standard deviation of at least one value."""
    if not values:
        raise ValueError("no values to take the mean of")
    return MeanStd(float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else None)


def t_interval(differences: Sequence[float]) -> Interval | None:
    """Return Student's 95 % interval of a mean paired difference; ``None`` for fewer than two pairs.

    Args:
        differences: One of each seed. Chance here is whatever a seed decides: the labels drawn, the order of batches.
    """
    if len(differences) < 2:
        return None
    from scipy.stats import t

    mean, std = mean_std(differences)
    assert std is not None
    margin = float(t.ppf(0.975, len(differences) - 1)) * std / math.sqrt(len(differences))
    return Interval(mean - margin, mean + margin)


def bootstrap_interval(first: Right, second: Right, *, draws: int = 2000, seed: int = 0) -> Interval:
    """Return the 95 % percentile interval, over test items, of the difference of two mean accuracies.

    Every draw takes N items with replacement, the same ones for both models and for all seeds: chance here is which
    items the test set happens to hold.

    Args:
        first: Which items one model got right, [S, N], a row for each seed.
        second: The same for the other model, of the same seeds and items.
        draws: How often the items are drawn.
        seed: Of the draws.

    Raises:
        ValueError: The shapes differ, or are not [S, N] with at least one seed and one item.
    """
    if first.shape != second.shape or first.ndim != 2 or not first.size:
        raise ValueError(f"expected [S, N] of the same seeds and items, not {first.shape} and {second.shape}")
    # An item's difference, summed over seeds, is a whole number from -S to S. Only how many items of each kind
    # are drawn matters, and those counts are multinomial: drawing them is drawing items, without N x draws numbers.
    values, counts = np.unique(first.sum(0, dtype=np.int64) - second.sum(0, dtype=np.int64), return_counts=True)
    drawn = np.random.default_rng(seed).multinomial(first.shape[1], counts / counts.sum(), size=draws)
    low, high = np.quantile(drawn @ values / first.size, [0.025, 0.975])
    return Interval(float(low), float(high))


def paired(first: Iterable[Outcome], second: Iterable[Outcome]) -> Difference | None:
    """Return the paired difference of two contenders' runs; ``None`` if they have no seed in common."""
    first, second = list(first), list(second)
    ours, theirs = scores_by_seed(first), scores_by_seed(second)
    seeds = [seed for seed in ours if seed in theirs]
    if not seeds:
        return None
    differences = [ours[seed] - theirs[seed] for seed in seeds]
    right, other = _right(first), _right(second)
    bootstrap = None
    if all(seed in right and seed in other for seed in seeds):
        rows = np.stack([right[seed] for seed in seeds]), np.stack([other[seed] for seed in seeds])
        bootstrap = bootstrap_interval(*rows)
    return Difference(mean_std(differences).mean, len(seeds), t_interval(differences), bootstrap)


def scores_by_seed(outcomes: Iterable[Outcome]) -> dict[int, float]:
    """Return the scores of the runs that have one."""
    return {outcome.cell.seed: outcome.score for outcome in outcomes if outcome.score is not None}


def mean_spent(spent: Sequence[Spent]) -> Spent:
    """Return the mean of at least one run's compute."""
    return Spent(mean_std([each.seconds for each in spent]).mean, mean_std([each.flops for each in spent]).mean)


def mean_curve(outcomes: Iterable[Outcome], seeds: Iterable[int]) -> tuple[Point, ...]:
    """Return the mean curve of some seeds' runs, at each share that all of them have."""
    seeds = set(seeds)
    paths = [{point.share: point for point in run.curve} for run in outcomes if run.cell.seed in seeds]
    shares = [share for share in paths[0] if all(share in path for path in paths)] if paths else []
    return tuple(
        Point(
            share,
            mean_spent([path[share].spent for path in paths]),
            mean_std([path[share].score for path in paths]).mean,
        )
        for share in shares
    )


def reached(ours: Sequence[Point], rival: Sequence[Point], compute: Callable[[Spent], float]) -> Reached | None:
    """Return what the rival's final score costs on each curve; ``None`` where ours never gets there.

    Between checkpoints, scores are taken to be linear in the logarithm of compute.

    Args:
        ours: Our mean curve.
        rival: The rival's, whose last checkpoint is the final one.
        compute: Picks FLOPs or seconds.
    """
    score, whole = rival[-1].score, compute(rival[-1].spent)
    least, least_of_rival = (
        _least([(compute(point.spent), point.score) for point in points], score) for points in (ours, rival)
    )
    if least is None or least_of_rival is None:
        return None
    return Reached(least[0], whole, least_of_rival[0], whole / least[0], lower_bound=least[1])


def _least(path: Iterable[tuple[float, float]], score: float) -> tuple[float, bool] | None:
    """Return the least compute at which a curve reaches a score, and whether its first checkpoint did already.

    Checkpoints without compute have no logarithm, and are left out.

    Args:
        path: Compute and score of each checkpoint, in order.
        score: To be reached; ``None`` is returned where it never is.
    """
    before, lower = 0.0, -math.inf
    for spent, level in path:
        if spent <= 0:
            continue
        if level >= score:
            if not before:
                return spent, True
            return before * (spent / before) ** ((score - lower) / (level - lower)), False
        before, lower = spent, level
    return None


def _right(outcomes: Iterable[Outcome]) -> dict[int, Right]:
    """Return which items each seed got right, where their share is the score: other metrics need not follow."""
    return {
        outcome.cell.seed: outcome.right
        for outcome in outcomes
        if outcome.right is not None and outcome.score is not None
        # Metrics are computed in float32.
        if math.isclose(outcome.right.mean(), outcome.score, abs_tol=1e-5)
    }
