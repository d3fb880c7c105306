"""Which variants of a comparison differ in one thing alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import yaml

from tutelage.comparison.table import Comparison
from tutelage.errors import RunError
from tutelage.methods.regularizers import RegularizeSettings
from tutelage.recipe import Recipe
from tutelage.recipe_reading import make_recipe


def variant_recipes(comparison: Comparison, folder: Path) -> dict[str, Recipe]:
    """Return the recipe of each variant that has an outcome, as it was asked for; the plain one is called ``""``.

    Method, labels, seed and start are those of the comparison's recipe, whatever the cells have.

    Raises:
        RunError: The comparison does not say what its recipe was.
        RecipeError: This version knows other settings.
    """
    text = comparison.about.get("recipe")
    if not text:
        raise RunError(f"{folder / 'comparison.json'}: holds no recipe; the same compare command writes it again")
    # A method that takes any teachers, or none: the comparison's own may take but one.
    data = {**yaml.safe_load(text), "method": "stl", "baselines": [], "baseline_finetune": {}}
    settings = comparison.about.get("variants") or {}
    names = dict.fromkeys(outcome.cell.variant for outcome in comparison.outcomes)
    return {name: make_recipe(data, settings.get(name, {})) for name in names}


def alike_but(recipes: Mapping[str, Recipe], without: Callable[[Recipe], Recipe]) -> list[list[str]]:
    """Return groups of variants whose recipes are the same once something is taken out of them."""
    groups: list[tuple[Recipe, list[str]]] = []
    for name, recipe in recipes.items():
        rest = without(recipe)
        own = next((names for other, names in groups if other == rest), None)
        if own is None:
            groups.append((rest, [name]))
        else:
            own.append(name)
    return [names for _, names in groups]


def without_noise(recipe: Recipe) -> Recipe:
    """Return a recipe without features that mean nothing."""
    return recipe.model_copy(update={"regularize": recipe.regularize.model_copy(update={"noise": 0})})


def without_teachers(recipe: Recipe) -> Recipe:
    """Return a recipe without its teachers, and without the size at which they see images."""
    views = recipe.views.model_copy(update={"teacher_size": None})
    return recipe.model_copy(update={"teacher": None, "views": views})


def without_regularizer(recipe: Recipe) -> Recipe:
    """Return what standard transfer reads of a recipe: nothing of its teachers, nor of what they hold it by."""
    return without_teachers(recipe).model_copy(update={"regularize": RegularizeSettings()})
