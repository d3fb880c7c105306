from __future__ import annotations

import json
import shlex
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml
from tests.comparison.two_colors import two_colors

from tutelage.recipe_reading import load_recipe, overrides

if TYPE_CHECKING:
    from conftest import Command

RETRIEVED = 6


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    """A recipe whose gallery holds eight pictures, one of them broken."""
    two_colors(tmp_path)
    (tmp_path / "other" / "red" / "0.png").write_bytes(b"")
    settings = {
        "data": {"labeled": "train", "labels": 2, "test": "test"},
        "curate": {"gallery": "other", "size": RETRIEVED, "input_size": 32},
        "teacher": "bundled:efficientnet-lite0",
        "student": "timm:test_efficientnet",
        "method": "agnostic-image",
        "store": {"folder": str(tmp_path.parent / "store")},
        "device": "cpu",
    }
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(settings))
    return path


def test_it_says_what_was_retrieved_where_it_is_and_how_to_go_on(tutelage: Command, recipe: Path) -> None:
    ended = tutelage("curate", "recipe.yaml", "--out", "made", "--size", "5")
    assert (ended.code, ended.out) == (0, "")
    assert "5 of 7 images were retrieved for 4 labeled images by query-balanced" in ended.err
    assert "1 empty file" in ended.err
    lines = ended.err.splitlines()
    assert lines[-1] == "tutelage transfer recipe.yaml --out made --set curate.size=5"
    assert (recipe.parent / "made" / "01-curate" / "transfer.parquet").exists()
    assert (recipe.parent / "made" / "curation.html").exists()


def test_what_it_says_last_is_the_same_recipe(tutelage: Command, recipe: Path) -> None:
    ended = tutelage("curate", "recipe.yaml", "--out", "made", "--strategy", "random", "--set", "data.labels='2'")
    settings = [part for part in shlex.split(ended.err.splitlines()[-1]) if "=" in part]
    found = load_recipe(recipe, overrides({}, settings=settings))
    assert found == load_recipe(recipe, {"curate.strategy": "random", "data.labels": "2"})


def test_one_json_object_is_printed_if_that_is_wanted(tutelage: Command, recipe: Path) -> None:
    found = json.loads(tutelage("curate", "recipe.yaml", "--out", "made", "--json").out)
    assert (found["retrieved"], found["gallery_images"], found["problems"]) == (RETRIEVED, 7, {"empty file": 1})
    assert found["folder"] == "made"
    assert found["cost"]["flops"] > 0


def test_a_recipe_without_a_gallery_says_what_to_add(tutelage: Command, recipe: Path) -> None:
    ended = tutelage("curate", "recipe.yaml", "--set", "curate=null")
    assert ended.code == 2
    assert "curate.gallery" in ended.err


def test_a_gallery_that_is_the_task_leaves_nothing(tutelage: Command, recipe: Path) -> None:
    ended = tutelage("curate", "recipe.yaml", "--gallery", "train", "--out", "made")
    assert ended.code == 2
    assert "copies of the task's own images" in ended.err


def test_transfer_checks_the_gallery_and_counts_what_will_be_there(tutelage: Command, recipe: Path) -> None:
    counts = json.loads(tutelage("transfer", "recipe.yaml", "--check", "--json").out)["images"]
    assert counts["transfer"] == RETRIEVED + 4
    shutil.rmtree(recipe.parent / "other")
    ended = tutelage("transfer", "recipe.yaml", "--check")
    assert ended.code == 2
    assert "other" in ended.err


def test_a_plan_embeds_nothing(tutelage: Command, recipe: Path, tmp_path: Path) -> None:
    ended = tutelage("curate", "recipe.yaml", "--plan", "--json", "--set", f"store.folder={tmp_path / 'new'}")
    found = json.loads(ended.out)
    assert (found["gallery"], found["left"]) == (8, 8)
    assert found["flops"] > 0
    assert not (tmp_path / "new").exists()


def test_strategies_are_listed(tutelage: Command) -> None:
    assert "query-balanced-text" in tutelage("list", "strategies").out
