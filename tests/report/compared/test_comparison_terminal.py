from __future__ import annotations

import dataclasses
import io
import re
from collections.abc import Callable
from pathlib import Path

from rich.console import Console

from tutelage.comparison.table import Comparison
from tutelage.comparison.verdict import verdicts
from tutelage.report.compared.terminal import show_comparison

Make = Callable[..., Comparison]


def shown(comparison: Comparison, width: int = 100) -> str:
    file = io.StringIO()
    show_comparison(Console(file=file, width=width, highlight=False), comparison, Path("runs/c"))
    return file.getvalue()


def row(text: str, name: str) -> list[str]:
    return re.split(" {2,}", next(line for line in text.splitlines() if line.startswith(f"{name} ")).strip())


def test_a_hundred_columns_hold_every_contender_on_one_line(make_comparison: Make) -> None:
    lines = shown(make_comparison()).splitlines()
    assert max(map(len, lines)) <= 100
    assert sum(line.startswith("task-oriented-no-finetuning (generic) ") for line in lines) == 2


def test_each_label_count_and_start_has_its_table(make_comparison: Make) -> None:
    lines = shown(make_comparison(starts=("random", "pretrained"))).splitlines()
    titles = [line for line in lines if line.endswith("each method at its best")]
    assert titles == [
        f"{labels} labels a class, from {start} weights, each method at its best"
        for labels in (5, 10)
        for start in ("random", "pretrained")
    ]


def test_a_row_says_score_runs_gain_and_compute(make_comparison: Make) -> None:
    found = row(shown(make_comparison(labels=("10",))), "agnostic-patch (generic)")
    assert found[0] == "agnostic-patch (generic)"
    assert re.fullmatch(r"\d\d\.\d% ± \d\.\d", found[1])
    assert found[2] == "2/3"
    assert re.fullmatch(r"\N{MINUS SIGN}\d+\.\d", found[3])
    assert re.fullmatch(r"\N{MINUS SIGN}\d+\.\d to \S+", found[4])
    assert found[5:] == ["43.4 T", "12 min 3 s"]


def test_one_seed_has_no_interval(make_comparison: Make) -> None:
    found = row(shown(make_comparison(seeds=1)), "task-oriented (related)")
    assert len(found) == 6
    assert "±" not in found[1]


def test_no_pretraining_is_a_dash(make_comparison: Make) -> None:
    assert row(shown(make_comparison()), "scratch")[-2:] == ["—", "—"]


def test_it_says_every_verdict(make_comparison: Make) -> None:
    comparison = make_comparison()
    text = " ".join(shown(comparison).split())
    assert [sentence for sentence in verdicts(comparison) if sentence not in text] == []


def test_it_says_how_much_is_there_while_some_is_not(make_comparison: Make) -> None:
    assert "78 of 90 planned runs are there." in shown(make_comparison(planned=90))
    assert "planned" not in shown(make_comparison())


def test_it_says_where_files_are(make_comparison: Make) -> None:
    text = shown(make_comparison())
    assert all(f"runs/c/comparison.{end}" in text for end in ("html", "csv", "json"))


def test_names_steer_nothing(make_comparison: Make) -> None:
    text = shown(make_comparison(transfers=("\x1b[31mred\u202e", "[bold]plain[/bold]")))
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert "task-oriented (?[31mred?)" in text
    assert "task-oriented ([bold]plain[/bold])" in text


def test_contenders_that_all_failed_are_there_without_numbers(make_comparison: Make) -> None:
    comparison = make_comparison(labels=("5",))
    lost = [
        dataclasses.replace(each, score=None, error="lost") if each.cell.method == "scratch" else each
        for each in comparison.outcomes
    ]
    assert row(shown(Comparison({}, tuple(lost))), "scratch")[1:] == ["—", "0/3", "—", "—", "—"]


def test_a_variant_is_named_beside_its_transfer_set(make_comparison: Make) -> None:
    text = shown(make_comparison(labels=("5",), variants=("plain", "warm")))
    assert len(row(text, "task-oriented (related, warm)")) == 7
    assert len(row(text, "scratch (plain)")) == 7
