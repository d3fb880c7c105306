"""The source's recipes pass the check on data laid out as they say, and their commands make the published cells."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tests.recipes.cells import (
    CELLS,
    CLASSIFICATION,
    COMMANDS,
    FOLDER,
    NAMES,
    PUBLISHED,
    SEGMENTATION,
    Command,
    expected_flops,
    makers,
)
from torch.utils.flop_counter import FlopCounterMode

from tutelage.checks import check
from tutelage.data.readers import read_samples
from tutelage.errors import DataError
from tutelage.methods import METHODS
from tutelage.methods.labeling import unlabeled_rows
from tutelage.models import build_encoder
from tutelage.models.model import Model
from tutelage.recipe_reading import headline, load_recipe
from tutelage.tasks import TASKS


@pytest.fixture
def layout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lay out a few noisy pictures as the folder's README.md says, few classes in each data set, and go there."""
    generator = np.random.default_rng(0)

    def draw(path: Path, shape: tuple[int, ...] = (16, 16, 3), levels: int = 256) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(generator.integers(0, levels, shape, dtype=np.uint8)).save(path)

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
    data = tmp_path / "data" / "ade20k"
    (data / "splits").mkdir(parents=True)
    for split, part, short, rows in (
        ("train_full", "training", "train", range(4)),
        ("val", "training", "train", range(4, 6)),
        ("test", "validation", "val", range(2)),
    ):
        stems = [f"ADE_{short}_{row + 1:08}" for row in rows]
        for stem in stems:
            draw(data / "images" / part / f"{stem}.jpg", (40, 48, 3))
            draw(data / "annotations" / part / f"{stem}.png", (40, 48), levels=6)
        (data / "splits" / f"{split}.txt").write_text("".join(f"{stem}.jpg\n" for stem in stems))
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


@pytest.mark.parametrize("name", CLASSIFICATION)
def test_a_recipe_passes_the_check_on_data_laid_out_as_stated(name: str, layout: None) -> None:
    data, recipe = check(load_recipe(FOLDER / f"{name}.yaml", headline(labels=2, device="cpu")))
    assert (len(data.labeled), len(data.transfer)) == (4, 6 if name == "imagenet" else 8)
    assert (recipe.views.student_size, recipe.views.teacher_size, recipe.views.crop) == (256, 252, 256 / 288)


@pytest.mark.parametrize("name", SEGMENTATION)
def test_a_segmentation_recipe_passes_the_check_on_data_laid_out_as_stated(name: str, layout: None) -> None:
    data, recipe = check(load_recipe(FOLDER / f"{name}.yaml", headline(labels=2, device="cpu")))
    assert data.validation is not None
    assert data.test is not None
    counts = [len(part) for part in (data.labeled, data.validation, data.test, data.transfer)]
    assert (counts, len(data.labeled.classes)) == ([2, 2, 2, 4], 150)
    assert recipe.pretraining_views is not None
    seen = [(views.student_size, views.teacher_size) for views in (recipe.views, recipe.pretraining_views)]
    assert seen == [(512, 512), (256, 252)]


@pytest.mark.parametrize(
    "command",
    [command for command in COMMANDS if command.name == "ade20k"],
    ids=lambda command: Path(command.out).name,
)
def test_what_a_segmentation_command_runs_passes_the_check(command: Command, layout: None) -> None:
    for method in command.methods:
        flags = {"data.labels": 2, "data.transfer": next(iter(command.transfers.values()), None), "device": "cpu"}
        recipe = load_recipe(FOLDER / f"{command.name}.yaml", {**command.settings, **flags, "method": method})
        data, _ = check(recipe)
        assert len(data.transfer) == (3 if "cc3m" in command.transfers else 4)


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
        3: (6, {0}),
        4: (2, {3, 4}),
        5: (9, {4}),
        6: (16, {3}),
        7: (16, {3}),
        8: (9, {4}),
        9: (16, {4}),
        10: (7, {4}),
        11: (14, {3}),
        12: (5, {1}),
        13: (10, {1}),
    }


@pytest.mark.parametrize("transfer", ["cc3m", "related"])
def test_stated_gains_are_those_of_the_cells(transfer: str) -> None:
    own = [cell for cell in CELLS if cell.dataset == "ade20k" and cell.row.get("transfer", transfer) == transfer]
    for rival, stated in PUBLISHED["gains"]["ade20k"][transfer].items():
        gains = [
            cell.found["mean"] - other.found["mean"]
            for cell, other in itertools.product(own, own)
            if cell.row["method"] == "task-oriented" and other.row["method"].startswith(rival)
            if (cell.student, cell.labels) == (other.student, other.labels)
        ]
        assert [min(gains), max(gains)] == pytest.approx(stated, abs=0.05), rival


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


@pytest.mark.parametrize(
    "name", ["timm:fastvit_s12", "timm:mobilevitv2_100", "timm:vit_large_patch14_dinov2.lvd142m"]
)
def test_passes_that_tell_every_pixel_cost_what_is_stated(name: str) -> None:
    recipe = load_recipe(FOLDER / "ade20k.yaml")
    size, task = recipe.views.size, TASKS[recipe.task]
    assert size is not None
    with torch.device("meta"):
        encoder = build_encoder(name, pretrained=False, size=size, stride=task.stride)
        model = Model(encoder, task.head(encoder.widths, 150)).eval()
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            model(torch.rand(1, 3, size, size))
    assert PUBLISHED["dense_flops_per_image"][name] == pytest.approx(counter.get_total_flops(), rel=0.01)
