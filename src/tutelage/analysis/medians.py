"""Ratios of times that were taken in turn, whatever else the machine did meanwhile."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from tutelage.report.intervals import Interval


@dataclass(frozen=True)
class Ratio:
    """A median of ratios.

    Attributes:
        median: Of the rounds' ratios.
        interval: 95 % of the median; ``None`` for fewer than six rounds.
        rounds: How many.
    """

    median: float
    interval: Interval | None
    rounds: int


def median_ratio(first: Sequence[float], second: Sequence[float]) -> Ratio:
    """Return the median of first over second, over rounds in which both were taken one after the other."""
    ratios = [one / other for one, other in zip(first, second, strict=True)]
    return Ratio(statistics.median(ratios), median_interval(ratios), len(ratios))


def median_interval(values: Sequence[float]) -> Interval | None:
    """Return the 95 % interval of a median, whatever the distribution is; ``None`` for fewer than six values.

    It lies between the k-th smallest and the k-th largest value, which hold the median with a probability of
    1 - 2 P(Bin(n, 1/2) < k); k is the largest for which that is 95 % or more.
    """
    from scipy.stats import binom

    ordered = sorted(values)
    place = int(binom.ppf(0.025, len(ordered), 0.5)) if ordered else 0
    return None if place < 1 else Interval(ordered[place - 1], ordered[-place])
