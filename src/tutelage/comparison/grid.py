"""What is compared: the grid's axes, its cells, and the recipe of each."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from tutelage.comparison.table import BEST, Cell
from tutelage.comparison.variants import Variant, make_variants, of_method, varied
from tutelage.curation.settings import CurateSettings
from tutelage.errors import RecipeError, UnknownNameError
from tutelage.methods import METHODS
from tutelage.methods.pretraining import PRETRAINING
from tutelage.models.sources import is_path
from tutelage.recipe import Recipe
from tutelage.recipe_reading import make_recipe, parse_setting

Start = Literal["random", "pretrained"]

TransferPlace = str | CurateSettings | None
"""Where a transfer set is, or how it is curated; ``None`` for what is left of the labeled data."""

CURATE = "curate"
"""What stands for the recipe's own curation in place of a path; changes of it may follow after a colon."""

OWN = "own"
"""Name of the transfer set that the recipe itself has."""

POINTS = 4
"""Checkpoints on the way that are finetuned and tested, unless asked otherwise."""

MOST_POINTS = 12

_BUDGET = re.compile(r"(?P<number>\d+(\.\d+)?([eE]\+?\d+)?)(?P<seconds>s)?")


@dataclass(frozen=True)
class Budget:
    """What every method may spend, all in all: adapting, targets, pretraining, and finetuning with its choices.

    Attributes:
        name: As asked for.
        amount: How much.
        seconds: Whether it is seconds; FLOPs otherwise.
    """

    name: str
    amount: float
    seconds: bool


@dataclass(frozen=True)
class Grid:
    """The axes of a comparison.

    Attributes:
        methods: Keys of ``METHODS``.
        labels: Amounts, as in ``data.labels``.
        seeds: Each draws other labels and reruns every stage.
        transfers: Where each transfer set is, or how it is curated, by name; ``None`` for what is left of the labeled
            data.
        starts: Where students start; a verdict never compares across them.
        budgets: What every method may spend, beside each at its best.
        shares: After which shares of a pretraining its checkpoints are finetuned and tested.
        variants: Of the recipe; a single one without a name where none were asked for.
    """

    methods: tuple[str, ...]
    labels: tuple[str, ...]
    seeds: tuple[int, ...]
    transfers: Mapping[str, TransferPlace]
    starts: tuple[Start, ...]
    budgets: tuple[Budget, ...] = ()
    shares: tuple[float, ...] = ()
    variants: tuple[Variant, ...] = (Variant(),)

    @property
    def cells(self) -> list[Cell]:
        """All cells, in the order in which they are shown: methods as asked for, then variants, labels and seeds."""
        return [
            Cell(method, labels, seed, transfer, start, compute, variant.name)
            for start in self.starts
            for compute in (BEST, *(budget.name for budget in self.budgets))
            for method in self.methods
            for transfer in (self.transfers if METHODS[method].needs_transfer else [None])
            for variant in self.variants
            if variant.suits(method)
            for labels in self.labels
            for seed in self.seeds
        ]

    def variant(self, name: str) -> Variant:
        """Return a variant by its name."""
        return next(variant for variant in self.variants if variant.name == name)

    def in_turn(self) -> list[Cell]:
        """Return the cells in the order in which they run: seed by seed, so that any stop leaves whole tables."""
        places = {name: place for place, name in enumerate(self.transfers)}
        return sorted(
            self.cells,
            key=lambda cell: (cell.seed, cell.compute != BEST, cell.start, places.get(cell.transfer or "", -1)),
        )


