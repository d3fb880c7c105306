"""What features without meaning do to a method (Qiu et al., ICML 2024, figure 6b)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tutelage.analysis.varied import alike_but, without_noise
from tutelage.comparison.findings import Contender, outcomes_by_place
from tutelage.comparison.statistics import Difference, mean_std, paired, scores_by_seed
from tutelage.comparison.table import Comparison
from tutelage.methods import METHODS
from tutelage.recipe import Recipe


@dataclass(frozen=True)
class NoiseLevel:
    """A method with so many features of noise.

    Attributes:
        noise: How many there are beside the teachers'.
        variant: Which variant has them.
        runs: How many seeds have a score.
        mean: Of the scores.
        std: Sample standard deviation; ``None`` for one run.
        difference: Over no noise, seed by seed; ``None`` without such a variant, and for itself.
    """

    noise: int
    variant: str
    runs: int
    mean: float
    std: float | None
    difference: Difference | None


@dataclass(frozen=True)
class NoiseCurve:
    """A method over rising noise, all else equal; ``contender`` is its first level's."""

    contender: Contender
    labels: str
    levels: tuple[NoiseLevel, ...]


def noise_curves(comparison: Comparison, recipes: Mapping[str, Recipe]) -> list[NoiseCurve]:
    """Return scores over noise, of methods that read teachers' features, where variants differ in noise alone.

    Args:
        comparison: Finished or not.
        recipes: Of its variants.
    """
    places = outcomes_by_place(comparison)
    found = []
    for names in alike_but(recipes, without_noise):
        noises = {name: recipes[name].regularize.noise for name in names}
        ways: dict[tuple[str, str, str, str], dict[int, tuple[Contender, str]]] = {}
        for contender, labels in places:
            if METHODS[contender.method].held and contender.variant in noises:
                way = (contender.method, labels, contender.start, contender.compute)
                ways.setdefault(way, {}).setdefault(noises[contender.variant], (contender, labels))
        for (_, labels, *_), by_noise in ways.items():
            levels = []
            for noise, place in sorted(by_noise.items()):
                scores = list(scores_by_seed(places[place]).values())
                if not scores:
                    continue
                difference = paired(places[place], places[by_noise[0]]) if noise and 0 in by_noise else None
                mean, std = mean_std(scores)
                levels.append(NoiseLevel(noise, place[0].variant, len(scores), mean, std, difference))
            if len(levels) > 1:
                found.append(NoiseCurve(by_noise[min(by_noise)][0], labels, tuple(levels)))
    return found
