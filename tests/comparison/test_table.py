"""A comparison's files give back what was put in."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tutelage.comparison.table import Cell, Comparison, Outcome, Point, Spent, read_comparison, write_comparison
from tutelage.errors import RunError

CELL = Cell("task-oriented", "max:5", 3, "related", "random", "2e13", "warm")
RIGHT = np.array([True, False, True, True, False, False, True, False, True, True, True])


def written(folder: Path) -> Comparison:
    outcome = Outcome(
        CELL,
        score=0.5,
        metrics={"accuracy": 0.5},
        held_out={"accuracy": 0.25},
        teacher_mode="probe",
        teacher_score=0.75,
        chosen="finetune-0.001 (raw)",
        pretraining=Spent(1.5, 2e12),
        finetuning=Spent(0.5, 1e12),
        curve=(Point(0.5, Spent(1.0, 1e12), 0.4), Point(1.0, Spent(1.5, 2e12), 0.5)),
        right=RIGHT,
    )
    write_comparison(folder, Comparison({"task": "classification"}, (outcome, Outcome(CELL, error="no"))))
    return read_comparison(folder)


def test_the_cell_is_read_back(tmp_path: Path) -> None:
    assert written(tmp_path).outcomes[0].cell == CELL


def test_the_curve_is_read_back(tmp_path: Path) -> None:
    assert written(tmp_path).outcomes[0].curve[0] == Point(0.5, Spent(1.0, 1e12), 0.4)


def test_which_items_were_right_is_read_back(tmp_path: Path) -> None:
    right = written(tmp_path).outcomes[0].right
    assert right is not None
    assert right.tolist() == RIGHT.tolist()


def test_a_failure_is_read_back(tmp_path: Path) -> None:
    failed = written(tmp_path).outcomes[1]
    assert (failed.error, failed.score, failed.right) == ("no", None, None)


def test_a_cell_without_a_variant_is_written_and_read_as_before_there_were_any(tmp_path: Path) -> None:
    cell = Cell("scratch", "5", 0, None, "random")
    write_comparison(tmp_path, Comparison({}, (Outcome(cell, score=0.5),)))
    data = json.loads((tmp_path / "comparison.json").read_text())
    assert data["outcomes"][0]["cell"] == {
        "method": "scratch",
        "labels": "5",
        "seed": 0,
        "transfer": None,
        "start": "random",
        "compute": "best",
    }
    assert read_comparison(tmp_path).outcomes[0].cell == cell


def test_a_collapse_is_read_back_and_written_only_where_there_is_one(tmp_path: Path) -> None:
    outcomes = (Outcome(CELL, score=0.5, collapsed="it says nothing"), Outcome(CELL, score=0.5))
    write_comparison(tmp_path, Comparison({}, outcomes))
    assert ["collapsed" in each for each in json.loads((tmp_path / "comparison.json").read_text())["outcomes"]] == [
        True,
        False,
    ]
    assert [each.collapsed for each in read_comparison(tmp_path).outcomes] == ["it says nothing", None]


@pytest.mark.parametrize("content", ["", "[]", '{"schema": 1}', '{"schema": 1, "about": {}, "outcomes": [{}]}'])
def test_a_damaged_file_is_said_to_be_one(tmp_path: Path, content: str) -> None:
    (tmp_path / "comparison.json").write_text(content)
    with pytest.raises(RunError, match=r"comparison\.json: not a comparison"):
        read_comparison(tmp_path)


def test_a_newer_file_is_refused(tmp_path: Path) -> None:
    written(tmp_path)
    data = json.loads((tmp_path / "comparison.json").read_text())
    (tmp_path / "comparison.json").write_text(json.dumps({**data, "schema": 2}))
    with pytest.raises(RunError, match="written by a newer version"):
        read_comparison(tmp_path)
