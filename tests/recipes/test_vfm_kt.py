"""The source's recipes pass the check on data laid out as they say, and their commands make the published cells."""

from __future__ import annotations

import itertools
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from torch.utils.flop_counter import FlopCounterMode

from tutelage.data.readers import read_samples
from tutelage.errors import DataError
from tutelage.methods import METHODS
from tutelage.methods.labeling import unlabeled_rows
from tutelage.models import build_encoder
from tutelage.pipeline import check
from tutelage.recipe import Recipe, headline, load_recipe, parse_setting

FOLDER = Path(__file__).parents[2] / "recipes" / "vfm_kt"
PUBLISHED: dict[str, Any] = yaml.safe_load((FOLDER / "published.yaml").read_text())
NAMES = sorted(path.stem for path in FOLDER.glob("*.yaml") if path.stem != "published")


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
    passes: Mapping[str, float] = PUBLISHED["flops_per_image"]
    teacher, student = passes[recipe.teacher or ""], passes[recipe.student]
    labels, validation = images[cell.labels], images["validation"]

    def fit(flops: float, epochs: int, rates: int) -> float:
        return (rates + 1) * epochs * labels * 3 * flops + rates * 2 * validation * flops

    forced = {"task-oriented-lp": ("probe",), "task-oriented-ft": ("finetune",)}
    forced |= {"lp": ("probe",), "ft": ("finetune",)}
    modes = forced.get(cell.row.get("mode", method), recipe.adapt.modes)
    total = 0.0
    if method.startswith(("teacher", "task-oriented")):
        total += (
            fit(teacher, recipe.adapt.epochs or 0, len(recipe.adapt.learning_rates)) if "finetune" in modes else 0
        )
        views = min(8, max(1, 2**20 // labels))
        total += (views * labels + validation) * teacher if "probe" in modes else 0
    if method == "teacher":
        return total
    if METHODS[method].lesson is not None:
        total += (recipe.distill.epochs or 0) * images[cell.row["transfer"]] * (teacher + 3 * student)
    if METHODS[method].needs_pretraining:
        total += (recipe.pretrain.epochs or 0) * 1_281_167 * 3 * student
    if METHODS[method].rounds:
        unlabeled = images[cell.row["transfer"]]
        epochs = recipe.pseudo_label.resolved(unlabeled).epochs or 0
        again = (unlabeled - labels) + epochs * unlabeled * 3 + 2 * validation
        total += (cell.row["round"] - 1) * again * student
    return total + fit(student, recipe.finetune.epochs or 0, len(recipe.finetune.learning_rates or ()))


@pytest.fixture
def layout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lay out a few noisy pictures as the folder's README.md says, two classes in each data set, and go there."""
    generator = np.random.default_rng(0)

    def draw(path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(generator.integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(path)

    for name in ("eurosat", "ham10k", "places365"):
        data = tmp_path / "data" / name
        (data / "splits").mkdir(parents=True)
        for part, rows in (("train_full", range(4)), ("val", range(4, 6)), ("test", range(6, 8))):
            lines = []
            for label, row in itertools.product(("lake", "field_wild"), rows):
                # HAM10K has one folder of images; in Places365 the classes share their file names.
                file = f"{row:08}.png" if name == "places365" else f"{label}_{row}.png"
                draw(data / "images" / ("" if name == "ham10k" else label) / file)
                lines.append(f"{file},{label}\n")
            (data / "splits" / f"{part}.txt").write_text("".join(lines))
    for part, label, row in itertools.product(("train", "val"), ("n01440764", "n01443537"), range(4)):
        draw(tmp_path / "data" / "imagenet" / part / label / f"{label}_{row}.png")
    for row in range(3):
        draw(tmp_path / "data" / "cc3m" / "shard" / f"{row}.png")
    monkeypatch.chdir(tmp_path)


def nulls(value: Any, where: str = "") -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Return every null with the mapping that it stands in."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if inner is None:
                yield f"{where}.{key}", value
            yield from nulls(inner, f"{where}.{key}")
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from nulls(inner, f"{where}[{number}]")


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_loads(name: str) -> None:
    recipe = load_recipe(FOLDER / f"{name}.yaml")
    assert (recipe.method, recipe.start, recipe.student) == ("task-oriented", "random", "timm:fastvit_s12")


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_passes_the_check_on_data_laid_out_as_stated(name: str, layout: None) -> None:
    data, recipe = check(load_recipe(FOLDER / f"{name}.yaml", headline(labels=2, device="cpu")))
    assert (len(data.labeled), len(data.transfer)) == (4, 6 if name == "imagenet" else 8)
    assert (recipe.views.student_size, recipe.views.teacher_size, recipe.views.crop) == (256, 252, 256 / 288)


@pytest.mark.parametrize("name", ["imagenet", "places365"])
@pytest.mark.parametrize("method", ["scratch", "supervised", "agnostic-image", "task-oriented"])
def test_with_all_labels_the_transfer_set_is_the_labeled_one(name: str, method: str, layout: None) -> None:
    flags = headline(labels="all", method=method, pretraining="data/imagenet/train", device="cpu")
    data, _ = check(load_recipe(FOLDER / f"{name}.yaml", flags))
    assert set(data.transfer.ids) == set(data.labeled.ids)
    assert data.transfer.targets is None


def test_pseudo_labels_are_made_of_what_is_not_labeled(layout: None) -> None:
    command = next(each for each in COMMANDS if "pseudo-label-supervised" in each.methods)
    flags = {"data.labels": 2, "method": command.methods[0], "device": "cpu"}
    recipe = load_recipe(FOLDER / f"{command.name}.yaml", {**command.settings, **flags})
    data, resolved = check(recipe)
    assert len(unlabeled_rows(data.transfer, data.labeled)) == 4
    assert resolved.pseudo_label.rounds == 3
    with pytest.raises(DataError, match="every transfer image is a labeled one"):
        check(recipe.model_copy(update={"data": recipe.data.model_copy(update={"labels": "all"})}))


def test_every_path_in_a_command_is_laid_out(layout: None) -> None:
    paths = {path for command in COMMANDS for path in command.transfers.values()}
    paths |= {command.settings["data.pretraining"] for command in COMMANDS if "data.pretraining" in command.settings}
    assert {path: len(read_samples(path, labeled=False)) > 0 for path in paths} == dict.fromkeys(paths, True)


def test_commands_name_known_methods() -> None:
    assert {method for command in COMMANDS for method in command.methods} <= METHODS.keys()


def test_every_command_writes_to_its_own_folder() -> None:
    folders = [command.out for command in COMMANDS]
    assert sorted(folders) == sorted(set(folders))


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: Path(command.out).name)
def test_a_command_gives_its_methods_what_they_need(command: Command) -> None:
    for method in command.methods:
        load_recipe(FOLDER / f"{command.name}.yaml", {**command.settings, "method": method})
        assert METHODS[method].needs_transfer == bool(command.transfers), method


def test_every_null_says_why() -> None:
    found = list(nulls(PUBLISHED))
    assert found
    assert [where for where, around in found if not around.get("reason")] == []


def test_rows_are_of_known_methods() -> None:
    rows = [row for table in PUBLISHED["tables"] for row in table["rows"]]
    assert {row["method"] for row in rows if row["method"]} <= METHODS.keys() | PUBLISHED["other_methods"].keys()
    assert {row["transfer"] for row in rows if row.get("transfer")} <= {
        "cc3m",
        "related",
        *PUBLISHED["other_transfers"],
    }


def test_cells_hold_percentages_and_stars() -> None:
    known = {"mean", "std", "head_only", "expected_flops", "reason"}
    for cell in CELLS:
        assert cell.found.keys() <= known, cell
        assert cell.found["mean"] is None or 0 < cell.found["mean"] < 100, cell
        assert 0 < cell.found.get("std", 1) < 5, cell
        assert cell.found.get("head_only", True) is True, cell


def test_a_table_prints_deviations_for_all_its_cells_or_none() -> None:
    for table in PUBLISHED["tables"]:
        given = [cell for row in table["rows"] for cell in (row["cells"] or {}).values() if cell["mean"] is not None]
        expected = {False} if table.get("std") == "not printed" else {True}
        assert {"std" in cell for cell in given} <= expected, table["table"]


def test_the_tables_are_whole() -> None:
    """As many rows and label counts as the paper prints."""
    sizes = {
        t["table"]: (len(t["rows"]), {len(row["cells"] or ()) for row in t["rows"]}) for t in PUBLISHED["tables"]
    }
    assert sizes == {
        2: (24, {1}),
        3: (4, {0}),
        4: (1, {3}),
        5: (9, {4}),
        6: (16, {3}),
        7: (16, {3}),
        9: (16, {4}),
        11: (14, {3}),
        12: (5, {1}),
        13: (10, {1}),
    }


@pytest.mark.parametrize("dataset", PUBLISHED["images"])
def test_a_cell_has_a_cost_exactly_if_a_command_makes_it(dataset: str) -> None:
    wrong = [
        str(cell)
        for cell in CELLS
        if cell.dataset == dataset and bool(makers(cell)) != ("expected_flops" in cell.found)
    ]
    assert wrong == []


@pytest.mark.parametrize("dataset", PUBLISHED["images"])
def test_costs_follow_from_the_settings(dataset: str) -> None:
    for cell in CELLS:
        if cell.dataset == dataset and "expected_flops" in cell.found:
            for command in makers(cell):
                expected = expected_flops(cell, command)
                assert cell.found["expected_flops"] == pytest.approx(expected, rel=0.05), str(cell)


def test_published_students_are_made_from_the_published_settings() -> None:
    checked = 0
    for setting in PUBLISHED["distillation"]:
        if "reason" in setting:
            continue
        prefix = "agnostic" if setting["method"] == "task-agnostic" else "task-oriented"
        for command in COMMANDS:
            if (
                command.name.startswith(setting["dataset"])
                and setting["transfer"] in command.transfers
                and command.methods[0].startswith(prefix)
            ):
                distill = command.recipe.distill
                found = (distill.epochs, distill.batch_size, distill.learning_rate)
                assert found == (setting["epochs"], setting["batch_size"], setting["learning_rate"]), command
                checked += 1
    assert checked > len(PUBLISHED["distillation"])


@pytest.mark.parametrize(
    ("name", "size"),
    [("timm:fastvit_s12", 256), ("timm:mobilevitv2_100", 256), ("timm:vit_large_patch14_dinov2.lvd142m", 252)],
)
def test_passes_cost_what_is_stated(name: str, size: int) -> None:
    # On the meta device nothing is allocated or computed.
    with torch.device("meta"):
        encoder = build_encoder(name, pretrained=False, size=size)
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            encoder(torch.rand(1, 3, size, size))
    assert PUBLISHED["flops_per_image"][name] == pytest.approx(counter.get_total_flops(), rel=0.01)
