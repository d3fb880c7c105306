"""``tutelage analyze`` as its user types it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.analysis.made_comparisons import made

from tutelage.comparison.table import write_comparison

if TYPE_CHECKING:
    from conftest import Command


def write(folder: Path) -> None:
    folder.mkdir(parents=True)
    write_comparison(folder, made({("stl", ""): [0.8, 0.75], ("aft", ""): [0.9, 0.8]}))


def test_json_has_an_object_for_each_folder(tutelage: Command, tmp_path: Path) -> None:
    write(tmp_path / "one")
    write(tmp_path / "two")
    ended = tutelage("analyze", "one", "two", "--json")
    assert ended.code == 0
    analyses = json.loads(ended.out)["analyses"]
    assert [each["page"] for each in analyses] == ["one/analysis.html", "two/analysis.html"]
    assert analyses[0]["errors"][0]["mean"] == pytest.approx((0.1 / 0.2 + 0.2 / 0.25) / 2)
    assert (tmp_path / "two" / "analysis.html").exists()


def test_people_get_tables_sentences_and_the_page(tutelage: Command, tmp_path: Path) -> None:
    write(tmp_path / "one")
    ended = tutelage("analyze", "one")
    assert (ended.code, ended.out) == (0, "")
    assert "aft leaves 35.0% fewer errors than stl" in ended.err
    assert "0.650 ± 0.150" in ended.err
    assert "one/analysis.html" in ended.err


def test_a_folder_of_something_else_is_one_line(tutelage: Command) -> None:
    ended = tutelage("analyze", ".")
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.startswith("tutelage: .: holds neither results.json nor comparison.json")
    assert ended.err.count("\n") == 1
