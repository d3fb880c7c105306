from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Command = Callable[..., Any]
Make = Callable[..., Path]

WITHOUT_TORCH = """
import sys


class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "torchvision", "timm", "transformers", "open_clip"):
            raise ImportError(f"{name} is not installed")


sys.meta_path.insert(0, Blocker())
from tutelage.cli import main

main()
"""


@pytest.fixture
def pictures(tmp_path: Path, painted: Make) -> Path:
    """A red, a green and a blue one, and one that is none."""
    painted(tmp_path / "in" / "a, red.png", (255, 9, 9))
    painted(tmp_path / "in" / 'b "green".png', (9, 255, 9))
    painted(tmp_path / "in" / "deep" / "c blue.png", (9, 9, 255))
    (tmp_path / "in" / "d.png").write_text("none")
    return tmp_path / "in"


@pytest.fixture
def stdin(monkeypatch: pytest.MonkeyPatch) -> Callable[[bytes], None]:
    return lambda content: monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))


LABELS = {"in/a, red.png": "red", 'in/b "green".png': 'green, or "so"', "in/deep/c blue.png": "blue", "in/d.png": ""}


def test_json_is_one_object(tutelage: Command, run_folder: Path, pictures: Path) -> None:
    found = json.loads(tutelage("predict", "run", "in", "--json").out)
    assert {row["file"]: row.get("label", "") for row in found["predictions"]} == LABELS
    assert (found["images"], found["failed"]) == (4, 1)
    assert found["classes"] == ["red", 'green, or "so"', "blue"]


def test_json_lines_are_objects(tutelage: Command, run_folder: Path, pictures: Path) -> None:
    rows = [json.loads(line) for line in tutelage("predict", "run", "in", "--format", "jsonl").out.splitlines()]
    assert {row["file"]: row.get("label", "") for row in rows} == LABELS


def test_csv_can_be_read_back(tutelage: Command, run_folder: Path, pictures: Path) -> None:
    rows = list(csv.DictReader(io.StringIO(tutelage("predict", "run", "in", "--format", "csv").out)))
    assert {row["file"]: row["label"] for row in rows} == LABELS


def test_every_csv_row_has_all_columns(tutelage: Command, run_folder: Path, pictures: Path) -> None:
    rows = list(csv.reader(io.StringIO(tutelage("predict", "run", "in", "--format", "csv", "--top", "9").out)))
    assert {len(row) for row in rows} == {len(rows[0])} == {8}


@pytest.mark.parametrize("form", ["csv", "json", "jsonl"])
def test_a_bad_image_says_so_in_its_row(tutelage: Command, run_folder: Path, pictures: Path, form: str) -> None:
    assert "in/d.png: cannot be decoded" in tutelage("predict", "run", "in/d.png", "--format", form).out


def test_a_bad_image_ends_with_one_and_is_told(tutelage: Command, run_folder: Path, pictures: Path) -> None:
    ended = tutelage("predict", "run", "in")
    assert ended.code == 1
    assert "in/d.png: cannot be decoded" in ended.err
    assert "1 of 4 images failed" in ended.err


def test_many_bad_images_are_counted_but_not_all_listed(tutelage: Command, run_folder: Path) -> None:
    ended = tutelage("predict", "run", *(f"missing{number}.png" for number in range(30)))
    assert "30 of 30 images failed" in ended.err
    assert len(ended.err.splitlines()) == 22


def test_without_failures_it_ends_with_zero(tutelage: Command, run_folder: Path, pictures: Path) -> None:
    assert tutelage("predict", "run", "in/*red.png").code == 0


def test_the_table_shows_files_and_classes(tutelage: Command, run_folder: Path, pictures: Path) -> None:
    lines = tutelage("predict", "run", "in").out.splitlines()
    files = ["in/a, red.png", 'in/b "green".png', "in/d.png", "in/deep/c blue.png"]
    assert [line.split("  ")[0] for line in lines[1:]] == files


def test_names_cannot_steer_the_terminal(tutelage: Command, run_folder: Path, tmp_path: Path, painted: Make) -> None:
    painted(tmp_path / "x\x1b[31m[red].png", (1, 2, 3))
    ended = tutelage("predict", "run", ".")
    assert "x?[31m[red].png" in ended.out


def test_probabilities_fall_and_top_says_how_many(tutelage: Command, run_folder: Path, pictures: Path) -> None:
    found = json.loads(tutelage("predict", "run", "in/a, red.png", "--top", "2", "--json").out)["predictions"][0]
    shares = [each["probability"] for each in found["top"]]
    assert len(shares) == 2
    assert found["probability"] == shares[0] > shares[1]


def test_out_is_written_whole_in_the_form_of_its_suffix(tutelage: Command, run_folder: Path, pictures: Path) -> None:
    ended = tutelage("predict", "run", "in", "--out", "found.csv")
    assert ended.out == ""
    assert Path("found.csv").read_text().startswith("file,label,probability,error\n")
    assert sorted(path.name for path in Path().iterdir()) == ["found.csv", "in", "run"]


def test_out_with_json_counts_on_stdout(tutelage: Command, run_folder: Path, pictures: Path) -> None:
    found = json.loads(tutelage("predict", "run", "in", "--out", "found.jsonl", "--json").out)
    assert (found["images"], found["failed"], found["out"]) == (4, 1, "found.jsonl")


def test_a_failed_run_leaves_no_file(tutelage: Command, run_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()
    assert tutelage("predict", "run", "none", "--out", "found.csv").code == 2
    assert not Path("found.csv").exists()


def test_an_image_on_stdin(tutelage: Command, run_folder: Path, pictures: Path, stdin: Any) -> None:
    stdin((pictures / "a, red.png").read_bytes())
    assert json.loads(tutelage("predict", "run", "-", "--json").out)["predictions"][0]["label"] == "red"


def test_a_list_on_stdin(tutelage: Command, run_folder: Path, pictures: Path, stdin: Any) -> None:
    stdin(b"in/a, red.png\nin/deep/c blue.png\n")
    found = json.loads(tutelage("predict", "run", "-", "--json").out)["predictions"]
    assert [row["label"] for row in found] == ["red", "blue"]


def test_names_that_are_not_unicode_come_back_as_they_are(run_folder: Path, tmp_path: Path, painted: Make) -> None:
    painted(tmp_path / os.fsdecode(b"caf\xe9.png"), (255, 0, 0))
    command = [sys.executable, "-m", "tutelage", "predict", "run", ".", "--format", "csv"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, check=True)
    assert b"caf\xe9.png,red," in done.stdout


def test_nothing_named_is_an_error(tutelage: Command, run_folder: Path, stdin: Any) -> None:
    stdin(b"")
    ended = tutelage("predict", "run", "-", "--json")
    assert ended.code == 2
    assert "no images were named" in ended.err


def test_it_needs_no_torch(run_folder: Path, pictures: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-c", WITHOUT_TORCH, "predict", "run", "in/a, red.png", "--json"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["predictions"][0]["label"] == "red"


def test_evaluation_needs_no_torch(run_folder: Path, tmp_path: Path, painted: Make) -> None:
    painted(tmp_path / "data" / "red" / "1.png", (255, 0, 0))
    command = [sys.executable, "-c", WITHOUT_TORCH, "evaluate", "run", "data", "--json"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["accuracy"] == 1.0
