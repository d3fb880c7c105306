"""What a comparison says about Adaptive Feature Transfer and its rivals: errors, noise, and the worth of teachers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tutelage.analysis.correlation import (
    LEAST,
    SOURCE,
    TeacherCurve,
    probes_needed,
    teacher_curves,
    teacher_groups,
)
from tutelage.analysis.noise import NoiseCurve, noise_curves
from tutelage.analysis.normalized import BASELINE, NormalizedError, normalized_errors
from tutelage.analysis.teachers import teacher_probes
from tutelage.analysis.varied import variant_recipes
from tutelage.comparison.table import Comparison, read_comparison
from tutelage.errors import RunError
from tutelage.methods import METHODS
from tutelage.progress import Progress
from tutelage.recipe import Recipe
from tutelage.recipe_reading import make_recipe
from tutelage.training.distributed import world


@dataclass(frozen=True)
class ComparisonAnalysis:
    """What a comparison says; a part is ``None`` where it does not apply, and ``left_out`` says why.

    Attributes:
        folder: The comparison's.
        about: Plain data: ``metric``, ``student``, ``methods``, ``seeds`` (how many).
        errors: Over that of standard transfer.
        noise: Scores over features without meaning.
        correlation: Scores over the teachers' linear probes.
        left_out: Why a part is missing, by its name.
    """

    folder: Path
    about: Mapping[str, Any]
    errors: list[NormalizedError] | None
    noise: list[NoiseCurve] | None
    correlation: list[TeacherCurve] | None
    left_out: Mapping[str, str]


def analyze_comparison(folder: Path, progress: Progress) -> ComparisonAnalysis:
    """Analyze a comparison, finished or not.

    Raises:
        RunError: It is damaged, or there is nothing to analyze in it.
        TutelageError: Its teachers or data cannot be had any more.
    """
    comparison = read_comparison(folder)
    recipes = variant_recipes(comparison, folder)
    left_out: dict[str, str] = {}
    methods = list(dict.fromkeys(outcome.cell.method for outcome in comparison.outcomes))
    held = [name for name in methods if METHODS[name].held]
    errors = normalized_errors(comparison, recipes) or None
    if errors is None:
        left_out["errors"] = _no_errors(methods)
    noise = noise_curves(comparison, recipes) or None
    if noise is None:
        left_out["noise"] = (
            f"no scores of {_any_of(held)} differ in regularize.noise alone; compare with "
            '--variant "plain" --variant "noise: regularize.noise=512"'
        )
    correlation = _correlation(comparison, recipes, folder, progress) or None
    if correlation is None:
        count = len({recipe.teachers for recipe in recipes.values()})
        left_out["correlation"] = (
            f"it takes scores of {_any_of(held)} with {LEAST} or more teachers (the source has {SOURCE} or more), "
            f"and there {'is' if count == 1 else 'are'} {count}; add --variant 'NAME: teacher=MODEL' for each"
        )
    if errors is None and noise is None and correlation is None:
        raise RunError(f"{folder}: nothing to analyze in this comparison: {'; '.join(left_out.values())}")
    seeds = {outcome.cell.seed for outcome in comparison.outcomes}
    about = {
        "metric": comparison.about.get("metric", "score"),
        "student": comparison.about.get("student"),
        "methods": methods,
        "seeds": len(seeds),
    }
    return ComparisonAnalysis(folder, about, errors, noise, correlation, left_out)


def _correlation(
    comparison: Comparison, recipes: Mapping[str, Recipe], folder: Path, progress: Progress
) -> list[TeacherCurve]:
    groups = teacher_groups(recipes)
    wanted = probes_needed(comparison, groups)
    if not wanted:
        return []
    recipe = make_recipe(yaml.safe_load(comparison.about["recipe"]))
    with world(recipe.device) as here:
        probes = teacher_probes(comparison, recipe, wanted, folder, here, progress)
    return teacher_curves(comparison, recipes, groups, probes)


def _no_errors(methods: list[str]) -> str:
    if BASELINE not in methods:
        return f"errors are set beside those of {BASELINE}, which is not compared; add it to --methods"
    if len(methods) == 1:
        return f"nothing is compared with {BASELINE}; add more to --methods"
    return f"no run has a score on the labels and seed of one of {BASELINE} that makes errors"


def _any_of(held: list[str]) -> str:
    return " or ".join(held) if held else "methods that read teachers' features (such as aft)"
