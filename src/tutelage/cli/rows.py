"""Predictions as they are written: a table for people; CSV, JSON and JSON lines for programs."""

from __future__ import annotations

import csv
import itertools
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal, TextIO

from tutelage.report.words import printable

Measure = Literal["probability", "share"]
"""What the numbers beside classes are: how probable a sample's class is, or the share of its pixels."""

SHOWN = 60
"""Characters of a text that a table shows."""

TOGETHER = 500
"""Rows of which a table's widths are made; the next ones get their own, so that any number will do."""


@dataclass(frozen=True)
class Row:
    """What the model says of one sample.

    Attributes:
        file: The image, or where a text came from; empty for one that was given on the command line.
        top: The most probable classes with their probabilities, or those of most pixels with their shares, in falling
            order; empty after a failure.
        error: Why there is no prediction; empty where there is one.
        more: What else is said of the sample, by column: its text, or the files that were made of it.
    """

    file: str
    top: Sequence[tuple[str, float]]
    error: str = ""
    more: Mapping[str, str] = field(default_factory=dict)

    def as_dict(self, measure: Measure) -> dict[str, Any]:
        """Return the row as plain data."""
        named = {"file": self.file, **self.more}
        if self.error:
            return {**named, "error": self.error}
        if measure == "share":
            classes = [{"label": name, "share": share} for name, share in self.top]
            return {**named, "classes": classes}
        label, probability = self.top[0]
        ranked = [{"label": name, "probability": share} for name, share in self.top]
        return {**named, "label": label, "probability": probability, "top": ranked}


class Format(StrEnum):
    """How rows are written."""

    TABLE = "table"
    CSV = "csv"
    JSON = "json"
    JSONL = "jsonl"


def write_rows(
    rows: Iterable[Row],
    form: Format,
    file: TextIO,
    *,
    top: int,
    about: Mapping[str, Any],
    measure: Measure = "probability",
    more: Sequence[str] = (),
) -> None:
    """Write rows as they come.

    Args:
        rows: The rows.
        form: How.
        file: Where to.
        top: How many classes a row holds; CSV has columns for them.
        about: What a JSON object says beside its ``predictions``.
        measure: What the numbers are.
        more: What else rows say; CSV and tables have columns for it.
    """
    if form is Format.CSV:
        _write_csv(rows, file, top, measure, more)
    elif form is Format.JSON:
        _write_json(rows, file, about, measure)
    elif form is Format.JSONL:
        for row in rows:
            file.write(json.dumps(row.as_dict(measure), allow_nan=False) + "\n")
    else:
        _write_table(rows, file, top, more)


def _write_csv(rows: Iterable[Row], file: TextIO, top: int, measure: Measure, more: Sequence[str]) -> None:
    ranks = [name for rank in range(2, top + 1) for name in (f"label_{rank}", f"{measure}_{rank}")]
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(["file", *more, "label", measure, *ranks, "error"])
    for row in rows:
        cells = [cell for name, share in row.top for cell in (name, f"{share:.6g}")]
        said = [row.more.get(column, "") for column in more]
        writer.writerow([row.file, *said, *cells, *[""] * (2 * top - len(cells)), row.error])


def _write_json(rows: Iterable[Row], file: TextIO, about: Mapping[str, Any], measure: Measure) -> None:
    """Write one object; the counts come last, as they are known last."""
    file.write(json.dumps(about, indent=2, allow_nan=False)[:-2] + ',\n  "predictions": [')
    images = failed = 0
    for row in rows:
        file.write((",\n    " if images else "\n    ") + json.dumps(row.as_dict(measure), allow_nan=False))
        images, failed = images + 1, failed + bool(row.error)
    file.write(f'\n  ],\n  "images": {images},\n  "failed": {failed}\n}}\n')


def _write_table(rows: Iterable[Row], file: TextIO, top: int, more: Sequence[str]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    # Without a terminal there is no width to keep to.
    console = Console(file=file, highlight=False)
    wide = console if console.is_terminal else Console(file=file, highlight=False, width=10_000)
    for number, part in enumerate(_parts(rows)):
        table = Table(box=None, pad_edge=False, header_style="dim", show_header=number == 0)
        for title in ("file", *more):
            table.add_column(title, overflow="fold")
        for rank in range(1, top + 1):
            table.add_column("class" if rank == 1 else f"{rank}.", overflow="fold")
            table.add_column("", justify="right")
        for row in part:
            cells = [Text(cell) for name, share in row.top for cell in (printable(name), f"{share:.1%}")]
            said = [Text(_shown(column, row.more.get(column, ""))) for column in more]
            table.add_row(Text(printable(row.file)), *said, *cells or [Text("failed; see below", "red")])
        wide.print(table)


def _shown(column: str, said: str) -> str:
    """Return what a table shows of a column: of a long text its beginning."""
    if column != "text":
        return printable(said)
    line = printable(" ".join(said.split()))
    return line if len(line) <= SHOWN else f"{line[: SHOWN - 1]}…"


def _parts(rows: Iterable[Row]) -> Iterator[list[Row]]:
    rest = iter(rows)
    while part := list(itertools.islice(rest, TOGETHER)):
        yield part
