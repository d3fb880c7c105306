"""What commands show: bars and lines on stderr, one JSON object on stdout when asked."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

if TYPE_CHECKING:
    from tutelage.progress import Update


class Bars:
    """Progress on a terminal: a bar a phase, with rate, remaining time and the share spent waiting for data."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def say(self, text: str) -> None:
        """Print one line (or several)."""
        self._console.print(text, markup=False, highlight=False)

    @contextmanager
    def track(self, label: str, total: int) -> Iterator[Update]:
        """Show a bar of ``total`` steps; where there is no terminal, one line at its end."""
        columns = (
            TextColumn("{task.description:22}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[numbers]}"),
        )
        with Progress(*columns, console=self._console, disable=not self._console.is_terminal) as progress:
            task = progress.add_task(label, total=total, numbers="")
            shown = ""

            def update(done: int, numbers: Mapping[str, float]) -> None:
                nonlocal shown
                elapsed = progress.tasks[0].elapsed or 1e-9
                shown = _numbers(numbers, elapsed)
                progress.update(task, completed=done, numbers=shown)

            yield update
            if not self._console.is_terminal:
                elapsed = progress.tasks[0].elapsed or 0.0
                self.say(f"{label:22} {total} steps in {elapsed:.0f} s  {shown}".rstrip())


def _numbers(numbers: Mapping[str, float], elapsed: float) -> str:
    parts = []
    if "loss" in numbers:
        parts.append(f"loss {numbers['loss']:.3f}")
    for what in ("images", "texts", "pairs"):
        if what in numbers:
            parts.append(f"{numbers[what] / elapsed:,.0f} {what}/s")
    if "waiting" in numbers:
        parts.append(f"{min(1.0, numbers['waiting'] / elapsed):.0%} waiting for data")
    return " · ".join(parts)


def err_console() -> Console:
    """Return the console for everything that is not a command's JSON."""
    return Console(stderr=True, soft_wrap=True)


def print_json(data: Mapping[str, Any]) -> None:
    """Print one JSON object on stdout."""
    json.dump(data, sys.stdout, indent=2, allow_nan=False)
    sys.stdout.write("\n")
