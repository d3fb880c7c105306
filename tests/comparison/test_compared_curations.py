"""Curated transfer sets as an axis of a comparison."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.comparison.two_colors import two_colors

from tutelage.comparison.compare import compare, plan
from tutelage.comparison.forecast import method_cost
from tutelage.comparison.grid import OWN, Grid, make_grid, recipe_of
from tutelage.comparison.layout import Layout
from tutelage.comparison.stages import SharedStages
from tutelage.comparison.table import Comparison
from tutelage.curation.settings import CurateSettings
from tutelage.errors import RecipeError
from tutelage.progress import Quiet
from tutelage.recipe import Recipe
from tutelage.recipe_reading import make_recipe
from tutelage.run import read_manifest
from tutelage.training.distributed import world

SIZE = 6


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return two_colors(tmp_path_factory.mktemp("curations"))


def recipe(data: Path, **changes: Any) -> Recipe:
    settings = {
        "data": {"labeled": str(data / "train"), "labels": 2, "test": str(data / "test")},
        "curate": {"gallery": str(data / "other"), "size": SIZE, "input_size": 32},
        "teacher": "bundled:efficientnet-lite0",
        "student": "timm:test_efficientnet",
        "folds": 2,
        "device": "cpu",
        "views": {"teacher_size": 32, "student_size": 32},
        "distill": {"epochs": 1},
        "finetune": {"epochs": 1, "learning_rates": [1e-3], "modes": ["finetune"]},
        "store": {"folder": str(data / "store")},
    }
    return make_recipe(settings, changes)


def grid(data: Path, *transfers: str, **options: Any) -> Grid:
    options = {"methods": ["scratch", "agnostic-image"], "seeds": 1, "points": 0, **options}
    return make_grid(recipe(data), transfers=transfers, **options)


def test_a_recipe_that_curates_is_compared_with_what_it_curates(data: Path) -> None:
    assert grid(data).transfers == {OWN: recipe(data).curate}


def test_a_curation_has_changes(data: Path) -> None:
    found = grid(data, "near=curate", "any=curate: strategy=random; size=7", "folder=other", "rest").transfers
    assert found["near"] == recipe(data).curate
    assert isinstance(found["any"], CurateSettings)
    assert (found["any"].strategy, found["any"].size, found["any"].input_size) == ("random", 7, 32)
    assert (found["folder"], found["rest"]) == ("other", None)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x=curate:random", "KEY=VALUE"),
        ("x=curate:strategy=nearest", "unknown strategy"),
        ("x=curate:sise=5", "curate.sise"),
        ("x=curate:size=0", "curate.size"),
    ],
)
def test_a_curation_that_cannot_be_is_refused(data: Path, text: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        grid(data, text)


def test_without_a_section_there_is_nothing_to_curate(data: Path) -> None:
    bare = recipe(data).model_copy(update={"curate": None})
    with pytest.raises(RecipeError, match="no section curate"):
        make_grid(bare, methods=["scratch"], transfers=["x=curate"])


def test_a_cell_has_a_place_or_a_curation(data: Path) -> None:
    made = grid(data, "near=curate", "folder=other", methods=["agnostic-image"])
    found = [recipe_of(recipe(data), made, cell) for cell in made.cells]
    assert [(each.data.transfer, each.curate is not None) for each in found] == [(None, True), ("other", False)]


@pytest.fixture(scope="module")
def compared(data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Comparison]:
    out = tmp_path_factory.mktemp("out")
    made = grid(data, "near=curate", "any=curate:strategy=random;size=7", labels=["2", "3"])
    return out, compare(recipe(data), made, out)


def test_each_is_curated_for_its_labels(compared: tuple[Path, Comparison]) -> None:
    out, found = compared
    assert not [outcome.error for outcome in found.outcomes if outcome.error]
    assert len(list((out / "stages").glob("curate-*"))) == 4


def test_curating_is_part_of_what_learning_from_it_costs(compared: tuple[Path, Comparison]) -> None:
    out, found = compared
    spent = {outcome.cell.transfer: outcome.pretraining.flops for outcome in found.outcomes}
    assert spent[None] == 0
    curated = min(float(flops) for flops in _costs(out))
    assert min(spent["near"], spent["any"]) > curated > 0


def _costs(out: Path) -> list[float]:
    manifests = [read_manifest(path) for path in (out / "stages").glob("curate-*/stage.json")]
    return [manifest["cost"]["flops"] for manifest in manifests if manifest]


def test_what_was_curated_is_said(data: Path, compared: tuple[Path, Comparison]) -> None:
    about = compared[1].about
    assert about["transfer"] == {"near": SIZE + 6, "any": 7 + 6}
    assert about["curated"]["any"]["strategy"] == "random"
    page = (compared[0] / "comparison.html").read_text()
    assert "strategy=random" in page


def test_what_is_finished_is_not_curated_again(
    data: Path, compared: tuple[Path, Comparison], monkeypatch: pytest.MonkeyPatch
) -> None:
    out, _ = compared
    monkeypatch.setattr("tutelage.curation.stage._work", lambda *_: pytest.fail("curates"))
    made = grid(data, "near=curate", "any=curate:strategy=random;size=7", labels=["2", "3"])
    assert plan(recipe(data), made, out)["finished"] == len(made.cells)


def test_a_plan_counts_what_is_still_to_be_curated(data: Path, tmp_path: Path) -> None:
    found = plan(recipe(data), grid(data, "near=curate", "rest"), tmp_path)
    assert (found["cells"], found["finished"], found["to_curate"]) == (3, 0, 1)
    assert not (tmp_path / "stages").exists()


def test_a_plan_counts_embedding_once_for_all_that_is_curated_from_a_gallery(data: Path, tmp_path: Path) -> None:
    elsewhere = recipe(data, **{"store.folder": str(tmp_path / "store")})
    one = plan(elsewhere, grid(data, "near=curate"), tmp_path)["stages"]["curate"]
    made = grid(data, "near=curate", "any=curate:strategy=random;size=7")
    two = plan(elsewhere, made, tmp_path)["stages"]["curate"]
    assert (one["count"], two["count"]) == (1, 2)
    assert two["flops"] == one["flops"] > 0


def test_a_budget_includes_curating(data: Path, tmp_path: Path) -> None:
    made = grid(data, "near=curate", methods=["agnostic-image"])
    (cell,) = made.cells
    with world("cpu") as here:
        layout = Layout(recipe(data), made, tmp_path, here)
        job, speeds = layout.job(cell, SharedStages(tmp_path), Quiet()), layout.speeds(cell)
        assert job.curation is not None
        without = method_cost(replace(job, curation=None), speeds)
        assert method_cost(job, speeds).flops == without.flops + job.curation.cost["flops"]
