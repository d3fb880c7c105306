"""Named changes of the recipe, compared beside each other: ablations, teachers, any setting."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from tutelage.errors import RecipeError, TutelageError, UnknownNameError
from tutelage.methods.pretraining import PRETRAINING
from tutelage.recipe import Recipe
from tutelage.recipe_reading import make_recipe, parse_setting

AXES = {
    "method": "--methods",
    "seed": "--seeds",
    "start": "--start",
    "data.labels": "--labels",
    "data.transfer": "--transfer",
    "curate": "--transfer NAME=curate:KEY=VALUE",
    **{f"{section}.snapshots": "--points" for section in PRETRAINING.values()},
}
"""Keys that other options vary."""

SHARED = ("task", "data", "baselines", "baseline_finetune", "export", "device")
"""Keys, or sections of them, that are the same in all cells, or that no cell reads."""


@dataclass(frozen=True)
class Variant:
    """A named change of the recipe.

    Attributes:
        name: Shown beside the method; empty where no variants were asked for.
        settings: Values by dotted keys; none for the recipe as it is.
        methods: Which it is for; all if empty.
    """

    name: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    methods: tuple[str, ...] = ()

    def suits(self, method: str) -> bool:
        """Return whether it is for a method."""
        return not self.methods or method in self.methods


def parse_variants(texts: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Parse ``METHODS / NAME: key=value; key=value`` each, as a command line has them.

    Returns:
        The settings, values parsed as YAML, by what stands before the colon.

    Raises:
        RecipeError: One is written in another way, or given twice.
    """
    found: dict[str, dict[str, Any]] = {}
    for text in texts:
        head, colon, changes = text.partition(":")
        parts = [part.strip() for part in changes.split(";") if part.strip()]
        if not head.strip() or "=" in head or (colon and not parts) or any("=" not in part for part in parts):
            raise RecipeError(
                f"--variant {text!r}: write NAME: key=value; key=value, or a NAME alone for the recipe as it is"
            )
        if head.strip() in found:
            raise RecipeError(f"--variant: {head.strip()!r} is given twice; each variant needs a name of its own")
        with blaming(head.strip()):
            settings = dict(parse_setting(part) for part in parts)
        found[head.strip()] = {key.strip(): value for key, value in settings.items()}
    return found


def make_variants(
    recipe: Recipe, methods: Sequence[str], asked: Mapping[str, Mapping[str, Any]]
) -> tuple[Variant, ...]:
    """Make variants, and check that each makes a recipe for each of its methods.

    Args:
        recipe: What is common to all cells.
        methods: Those that are compared.
        asked: Settings of each by its name, which ``METHODS / `` before it limits to some methods; a single one
            without a name is made if there is none.

    Raises:
        UnknownNameError: A variant is for a method that is not compared.
        RecipeError: It sets what is the same in all cells, what another option varies, or what no recipe has; a name
            is given twice; a method has no variant.
    """
    variants = tuple(_variant(head, settings, methods) for head, settings in asked.items()) or (Variant(),)
    names = [variant.name for variant in variants]
    for variant in variants:
        if names.count(variant.name) > 1:
            raise RecipeError(f"--variant: {variant.name!r} is given twice; each variant needs a name of its own")
    for method in methods:
        own = [variant for variant in variants if variant.suits(method)]
        if not own:
            raise RecipeError(f"--variant: none is for {method!r}; add one, such as '{method} / plain'")
        for variant in own:
            with blaming(variant.name):
                make_recipe(of_method(recipe, method).model_dump(mode="json"), variant.settings)
    return variants


def of_method(recipe: Recipe, method: str) -> Recipe:
    """Return the recipe with a method in place of its own, without baselines."""
    changes = {
        "method": method,
        "baselines": (),
        "baseline_finetune": {},
        # What the recipe says of a method as a baseline holds for it here, too.
        "finetune": recipe.baseline_finetune.get(method, recipe.finetune),
    }
    return recipe.model_copy(update=changes)


def varied(recipe: Recipe, variant: Variant) -> Recipe:
    """Return the recipe with a variant's settings, which were checked before."""
    return make_recipe(recipe.model_dump(mode="json"), variant.settings) if variant.settings else recipe


@contextmanager
def blaming(name: str) -> Iterator[None]:
    """Name the variant in whatever is raised inside.

    Raises:
        RecipeError: For any :class:`TutelageError`, of a variant that has a name.
    """
    try:
        yield
    except TutelageError as error:
        if not name:
            raise
        raise RecipeError(f"variant {name!r}: {error}") from error


def _variant(head: str, settings: Mapping[str, Any], methods: Sequence[str]) -> Variant:
    before, slash, after = head.partition(" / ")
    name = (after if slash else head).strip()
    own = tuple(part.strip() for part in before.split(",") if part.strip()) if slash else ()
    if not name or (slash and not own):
        raise RecipeError(f"variant {head!r}: write a name, or METHODS / NAME for some methods alone")
    for method in own:
        if method not in methods:
            raise UnknownNameError("method", method, methods, f"in variant {name!r}; name it in --methods, too")
    for key in settings:
        option = next((option for axis, option in AXES.items() if f"{key}.".startswith(f"{axis}.")), None)
        if option is not None:
            raise RecipeError(f"variant {name!r}: {key} is varied by an option of its own; use {option}")
        if key.partition(".")[0] in SHARED:
            raise RecipeError(f"variant {name!r}: {key} is the same in all cells; set it in the recipe")
    return Variant(name, dict(settings), own)
