"""Errors as shares of what standard transfer leaves (Qiu et al., ICML 2024, figure 2)."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from tutelage.analysis.varied import alike_but, without_regularizer
from tutelage.comparison.findings import Contender
from tutelage.comparison.statistics import mean_std
from tutelage.comparison.table import Cell, Comparison
from tutelage.recipe import Recipe

BASELINE = "stl"
"""The method whose error is 1."""


@dataclass(frozen=True)
class NormalizedError:
    """A contender's error over that of standard transfer with the same labels and seed from the same weights.

    Attributes:
        contender: Which.
        labels: As asked for; ``None`` for the mean over all label counts.
        mean: Over seeds.
        standard_error: Of the mean; ``None`` for one seed.
        seeds: Of each seed that both have, and where standard transfer makes errors at all.
    """

    contender: Contender
    labels: str | None
    mean: float
    standard_error: float | None
    seeds: Mapping[int, float]


def normalized_errors(comparison: Comparison, recipes: Mapping[str, Recipe]) -> list[NormalizedError]:
    """Return every contender's normalized errors: for each label count, then over all of them if there are several.

    Standard transfer of another variant serves as well, if that differs in what it does not read: teachers, and what
    they hold a student by.

    Args:
        comparison: With errors of :data:`BASELINE` in it; without, there are none to return.
        recipes: Of its variants.
    """
    levels = _Levels(comparison, recipes)
    ratios: dict[tuple[Contender, str], dict[int, float]] = {}
    for outcome in comparison.outcomes:
        cell, level = outcome.cell, levels.of(outcome.cell)
        if cell.method != BASELINE and outcome.score is not None and level:
            place = ratios.setdefault((Contender.of(cell), cell.labels), {})
            place[cell.seed] = (1 - outcome.score) / level
    found = [_summary(contender, labels, seeds) for (contender, labels), seeds in ratios.items()]
    return [*found, *_over_labels(found)]


def standard_error(values: Sequence[float]) -> float | None:
    """Return the standard error of a mean; ``None`` for one value."""
    std = mean_std(values).std
    return None if std is None else std / math.sqrt(len(values))


def _over_labels(found: Iterable[NormalizedError]) -> list[NormalizedError]:
    """Return each contender's mean over label counts, of the seeds that it has for every one of them."""
    groups: dict[Contender, list[NormalizedError]] = {}
    for each in found:
        groups.setdefault(each.contender, []).append(each)
    pooled = []
    for contender, parts in groups.items():
        seeds = [seed for seed in parts[0].seeds if all(seed in part.seeds for part in parts)]
        if len(parts) > 1 and seeds:
            means = {seed: mean_std([part.seeds[seed] for part in parts]).mean for seed in seeds}
            pooled.append(_summary(contender, None, means))
    return pooled


def _summary(contender: Contender, labels: str | None, seeds: Mapping[int, float]) -> NormalizedError:
    values = list(seeds.values())
    return NormalizedError(contender, labels, mean_std(values).mean, standard_error(values), dict(seeds))


class _Levels:
    """Errors of standard transfer."""

    def __init__(self, comparison: Comparison, recipes: Mapping[str, Recipe]) -> None:
        groups = alike_but(recipes, without_regularizer)
        self._alike = {name: names for names in groups for name in names}
        self._errors: dict[Cell, float] = {}
        for outcome in comparison.outcomes:
            if outcome.cell.method == BASELINE and outcome.score is not None:
                self._errors[_place(outcome.cell, outcome.cell.variant)] = 1 - outcome.score

    def of(self, cell: Cell) -> float | None:
        """Return the error beside a cell: of its own variant, or of one that is the same for standard transfer."""
        others = self._alike.get(cell.variant, [])
        found = [_place(cell, variant) for variant in (cell.variant, *others)]
        return next((self._errors[place] for place in found if place in self._errors), None)


def _place(cell: Cell, variant: str) -> Cell:
    return dataclasses.replace(cell, method=BASELINE, transfer=None, variant=variant)
