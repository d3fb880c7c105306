"""Whether better teachers make better students (Qiu et al., ICML 2024, figures 3 and 5)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tutelage.analysis.varied import alike_but, without_teachers
from tutelage.comparison.findings import Contender, outcomes_by_place
from tutelage.comparison.statistics import mean_std, scores_by_seed
from tutelage.comparison.table import Comparison
from tutelage.methods import METHODS
from tutelage.recipe import Recipe
from tutelage.report.intervals import Interval, Z

LEAST = 3
"""Teachers below which nothing is correlated."""

SOURCE = 6
"""The source has so many or more."""

Probe = tuple[str, str, int]
"""A variant's teachers on a seed's labels: variant, label count, seed."""


@dataclass(frozen=True)
class Correlation:
    """How two quantities go together.

    Attributes:
        n: Pairs.
        r: Pearson's coefficient.
        interval: 95 % of it, by Fisher's transformation; ``None`` for fewer than four pairs.
        slope: Of the least-squares line: what the second gains with one more of the first.
    """

    n: int
    r: float
    interval: Interval | None
    slope: float


@dataclass(frozen=True)
class TeacherPoint:
    """A variant's teachers, and a student that they made.

    Attributes:
        variant: Its name.
        teachers: Their names.
        probe: Cross-validated accuracy of a linear probe on their features, mean over seeds.
        score: The student's on the test set, mean over the same seeds.
        seeds: Which.
    """

    variant: str
    teachers: tuple[str, ...]
    probe: float
    score: float
    seeds: tuple[int, ...]


@dataclass(frozen=True)
class TeacherCurve:
    """A method's students over teachers, all else equal; ``contender`` is its first variant's.

    Attributes:
        contender: Which.
        labels: As asked for.
        points: By rising probe accuracy.
        found: ``None`` where all teachers, or all students, are equally good.
    """

    contender: Contender
    labels: str
    points: tuple[TeacherPoint, ...]
    found: Correlation | None


def correlate(first: Sequence[float], second: Sequence[float]) -> Correlation | None:
    r"""Return Pearson's correlation of pairs with its interval, and the slope.

    .. math:: \tanh\left(\operatorname{artanh} r \pm 1.96 / \sqrt{n - 3}\right)

    Args:
        first: One of each pair.
        second: The other.

    Returns:
        ``None`` for fewer than two pairs, or where one side is constant.
    """
    x, y = (np.asarray(values, dtype=np.float64) for values in (first, second))
    if len(x) != len(y):
        raise ValueError(f"expected pairs, got {len(x)} and {len(y)} values")
    if len(x) < 2 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return None
    x, y = x - x.mean(), y - y.mean()
    r = float(np.clip(x @ y / math.sqrt(float(x @ x) * float(y @ y)), -1.0, 1.0))
    return Correlation(len(x), r, _fisher(r, len(x)), float(x @ y / (x @ x)))


def teacher_groups(recipes: Mapping[str, Recipe]) -> list[list[str]]:
    """Return groups of variants that differ in their teachers alone, enough of them to be correlated."""
    groups = []
    for names in alike_but(recipes, without_teachers):
        distinct = {recipes[name].teachers: name for name in reversed(names)}
        if len(distinct) >= LEAST:
            groups.append(sorted(distinct.values(), key=names.index))
    return groups


def probes_needed(comparison: Comparison, groups: Sequence[Sequence[str]]) -> list[Probe]:
    """Return the teachers, labels and seeds whose linear probes are to be compared with students' scores."""
    names = {name for group in groups for name in group}
    wanted = {
        (cell.variant, cell.labels, cell.seed): None
        for outcome in comparison.outcomes
        for cell in [outcome.cell]
        if outcome.score is not None and METHODS[cell.method].held and cell.variant in names
    }
    return list(wanted)


def teacher_curves(
    comparison: Comparison,
    recipes: Mapping[str, Recipe],
    groups: Sequence[Sequence[str]],
    probes: Mapping[Probe, float],
) -> list[TeacherCurve]:
    """Return students' scores over their teachers' probes, of each method that reads teachers' features.

    Args:
        comparison: Finished or not.
        recipes: Of its variants.
        groups: Variants that differ in their teachers alone.
        probes: Accuracies, of all that :func:`probes_needed` names.
    """
    places = outcomes_by_place(comparison)
    found = []
    for group in groups:
        ways: dict[tuple[str, str, str, str], list[tuple[Contender, str]]] = {}
        for contender, labels in places:
            if METHODS[contender.method].held and contender.variant in group:
                way = (contender.method, labels, contender.start, contender.compute)
                ways.setdefault(way, []).append((contender, labels))
        for (_, labels, *_), members in ways.items():
            points = []
            for contender, _ in members:
                scores = scores_by_seed(places[contender, labels])
                if scores:
                    quality = [probes[contender.variant, labels, seed] for seed in scores]
                    points.append(
                        TeacherPoint(
                            contender.variant,
                            recipes[contender.variant].teachers,
                            mean_std(quality).mean,
                            mean_std([*scores.values()]).mean,
                            tuple(scores),
                        )
                    )
            if len(points) >= LEAST:
                points.sort(key=lambda point: point.probe)
                pairs = correlate([point.probe for point in points], [point.score for point in points])
                found.append(TeacherCurve(members[0][0], labels, tuple(points), pairs))
    return found


def _fisher(r: float, pairs: int) -> Interval | None:
    if pairs < 4:
        return None
    if abs(r) >= 1:
        return Interval(r, r)
    middle, margin = math.atanh(r), Z / math.sqrt(pairs - 3)
    return Interval(math.tanh(middle - margin), math.tanh(middle + margin))
