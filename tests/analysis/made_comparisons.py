"""Comparisons of Adaptive Feature Transfer and its rivals, with scores given by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from tutelage.analysis.varied import variant_recipes
from tutelage.comparison.table import Cell, Comparison, Outcome
from tutelage.recipe import Recipe

RECIPE: dict[str, Any] = {
    "data": {"labeled": "digits", "test": "20%"},
    "teacher": "toy:color",
    "student": "timm:test_efficientnet",
    "start": "pretrained",
}

Scores = Mapping[tuple[str, str], Sequence[float | None]]
"""Of each seed, by method and variant; ``None`` for a run that failed."""


def made(
    scores: Scores, variants: Mapping[str, Mapping[str, Any]] | None = None, *, labels: str = "5", **about: Any
) -> Comparison:
    """Return a comparison at one label count."""
    outcomes = [
        Outcome(
            Cell(method, labels, seed, None, "pretrained", variant=variant),
            error="out of memory" if score is None else None,
            score=score,
        )
        for (method, variant), runs in scores.items()
        for seed, score in enumerate(runs)
    ]
    facts = {"metric": "accuracy", "recipe": yaml.safe_dump(RECIPE), "student": RECIPE["student"]}
    return Comparison({**facts, "variants": dict(variants or {}), **about}, tuple(outcomes))


def plus(*comparisons: Comparison) -> Comparison:
    """Return all outcomes together."""
    outcomes = tuple(outcome for each in comparisons for outcome in each.outcomes)
    return Comparison(comparisons[0].about, outcomes)


def plain_recipes(comparison: Comparison) -> dict[str, Recipe]:
    """Return the recipes of a comparison's variants."""
    return variant_recipes(comparison, Path("runs/made"))
