from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tutelage.errors import RunError
from tutelage.report.finished import read_run


def test_stages_are_in_order_and_of_this_run_alone(make_run: Callable[..., Path]) -> None:
    folder = make_run()
    (folder / "02-finetune").mkdir()  # left there by an earlier recipe, and never read
    names = list(read_run(folder).stages)
    assert names == [
        "data", "adapt-probe", "adapt-finetune", "adapt", "distill", "finetune", "evaluate", "export",
        "scratch-finetune", "scratch-evaluate",
    ]  # fmt: skip


def test_an_unfinished_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="is the run finished"):
        read_run(tmp_path)


@pytest.mark.parametrize("name", ["results.json", "06-finetune/stage.json", "07-evaluate/predictions.safetensors"])
def test_damaged_files_are_named(make_run: Callable[..., Path], name: str) -> None:
    folder = make_run()
    (folder / name).write_bytes(b"\xff{")
    with pytest.raises(RunError, match=name):
        read_run(folder)


def test_damaged_mistakes_are_named(make_run: Callable[..., Path]) -> None:
    folder = make_run(extras=["photo.jpg"])
    (folder / "07-evaluate" / "mistakes.json").write_bytes(b"\xff{")
    with pytest.raises(RunError, match=r"mistakes\.json"):
        read_run(folder)


def test_a_newer_schema_is_refused(make_run: Callable[..., Path]) -> None:
    folder = make_run()
    results = folder / "results.json"
    results.write_text(results.read_text().replace('"schema": 1', '"schema": 99', 1))
    with pytest.raises(RunError, match="newer version"):
        read_run(folder)
