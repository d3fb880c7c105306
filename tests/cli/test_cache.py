from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

if TYPE_CHECKING:
    from conftest import Command

DISTILL = {"epochs": 4, "targets": "cached", "views": 2, "batch_size": 3}


@pytest.fixture
def recipe(flowers: Path, tmp_path: Path) -> str:
    """Store targets of a probed teacher at the smallest size."""
    data: dict[str, Any] = {
        "data": {"labeled": "flowers"},
        "teacher": "bundled:efficientnet-lite0",
        "student": "timm:lcnet_050",
        "folds": 2,
        "views": {"teacher_size": 32, "student_size": 32},
        "adapt": {"modes": ["probe"], "penalties": [0.1], "probe_views": 0},
        "distill": DISTILL,
        "store": {"folder": "run"},
    }
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(data))
    return "recipe.yaml"


def test_targets_are_stored_beside_the_run_and_found_the_next_time(tutelage: Command, recipe: str) -> None:
    first = json.loads(tutelage("cache", recipe, "--out", "made", "--json").out)
    assert (first["mode"], first["views"], first["images"], first["reused"]) == ("cached", 2, 6, False)
    assert Path(first["folder"]).parent == Path("made/store")
    assert Path(first["folder"], "store.json").is_file()
    again = tutelage("cache", recipe, "--out", "made", "--set", "distill.learning_rate=0.1")
    assert (again.code, again.out) == (0, "")
    assert "2 views of 6 images are stored" in again.err.replace("\n", " ")


def test_a_plan_predicts_and_keeps_nothing(tutelage: Command, recipe: str, tmp_path: Path) -> None:
    before = sorted(tmp_path.rglob("*"))
    found = json.loads(tutelage("cache", recipe, "--plan", "--json").out)
    assert sorted(tmp_path.rglob("*")) == before
    assert found["decided"] == {"mode": "cached", "views": 2}
    assert found["targets"]["bytes"] == 2 * 6 * 2 * 2  # views, images, classes, bytes of a float16
    assert found["epoch"]["live"] > found["epoch"]["cached"] > 0
    assert found["break_even"] > 2


@pytest.mark.parametrize("method", ["agnostic-patch", "agnostic-image", "task-oriented-lp"])
def test_a_plan_is_of_what_the_method_s_teacher_teaches(tutelage: Command, recipe: str, method: str) -> None:
    change = ("--set", f"method={method}")
    planned = json.loads(tutelage("cache", recipe, "--plan", "--json", *change).out)
    stored = json.loads(tutelage("cache", recipe, "--out", "made", "--json", *change).out)
    assert planned["targets"]["bytes"] == stored["bytes"]
    assert planned["forms"] == stored["forms"]


def test_a_plan_is_shown_as_tables_on_stderr(tutelage: Command, recipe: str) -> None:
    ended = tutelage("cache", recipe, "--plan")
    assert (ended.code, ended.out) == (0, "")
    for said in ("run the teacher", "2 views of each, float16", "teacher live", "This recipe stores 2 views."):
        assert said in ended.err


def test_nothing_is_stored_where_the_teacher_runs_live(tutelage: Command, recipe: str, tmp_path: Path) -> None:
    ended = tutelage("cache", recipe, "--out", "made", "--set", "distill.targets=live")
    assert ended.code == 2
    assert "distill.targets=cached stores it anyway" in ended.err
    assert not (tmp_path / "made").exists()


def test_a_method_without_a_teacher_has_nothing_to_store(tutelage: Command, recipe: str) -> None:
    ended = tutelage("cache", recipe, "--plan", "--set", "method=scratch")
    assert ended == (
        2,
        "",
        "tutelage: method 'scratch' learns from no teacher's targets; there is nothing to store\n",
    )


def test_a_budget_that_does_not_hold_the_targets_is_refused_before_anything_runs(
    tutelage: Command, recipe: str, tmp_path: Path
) -> None:
    ended = tutelage("cache", recipe, "--out", "made", "--max-gb", "0")
    assert ended.code == 2
    assert "store.max_gb" in ended.err
    assert not (tmp_path / "made").exists()
