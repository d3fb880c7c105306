from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tutelage.export.web_runtime import FILES
from tutelage.pipeline import run
from tutelage.recipe_reading import load_recipe, make_recipe

Command = Callable[..., Any]
Make = Callable[..., Path]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, painted: Make) -> Path:
    """A run that was really made, in seconds."""
    root = tmp_path_factory.mktemp("finished")
    for number in range(6):
        painted(root / "data" / "red" / f"{number}.png", (200 + number, 9, 9))
        painted(root / "data" / "blue" / f"{number}.png", (9, 9, 200 + number))
    settings = {
        "method": "scratch",
        "data": {"labeled": str(root / "data"), "labels": 3},
        "student": "timm:test_resnet",
        "folds": 2,
        "device": "cpu",
        "views": {"student_size": 32},
        "finetune": {"epochs": 1, "learning_rates": [1e-3]},
    }
    return run(make_recipe(settings), root / "run").folder


@pytest.fixture
def made(finished: Path, tmp_path: Path) -> Path:
    """A copy of it in the folder that commands run in."""
    return Path(shutil.copytree(finished, tmp_path / "run"))


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """Stands in for onnxruntime-web where the page is made but not opened."""
    folder = tmp_path / "package" / "dist"
    folder.mkdir(parents=True)
    for name in FILES:
        (folder / name).write_text("code")
    return folder.parent


def manifests(folder: Path) -> dict[str, int]:
    return {path.parent.name: path.stat().st_mtime_ns for path in folder.glob("*/stage.json")}


def test_a_form_is_added_and_nothing_is_trained_again(tutelage: Command, made: Path) -> None:
    before = manifests(made)
    ended = tutelage("export", "run", "--form", "int8")
    assert ended.code == 0
    after = manifests(made)
    assert {name for name in after if after[name] != before.get(name)} == {"04-export"}
    assert load_recipe(made / "recipe.yaml").export.forms == ("onnx", "int8")


def test_it_lists_the_files_with_their_sizes(tutelage: Command, made: Path) -> None:
    found = json.loads(tutelage("export", "run", "--json").out)
    sizes = {each["path"]: each["bytes"] for each in found["files"]}
    assert sizes["model.onnx"] == (made / "model" / "model.onnx").stat().st_size
    assert found["export"]["onnx"]["parity"] < 1e-3


def test_out_gets_the_model_folder(tutelage: Command, made: Path) -> None:
    assert tutelage("export", "run", "--out", "copy").code == 0
    assert Path("copy/model.onnx").read_bytes() == (made / "model" / "model.onnx").read_bytes()


def test_out_overwrites_nothing(tutelage: Command, made: Path) -> None:
    Path("copy").mkdir()
    Path("copy/mine.txt").touch()
    ended = tutelage("export", "run", "--out", "copy")
    assert (ended.code, "not empty" in ended.err) == (2, True)


def test_the_page_needs_no_data(tutelage: Command, made: Path, package: Path) -> None:
    (made / "recipe.yaml").write_text((made / "recipe.yaml").read_text().replace("/data", "/moved"))
    ended = tutelage("export", "run", "--form", "web", "--runtime", str(package))
    assert ended.code == 0
    assert "python -m http.server -d run/model/web" in ended.out


def test_a_page_does_not_fall_behind_the_model(tutelage: Command, made: Path, package: Path) -> None:
    tutelage("export", "run", "--form", "web", "--runtime", str(package))
    (made / "model" / "web" / "model.onnx").write_bytes(b"old")
    tutelage("export", "run")
    assert (made / "model" / "web" / "model.onnx").read_bytes() == (made / "model" / "model.onnx").read_bytes()


def test_an_unknown_form_names_the_close_ones(tutelage: Command, made: Path) -> None:
    ended = tutelage("export", "run", "--form", "in8")
    assert (ended.code, "did you mean 'int8'" in ended.err) == (2, True)


def test_an_unfinished_run_is_not_resumed_by_it(tutelage: Command, made: Path) -> None:
    (made / "results.json").unlink()
    ended = tutelage("export", "run")
    assert (ended.code, "is no finished run" in ended.err) == (2, True)


def test_the_report_is_written_again(tutelage: Command, made: Path) -> None:
    (made / "report.html").write_text("old")
    assert tutelage("report", "run").out == "run/report.html\n"
    assert "<html" in (made / "report.html").read_text()


def test_the_report_as_json(tutelage: Command, made: Path) -> None:
    assert json.loads(tutelage("report", "run", "--json").out) == {"report": "run/report.html"}
