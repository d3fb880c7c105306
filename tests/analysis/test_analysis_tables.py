"""An analysis's tables in a narrow terminal."""

from __future__ import annotations

import io

from rich.console import Console

from tutelage.analysis.sections import Table
from tutelage.analysis.terminal import grid_of


def test_long_names_are_folded_and_nothing_is_lost() -> None:
    teachers = "teacher-one, teacher-two, teacher-three, teacher-four"
    console = Console(file=io.StringIO(), width=60)
    table = Table(("Student", "Teachers", "Probe"), [("aft, three teachers together", teachers, "82.3% ± 1.0")])
    console.print(grid_of(table))
    assert isinstance(console.file, io.StringIO)
    shown = console.file.getvalue()
    assert "82.3% ± 1.0" in shown
    assert {word.strip(",") for word in teachers.split()} | {"together"} <= {
        word.strip(",") for word in shown.split()
    }
