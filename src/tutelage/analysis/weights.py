"""What a student's training found each feature of its teachers to be worth."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

BINS = 20
"""Of a histogram, equally wide over 0..1."""

START = 0.5
"""The weight of every feature before training."""


@dataclass(frozen=True)
class WeightSummary:
    """The weights of one teacher's features, each in 0..1.

    Attributes:
        features: How many there are.
        mean: Of the weights.
        quartiles: Lower quartile, median, upper quartile.
        below_start: Share of the features that weigh less than at the start.
        histogram: Share of the features in each of :data:`BINS` bins; the last one holds 1, too.
    """

    features: int
    mean: float
    quartiles: tuple[float, float, float]
    below_start: float
    histogram: tuple[float, ...]


def summarize_weights(
    weights: npt.NDArray[np.floating], widths: Mapping[str, int], *, bins: int = BINS
) -> dict[str, WeightSummary]:
    """Summarize the weights of each teacher's features (source: Qiu et al., ICML 2024, figure 6c).

    Args:
        weights: [sum of widths], in 0..1, teacher after teacher.
        widths: How many features each teacher has, by its name, in that order.
        bins: Of the histograms.

    Raises:
        ValueError: There is not one weight for each feature.
    """
    if weights.shape != (sum(widths.values()),):
        raise ValueError(f"expected {sum(widths.values())} weights, one a feature; got {list(weights.shape)}")
    parts = np.split(weights.astype(np.float64), np.cumsum(list(widths.values()))[:-1])
    return {name: _summary(part, bins) for name, part in zip(widths, parts, strict=True)}


def _summary(weights: npt.NDArray[np.float64], bins: int) -> WeightSummary:
    low, median, high = np.quantile(weights, [0.25, 0.5, 0.75]).tolist()
    counts, _ = np.histogram(weights, bins=bins, range=(0.0, 1.0))
    return WeightSummary(
        features=len(weights),
        mean=float(weights.mean()),
        quartiles=(low, median, high),
        below_start=float((weights < START).mean()),
        histogram=tuple((counts / len(weights)).tolist()),
    )
