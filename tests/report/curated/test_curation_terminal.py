from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from tutelage.errors import RunError
from tutelage.report.curated.terminal import show_curation

Make = Callable[..., Path]


def shown(folder: Path) -> str:
    file = io.StringIO()
    show_curation(Console(file=file, width=100, highlight=False, soft_wrap=True), folder)
    return file.getvalue()


def test_it_says_what_was_done_and_left_out(make_curated: Make) -> None:
    lines = shown(make_curated()).splitlines()
    assert lines[0].startswith("40 of 5,000 images were retrieved for 9 labeled images by query-balanced")
    assert lines[1].startswith("Left out: 3 exact copies of images of the task")


def test_kept_suspects_are_told(make_curated: Make) -> None:
    assert "holds 2 possible leaks that nobody has looked at" in shown(make_curated(kept=2))


def test_it_says_where_files_are(make_curated: Make) -> None:
    folder = make_curated()
    text = shown(folder)
    assert f"{folder.as_posix()}/transfer.parquet" in text
    assert f"{folder.parent.as_posix()}/curation.html" in text


def test_names_steer_nothing(make_curated: Make) -> None:
    text = shown(make_curated(encoders=("x:\x1b[31mred\u202e[bold]",)))
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert "?[31mred?[bold]" in text


def test_a_folder_without_a_curation_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"curation\.json"):
        show_curation(Console(file=io.StringIO()), tmp_path)