def make_grid(
    recipe: Recipe,
    *,
    methods: Sequence[str],
    labels: Sequence[str] = (),
    seeds: int = 3,
    transfers: Sequence[str] = (),
    starts: Sequence[str] = (),
    budgets: Sequence[str] = (),
    points: int = POINTS,
    variants: Mapping[str, Mapping[str, Any]] | None = None,
) -> Grid:
    """Make a grid from what a command line says, and check it.

    Args:
        recipe: What is common to all cells.
        methods: Keys of ``METHODS``.
        labels: Amounts; the recipe's if none is given.
        seeds: How many, counted from the recipe's seed.
        transfers: ``NAME=PATH`` each, a ``NAME`` alone for the labeled data, labels left out, ``NAME=curate`` for
            what the recipe curates, or ``NAME=curate:KEY=VALUE;KEY=VALUE`` with changes of that; the recipe's own if
            none is given.
        starts: ``random`` or ``pretrained``; the recipe's if none is given.
        budgets: FLOPs (``2e13``) or seconds (``300s``).
        points: Checkpoints on the way through each pretraining: after a half of it, a quarter, an eighth …
        variants: Changes of the recipe by name: dotted keys and their values; see
            :func:`tutelage.comparison.variants.make_variants`.

    Raises:
        UnknownNameError: A method that does not exist.
        RecipeError: Anything else that cannot be compared.
    """
    if not methods:
        raise RecipeError(f"--methods: name some of {', '.join(METHODS)}")
    for method in methods:
        if method not in METHODS:
            raise UnknownNameError("method", method, METHODS)
    every = make_variants(recipe, methods, variants or {})
    if not 0 <= points <= MOST_POINTS:
        raise RecipeError(f"--points {points}: from 0 to {MOST_POINTS}")
    if seeds < 1:
        raise RecipeError(f"--seeds {seeds}: at least one")
    learned = is_path(recipe.student) or all(METHODS[method].start == "pretrained" for method in methods)
    own: Start = recipe.start or ("pretrained" if learned else "random")
    return Grid(
        methods=_once(methods, "--methods"),
        labels=_once(labels or [recipe.data.labels], "--labels"),
        seeds=tuple(range(recipe.seed, recipe.seed + seeds)),
        transfers=_transfers(recipe, transfers) or {OWN: own_transfer(recipe)},
        starts=tuple(_start(name) for name in _once(starts or [own], "--start")),
        budgets=tuple(_budget(text) for text in _once(budgets, "--budget")),
        shares=tuple(0.5**power for power in range(points, 0, -1)),
        variants=every,
    )


def recipe_of(recipe: Recipe, grid: Grid, cell: Cell) -> Recipe:
    """Return the recipe of a cell, not resolved; its budget is left aside."""
    place = grid.transfers[cell.transfer] if cell.transfer is not None else next(iter(grid.transfers.values()))
    path, curation = (None, place) if isinstance(place, CurateSettings) else (place, None)
    asked = varied(of_method(recipe, cell.method), grid.variant(cell.variant))
    changes = {
        "seed": cell.seed,
        "start": cell.start,
        "data": asked.data.model_copy(update={"labels": cell.labels, "transfer": path}),
        "curate": curation,
        **{
            section: getattr(asked, section).model_copy(update={"snapshots": grid.shares})
            for section in PRETRAINING.values()
        },
    }
    return asked.model_copy(update=changes)


def _once(values: Iterable[str], option: str) -> tuple[str, ...]:
    found = tuple(values)
    twice = next((value for place, value in enumerate(found) if value in found[:place]), None)
    if twice is not None:
        raise RecipeError(f"{option}: {twice!r} is given twice")
    return found


def own_transfer(recipe: Recipe) -> TransferPlace:
    """Return the transfer set that a recipe itself has."""
    return recipe.data.transfer if recipe.curate is None else recipe.curate


def _transfers(recipe: Recipe, texts: Sequence[str]) -> dict[str, TransferPlace]:
    found: dict[str, TransferPlace] = {}
    for text in texts:
        name, equals, path = text.partition("=")
        if not name or (equals and not path):
            raise RecipeError(
                f"--transfer {text!r}: write NAME=PATH, a NAME alone for the labeled data, labels left out, or "
                "NAME=curate for what the recipe curates"
            )
        if name in found:
            raise RecipeError(f"--transfer: {name!r} is given twice; each transfer set needs a name of its own")
        head, _, changes = path.partition(":")
        found[name] = _curation(recipe, text, changes) if head == CURATE else path or None
    return found


def _curation(recipe: Recipe, text: str, changes: str) -> CurateSettings:
    """Return a recipe's curation with some changes.

    Raises:
        RecipeError: It has none, or not so.
    """
    parts = [part.strip() for part in changes.split(";") if part.strip()]
    if any("=" not in part for part in parts):
        raise RecipeError(f"--transfer {text!r}: write NAME=curate:KEY=VALUE;KEY=VALUE, such as curate:size=2000")
    settings = {f"curate.{key.strip()}": value for key, value in map(parse_setting, parts)}
    try:
        bare = recipe.model_copy(update={"data": recipe.data.model_copy(update={"transfer": None})})
        made = make_recipe(bare.model_dump(mode="json"), settings)
    except RecipeError as error:
        raise RecipeError(f"--transfer {text!r}: {error}") from error
    if made.curate is None:
        raise RecipeError(
            f"--transfer {text!r}: the recipe has no section curate; add curate.gallery and curate.size"
        )
    return made.curate


def _start(name: str) -> Start:
    found: Start | None = next((start for start in get_args(Start) if start == name), None)
    if found is None:
        raise UnknownNameError("start", name, get_args(Start))
    return found


def _budget(text: str) -> Budget:
    match = _BUDGET.fullmatch(text)
    if not match or float(match["number"]) <= 0:
        raise RecipeError(f"--budget {text!r}: write FLOPs, such as 2e13, or seconds, such as 300s")
    return Budget(text, float(match["number"]), match["seconds"] is not None)
