"""How good transfer sets of several sizes are, and which size is enough: the arithmetic, purely.

Quality over size rises, then falls or saturates (Vemulapalli et al., ICML 2024, section 4). What is measured of each
size is in :mod:`tutelage.curation.probes`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

STEPS = 5
"""Sizes of a curve, unless a recipe names them."""

SMALLEST = 200
"""The first of them, in galleries that have eight times as many images or more."""

Runs = Sequence[Sequence[float]]
"""Scores of each size, of each seed in the same order; higher is better."""


@dataclass(frozen=True)
class Quality:
    """Scores of transfer sets over their size.

    Attributes:
        sizes: Retrieved items, rising.
        runs: The scores by which a size is chosen.
        metric: What these are.
        beside: Other metrics of the same trainings, by name.
        steps: Of each training.
    """

    sizes: tuple[int, ...]
    runs: Runs
    metric: str
    beside: Mapping[str, Runs]
    steps: int

    def chosen(self, given: int | None) -> tuple[int, str]:
        """Return the size to take, and why, in words.

        Args:
            given: By the recipe; ``None`` where the scores decide.
        """
        enough, why = choose(self.sizes, self.runs)
        if given is None:
            return enough, why
        return given, f"as the recipe says; by these trainings {enough:,} are enough: {why}"

    def as_dict(self, given: int | None) -> dict[str, Any]:
        """Return plain data for reports."""
        chosen, why = self.chosen(given)
        return {
            "sizes": list(self.sizes),
            "runs": [list(scores) for scores in self.runs],
            "chosen": chosen,
            "why": why,
            "metric": self.metric,
            "beside": {name: [list(scores) for scores in runs] for name, runs in self.beside.items()},
            "steps": self.steps,
        }


def choose(sizes: Sequence[int], runs: Runs) -> tuple[int, str]:
    """Return the smallest size whose mean score is within one standard error of the best one's, and why.

    The error is that of the mean difference to the best one, paired over seeds: what a seed does to all sizes alike
    tells them no worse apart. Of one seed there is none, and the best size is taken.

    Args:
        sizes: Rising.
        runs: Their scores, as shares.
    """
    means = [float(np.mean(scores)) for scores in runs]
    best = int(np.argmax(means))
    for row in range(best):
        behind, error = paired(runs[best], runs[row])
        if behind <= error:
            return sizes[row], f"{sizes[best]:,} is better by {_points(behind, error)}, within one standard error"
    if best == 0:
        return sizes[0], "no other size is better"
    ahead = paired(runs[best], runs[best - 1])
    return sizes[best], f"no other size is better; {sizes[best - 1]:,} is worse by {_points(*ahead)}"


def paired(one: Sequence[float], other: Sequence[float]) -> tuple[float, float]:
    """Return the mean of paired differences, one less the other, and its standard error; 0 for a single pair."""
    differences = np.subtract(one, other)
    count = len(differences)
    error = float(differences.std(ddof=1)) / math.sqrt(count) if count > 1 else 0.0
    return float(differences.mean()), error


def spread_sizes(least: int, most: int) -> tuple[int, ...]:
    """Return the sizes of a curve, rising: five from ``least``, or 200, to ``most``, each as many times the last.

    Those between are rounded to two digits. Of few items there is an eighth, so that the curve has some length.

    Args:
        least: Fewest that may be asked for.
        most: Most that there are.
    """
    first = max(least, min(SMALLEST, most // 8), 1)
    if first >= most:
        return (most,)
    between = [_two_digits(float(size)) for size in np.geomspace(first, most, STEPS)[1:-1]]
    return tuple(sorted({first, *(size for size in between if first < size < most), most}))


def _two_digits(value: float) -> int:
    return int(float(f"{value:.1e}"))


def _points(mean: float, error: float) -> str:
    return f"{100 * mean:.1f} ± {100 * error:.1f} points"
