from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console
from tests.report.dense_runs import write_dense_run

from tutelage.report.finished import Finished, read_run
from tutelage.report.summary import summary

FOLDER = Path("runs/digits")


def printed(run: Finished, folder: Path = FOLDER, width: int = 100) -> str:
    out = io.StringIO()
    Console(file=out, width=width).print(summary(run.data, folder))
    return out.getvalue()


def test_it_shows_student_baseline_and_both_teachers(finished: Callable[..., Finished]) -> None:
    run = finished()
    text = printed(run)
    accuracies = [run.data["metrics"]["test"], *run.data["teacher_metrics"].values()]
    for metrics in (*accuracies, run.data["baselines"]["scratch"]["metrics"]["test"]):
        assert f"{100 * metrics['accuracy']:.1f}%" in text
    for words in ("student", "trained from scratch", "linear probe", "finetuned"):
        assert words in text


def test_of_pixels_it_shows_mean_iou(tmp_path: Path) -> None:
    run = read_run(write_dense_run(tmp_path / "masks"))
    text = printed(run)
    compared = run.data["baselines"]["scratch"]["metrics"]["test"]
    for metrics in (run.data["metrics"]["test"], *run.data["teacher_metrics"].values(), compared):
        assert f"{100 * metrics['miou']:.1f}%" in text
    assert "mean IoU" in text
    assert "accuracy" not in text


def test_it_ends_with_the_lines_that_use_the_model(finished: Callable[..., Finished]) -> None:
    lines = [line.rstrip() for line in printed(finished()).strip().splitlines()]
    assert lines[-3:] == [
        "import tutelage",
        'model = tutelage.load_model("runs/digits")',
        'print(model.predict("picture.png"))',
    ]


@pytest.mark.parametrize("made", ["model/", "report.html", "results.json"])
def test_it_says_where_things_are(finished: Callable[..., Finished], made: str) -> None:
    assert f"runs/digits/{made}" in printed(finished())


def test_without_test_data_it_shows_held_out_numbers_and_no_verdict(finished: Callable[..., Finished]) -> None:
    text = printed(finished(test=False))
    assert "held out" in text
    assert "nobody knows" in text


def test_without_baselines_it_compares_nothing(finished: Callable[..., Finished]) -> None:
    text = printed(finished(method="scratch", baselines=()))
    assert "gained" not in text
    assert "teacher" not in text


def test_brackets_in_names_are_no_markup(finished: Callable[..., Finished]) -> None:
    assert "runs/[red]x[/red]/model/" in printed(finished(), Path("runs/[red]x[/red]"))


def test_nothing_is_lost_in_a_narrow_terminal(finished: Callable[..., Finished]) -> None:
    folder = Path("runs/a-rather-long-name-for-a-run-folder-to-live-in")
    assert f'load_model("{folder}")' in printed(finished(), folder, width=40).replace("\n", "")


def test_rows_fit_a_plain_terminal(finished: Callable[..., Finished]) -> None:
    assert "efficientnet-lite0  teacher, linear probe" in printed(finished(), width=80)


def test_a_collapsed_pretraining_is_told(finished: Callable[..., Finished]) -> None:
    run = finished()
    told = Finished(**{**vars(run), "data": {**run.data, "collapsed": "its outputs say nothing"}})
    assert "collapsed: its outputs say nothing" in " ".join(printed(told).split())
    assert "collapsed" not in printed(run)
