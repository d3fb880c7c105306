from __future__ import annotations

import csv
import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from tutelage.comparison.files import write_tables
from tutelage.comparison.table import Comparison

Make = Callable[..., Comparison]


def parquet(folder: Path, comparison: Comparison) -> list[dict[str, Any]]:
    write_tables(folder, comparison)
    return pq.read_table(folder / "comparison.parquet").to_pylist()


def texts(folder: Path) -> list[dict[str, str]]:
    with (folder / "comparison.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_every_point_has_a_row(make_comparison: Make, tmp_path: Path) -> None:
    comparison = make_comparison()
    rows = parquet(tmp_path, comparison)
    assert len(rows) == sum(max(1, len(outcome.curve)) for outcome in comparison.outcomes)
    scratch = [row for row in rows if row["method"] == "scratch" and row["seed"] == 0 and row["labels"] == "5"]
    assert [row["share"] for row in scratch] == [1.0]
    ours = [row for row in rows if (row["method"], row["transfer"]) == ("task-oriented", "related")]
    assert [row["share"] for row in ours[:5]] == [0.0625, 0.125, 0.25, 0.5, 1.0]


def test_a_cells_own_row_holds_all_that_is_known_of_it(make_comparison: Make, tmp_path: Path) -> None:
    comparison = make_comparison()
    outcome = next(each for each in comparison.outcomes if each.cell.method == "task-oriented")
    row = next(row for row in parquet(tmp_path, comparison) if row["method"] == "task-oriented" and row["share"] == 1)
    place = dataclasses.asdict(outcome.cell)
    assert place.pop("variant") == ""
    assert row == {
        **place,
        "share": 1.0,
        "score": outcome.score,
        "test_accuracy": outcome.metrics["accuracy"],
        "test_macro_f1": outcome.metrics["macro_f1"],
        "val_accuracy": outcome.held_out and outcome.held_out["accuracy"],
        "pretraining_seconds": outcome.pretraining.seconds,
        "pretraining_flops": outcome.pretraining.flops,
        "finetuning_seconds": outcome.finetuning.seconds,
        "finetuning_flops": outcome.finetuning.flops,
        "teacher_mode": outcome.teacher_mode,
        "teacher_score": outcome.teacher_score,
        "chosen": "finetune-0.001",
        "error": None,
    }


def test_a_checkpoint_has_its_own_score_and_compute_only(make_comparison: Make, tmp_path: Path) -> None:
    comparison = make_comparison()
    outcome = next(each for each in comparison.outcomes if each.cell.method == "task-oriented")
    row = next(row for row in parquet(tmp_path, comparison) if row["method"] == "task-oriented")
    point = outcome.curve[0]
    assert (row["share"], row["score"]) == (point.share, point.score)
    assert (row["pretraining_seconds"], row["pretraining_flops"]) == (point.spent.seconds, point.spent.flops)
    assert {row[name] for name in row if name.startswith(("test_", "val_", "finetuning_"))} == {None}


def test_a_failed_cell_has_one_row_with_its_error(make_comparison: Make, error: str, tmp_path: Path) -> None:
    (row,) = [row for row in parquet(tmp_path, make_comparison()) if row["error"] is not None]
    place = ("method", "transfer", "start", "compute", "labels", "seed")
    assert [row.pop(name) for name in place] == ["agnostic-patch", "generic", "random", "best", "10", 2]
    assert row.pop("error") == error
    assert set(row.values()) == {None}


def test_csv_holds_what_parquet_holds(make_comparison: Make, tmp_path: Path) -> None:
    rows = parquet(tmp_path, make_comparison())
    # Only what a spreadsheet would compute differs.
    expected = [
        {name: "" if value is None else str(value) for name, value in row.items() if name != "error"} for row in rows
    ]
    assert [{name: value for name, value in row.items() if name != "error"} for row in texts(tmp_path)] == expected


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(1)", "\t=1"])
def test_no_text_is_a_formula(make_comparison: Make, text: str, tmp_path: Path) -> None:
    comparison = make_comparison(transfers=("related", text))
    outcomes = [dataclasses.replace(each, error=each.error and text) for each in comparison.outcomes]
    write_tables(tmp_path, dataclasses.replace(comparison, outcomes=tuple(outcomes)))
    (row,) = [row for row in texts(tmp_path) if row["error"]]
    assert (row["error"], row["transfer"]) == (f"'{text}", f"'{text}")


def test_names_that_are_not_unicode_do_not_stop_it(make_comparison: Make, tmp_path: Path) -> None:
    rows = parquet(tmp_path, make_comparison(transfers=("caf\udce9", "generic")))
    assert {row["transfer"] for row in rows} == {None, "caf?", "generic"}
    assert {row["transfer"] for row in texts(tmp_path)} == {"", "caf?", "generic"}


def test_a_comparison_without_outcomes_has_columns_alone(tmp_path: Path) -> None:
    assert parquet(tmp_path, Comparison({}, ())) == []
    assert (
        (tmp_path / "comparison.csv").read_text().startswith("method,transfer,start,compute,labels,seed,share,score,")
    )


def test_nothing_but_the_two_files_is_left(make_comparison: Make, tmp_path: Path) -> None:
    write_tables(tmp_path, make_comparison())
    assert {path.name for path in tmp_path.iterdir()} == {"comparison.parquet", "comparison.csv"}


def test_variants_have_a_column_where_there_are_any(make_comparison: Make, tmp_path: Path) -> None:
    rows = parquet(tmp_path, make_comparison(labels=("5",), variants=("plain", "=warm")))
    assert {(row["method"], row["variant"]) for row in rows} >= {("scratch", "plain"), ("scratch", "=warm")}
    assert {row["variant"] for row in texts(tmp_path)} == {"plain", "'=warm"}
    assert "variant" not in parquet(tmp_path, make_comparison(labels=("5",)))[0]


def test_a_collapse_has_a_column_where_there_is_one(make_comparison: Make, tmp_path: Path) -> None:
    comparison = make_comparison(labels=("5",))
    first, *others = comparison.outcomes
    collapsed = (dataclasses.replace(first, collapsed="=nothing"), *others)
    rows = parquet(tmp_path, dataclasses.replace(comparison, outcomes=collapsed))
    assert [row["collapsed"] for row in rows if row["collapsed"]] == ["=nothing"]
    assert texts(tmp_path)[0]["collapsed"] == "'=nothing"
    assert "collapsed" not in parquet(tmp_path, comparison)[0]
