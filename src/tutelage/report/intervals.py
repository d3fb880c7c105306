"""How sure a number from so many test images is."""

from __future__ import annotations

import math
from typing import NamedTuple

Z = 1.959963984540054
"""Two-sided 95 % quantile of the normal distribution."""


class Interval(NamedTuple):
    """A 95 % confidence interval."""

    low: float
    high: float


def wilson(correct: int, images: int) -> Interval:
    """Return the Wilson score interval of a share.

    Args:
        correct: Images classified correctly.
        images: All images, at least one.

    Raises:
        ValueError: There are no images, or more correct ones than images.
    """
    from scipy.stats import binomtest

    found = binomtest(correct, images).proportion_ci(0.95, method="wilson")
    return Interval(float(found.low), float(found.high))


def paired_difference(gained: int, lost: int, images: int) -> Interval:
    """Return the interval of the difference of two accuracies on the same images.

    Agresti and Min, "Simple improved confidence intervals for comparing matched proportions" (2005): Wald's
    interval after half an image is added to each of the four cells.

    Args:
        gained: Images that only the first model classifies correctly.
        lost: Images that only the second one does.
        images: All images, at least one.
    """
    total, b, c = images + 2, gained + 0.5, lost + 0.5
    difference = (b - c) / total
    deviation = math.sqrt(b + c - (b - c) ** 2 / total) / total
    return Interval(max(-1.0, difference - Z * deviation), min(1.0, difference + Z * deviation))
