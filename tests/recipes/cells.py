"""Commands that the source's recipes print, cells of its tables, and which command makes which, at what cost."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tutelage.methods import METHODS
from tutelage.recipe import Recipe
from tutelage.recipe_reading import load_recipe, parse_setting

FOLDER = Path(__file__).parents[2] / "recipes" / "vfm_kt"
PUBLISHED: dict[str, Any] = yaml.safe_load((FOLDER / "published.yaml").read_text())
NAMES = sorted(path.stem for path in FOLDER.glob("*.yaml") if path.stem != "published")
SEGMENTATION = [name for name in NAMES if load_recipe(FOLDER / f"{name}.yaml").dense]
CLASSIFICATION = [name for name in NAMES if name not in SEGMENTATION]


@dataclass(frozen=True)
class Command:
    """A printed ``tutelage compare``.

    Attributes:
        name: The recipe's file, without its ending.
        methods: Compared.
        labels: As asked for.
        transfers: Paths of the transfer sets, by name.
        settings: Of ``--set``.
        out: The folder.
        recipe: The recipe with the settings.
    """

    name: str
    methods: tuple[str, ...]
    labels: tuple[str, ...]
    transfers: Mapping[str, str]
    settings: Mapping[str, Any]
    out: str
    recipe: Recipe


def commands(name: str) -> list[Command]:
    """Return the commands that a recipe's comments print."""
    lines = (FOLDER / f"{name}.yaml").read_text().splitlines()
    comments = "\n".join(line.removeprefix("#").strip() for line in lines if line.startswith("#"))
    words = [shlex.split(line) for line in comments.replace("\\\n", "").splitlines() if line.startswith("tutelage ")]
    return [_command(name, each) for each in words]


def _command(name: str, words: list[str]) -> Command:
    assert words[:3] == ["tutelage", "compare", f"recipes/vfm_kt/{name}.yaml"]
    given: dict[str, list[str]] = {}
    for flag, value in zip(words[3::2], words[4::2], strict=True):
        given.setdefault(flag, []).append(value)
    assert given.keys() <= {"--methods", "--labels", "--seeds", "--start", "--transfer", "--set", "--out"}
    assert (given["--seeds"], given["--start"]) == (["3"], ["random"])
    settings = dict(parse_setting(setting) for setting in given.get("--set", []))
    return Command(
        name,
        tuple(given["--methods"][0].split(",")),
        tuple(given["--labels"][0].split(",")),
        dict(part.partition("=")[::2] for part in given.get("--transfer", [])),
        settings,
        given["--out"][0],
        load_recipe(FOLDER / f"{name}.yaml", settings),
    )


COMMANDS = [command for name in NAMES for command in commands(name)]


@dataclass(frozen=True)
class Cell:
    """A cell of a published table: its row, data set and student, how many labels, and what stands there."""

    row: Mapping[str, Any]
    dataset: str
    student: str
    labels: str
    found: Mapping[str, Any]

    def __str__(self) -> str:
        return f"{self.dataset}, {self.row['row']}, {self.labels}"


def cells() -> Iterator[Cell]:
    for table in PUBLISHED["tables"]:
        for row in table["rows"]:
            dataset = row.get("dataset", table.get("dataset"))
            for labels, found in (row["cells"] or {}).items():
                yield Cell(row, dataset, table["student"], labels, found)


CELLS = list(cells())


def makers(cell: Cell) -> list[Command]:
    """Return the commands that make a cell; a teacher's are those of the students that learn from it."""
    method, transfer = cell.row["method"], cell.row.get("transfer")
    if method == "teacher":
        method = {"lp": "task-oriented-lp", "ft": "task-oriented-ft"}.get(cell.row.get("mode", ""), "task-oriented")
    found = []
    for command in COMMANDS:
        alone, recipe = not command.transfers, command.recipe
        if (
            command.name.startswith(cell.dataset)
            and method in command.methods
            and cell.labels in command.labels
            and recipe.student == cell.student
            and (alone or not METHODS[method].needs_teacher or recipe.teacher == cell.row.get("teacher"))
            and (alone or cell.row["method"] == "teacher" or transfer in command.transfers)
        ):
            found.append(command)
    return found


def expected_flops(cell: Cell, command: Command) -> float:
    """Return the floating-point operations of a cell, by the formula that published.yaml states."""
    recipe = command.recipe
    method: str = cell.row["method"]
    images: Mapping[str, int] = PUBLISHED["images"][cell.dataset]
    plain: Mapping[str, float] = PUBLISHED["flops_per_image"]
    passes: Mapping[str, float] = PUBLISHED["dense_flops_per_image"] if recipe.dense else plain
    (name,) = recipe.teachers
    teacher, student = passes[name], passes[recipe.student]
    labels, validation = images[cell.labels], images["validation"]

    def fit(flops: float, epochs: int, rates: int) -> float:
        return (rates + 1) * epochs * labels * 3 * flops + rates * 2 * validation * flops

    forced = {"task-oriented-lp": ("probe",), "task-oriented-ft": ("finetune",)}
    forced |= {"lp": ("probe",), "ft": ("finetune",)}
    modes = forced.get(cell.row.get("mode", method), recipe.adapt.modes)
    total = 0.0
    if method.startswith(("teacher", "task-oriented")):
        rates = len(recipe.adapt.resolved(labels, dense=recipe.dense).rates)
        total += fit(teacher, recipe.adapt.epochs or 0, rates) if "finetune" in modes else 0
        views = min(8, max(1, 2**20 // labels))
        total += (views * labels + validation) * teacher if "probe" in modes else 0
    if method == "teacher":
        return total
    lesson = METHODS[method].lesson
    if lesson is not None:
        seen = passes if lesson.adapted else plain
        shown = (recipe.distill.epochs or 0) * images[cell.row["transfer"]]
        total += shown * (seen[name] + 3 * seen[recipe.student])
    if METHODS[method].needs_pretraining:
        total += (recipe.pretrain.epochs or 0) * 1_281_167 * 3 * plain[recipe.student]
    if METHODS[method].rounds:
        unlabeled = images[cell.row["transfer"]]
        epochs = recipe.pseudo_label.resolved(unlabeled).epochs or 0
        again = (unlabeled - labels) + epochs * unlabeled * 3 + 2 * validation
        total += (cell.row["round"] - 1) * again * student
    return total + fit(student, recipe.finetune.epochs or 0, len(recipe.finetune.learning_rates or ()))
