from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tutelage.report.intervals import wilson

Command = Callable[..., Any]
Make = Callable[..., Path]
GREEN = 'green, or "so"'


@pytest.fixture
def data(tmp_path: Path, painted: Make) -> Path:
    """Three red (one looks blue), two green, one of a class that the model does not know."""
    for number, color in enumerate([(255, 0, 0), (200, 9, 9), (0, 0, 255)]):
        painted(tmp_path / "data" / "red" / f"{number}.png", color)
    for number in range(2):
        painted(tmp_path / "data" / GREEN / f"{number}.png", (0, 255, 0))
    painted(tmp_path / "data" / "apple" / "0.png", (0, 255, 0))
    return tmp_path / "data"


def test_numbers_are_of_the_known_classes(tutelage: Command, run_folder: Path, data: Path) -> None:
    found = json.loads(tutelage("evaluate", "run", "data", "--json").out)
    assert found["images"] == 5
    assert found["accuracy"] == pytest.approx(4 / 5)
    assert found["accuracy_interval"] == pytest.approx(list(wilson(4, 5)))


def test_classes_are_matched_by_name_not_by_place(tutelage: Command, run_folder: Path, data: Path) -> None:
    rows = {row["name"]: row for row in json.loads(tutelage("evaluate", "run", "data", "--json").out)["classes"]}
    assert rows["red"] == {"name": "red", "images": 3, "recall": pytest.approx(2 / 3), "precision": 1.0}
    assert rows[GREEN] == {"name": GREEN, "images": 2, "recall": 1.0, "precision": 1.0}
    assert rows["blue"] == {"name": "blue", "images": 0, "recall": None, "precision": 0.0}


def test_unknown_classes_are_counted_and_told(tutelage: Command, run_folder: Path, data: Path) -> None:
    ended = tutelage("evaluate", "run", "data", "--json")
    assert json.loads(ended.out)["unknown_classes"] == {"apple": 1}
    assert "left out: 1 image of 'apple', which the model does not know" in ended.err


def test_confused_pairs_are_named(tutelage: Command, run_folder: Path, data: Path) -> None:
    found = json.loads(tutelage("evaluate", "run", "data", "--json").out)
    assert found["confused"] == [{"class": "red", "taken_for": "blue", "images": 1}]


def test_the_terminal_shows_the_same(tutelage: Command, run_folder: Path, data: Path) -> None:
    ended = tutelage("evaluate", "run", "data")
    assert ended.code == 0
    assert "80.0%" in ended.out
    assert "red taken for blue: 1 image" in ended.out


def test_broken_images_are_left_out_and_told(tutelage: Command, run_folder: Path, data: Path) -> None:
    (data / "red" / "9.png").write_text("none")
    ended = tutelage("evaluate", "run", "data", "--json")
    found = json.loads(ended.out)
    assert (ended.code, found["images"]) == (1, 5)
    assert [each["image"] for each in found["failed"]] == ["red/9.png"]
    assert "9.png" in ended.err


def test_data_of_other_classes_is_an_error(tutelage: Command, run_folder: Path, flowers: Path) -> None:
    ended = tutelage("evaluate", "run", "flowers")
    assert ended.code == 2
    assert "rose, tulip" in ended.err
    assert "red, green" in ended.err
