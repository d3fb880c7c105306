"""``tutelage rank`` as its user types it."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from tests.ranking.toys import add_toys, paint_colors

import tutelage as library

if TYPE_CHECKING:
    from conftest import Command


@pytest.fixture(autouse=True)
def recipe(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A recipe whose teacher is still to be found, with a method that needs one."""
    add_toys(monkeypatch)
    paint_colors(tmp_path / "train", 6)
    data: dict[str, Any] = {"data": {"labeled": "train", "labels": 4}, "student": "timm:lcnet_050", "folds": 2}
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump({**data, "device": "cpu"}))
    return tmp_path / "recipe.yaml"


def test_json_says_what_is_best_and_what_each_candidate_costs(tutelage: Command) -> None:
    ended = tutelage("rank", "recipe.yaml", "--teachers", "toy:noise, toy:color", "--seeds", "2", "--json")
    assert ended.code == 0
    found = json.loads(ended.out)
    assert (found["best"], found["seeds"], found["labels"], found["failed"]) == ("toy:color", [0, 1], 12, [])
    best, other = found["candidates"]
    assert (best["name"], best["behind"], best["width"], best["params"]) == ("toy:color", None, 3, 3)
    for measure in ("probe", "neighbors", "logme"):
        assert len(best[measure]["draws"]) == 2
        assert best[measure]["mean"] == pytest.approx(sum(best[measure]["draws"]) / 2)
    low, high = other["behind"]["interval"]
    assert low <= other["behind"]["mean"] <= high
    assert other["behind"]["over"] == "draws"
    assert best["per_1000_images"]["seconds"] > 0
    assert set(best["per_1000_images"]) == {"seconds", "flops"}


def test_people_get_a_table_a_verdict_and_the_next_command(tutelage: Command) -> None:
    ended = tutelage("rank", "recipe.yaml", "--teachers", "toy:noise,toy:color", "--labels", "3")
    assert (ended.code, ended.out) == (0, "")
    lines = ended.err.splitlines()
    heading = next(place for place, line in enumerate(lines) if "LogME" in line)
    assert [line.split()[0] for line in lines[heading + 1 : heading + 3]] == ["color", "noise"]
    assert any("toy:color is the best one" in line or "cannot tell" in line for line in lines)
    assert lines[-1] == "tutelage transfer recipe.yaml --labels 3 --teacher toy:color"


def test_a_failed_candidate_has_its_exit_code_and_its_reason(tutelage: Command) -> None:
    ended = tutelage("rank", "recipe.yaml", "--teachers", "toy:weightless,toy:color", "--json")
    assert ended.code == 1
    assert json.loads(ended.out)["failed"] == [
        {"name": "toy:weightless", "error": "toy:weightless has no pretrained weights"}
    ]


def test_a_candidate_that_is_named_twice_is_one_line_and_2(tutelage: Command) -> None:
    ended = tutelage("rank", "recipe.yaml", "--teachers", "toy:color,toy:color")
    assert ended == (2, "", "tutelage: --teachers: 'toy:color' is given twice\n")


def test_two_encoders_go_on_with_a_method_that_takes_both(recipe: Path) -> None:
    from tutelage.cli.rank import next_command
    from tutelage.recipe_reading import load_recipe, parse_setting

    command = shlex.split(next_command(recipe, "toy:a+toy:b", []))
    setting = command[command.index("--set") + 1]
    made = load_recipe(recipe, {"method": command[command.index("--method") + 1], **dict([parse_setting(setting)])})
    assert made.teachers == ("toy:a", "toy:b")


def test_python_finds_what_the_command_does(recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(recipe.parent)
    found = library.rank(recipe, teachers=["toy:noise", "toy:color"], labels=3, seeds=1)
    assert (found.best.name, found.labels) == ("toy:color", 9)
