"""A comparison as a table for other programs: one row for each point on each cell's way, as Parquet and as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tutelage.comparison.table import Comparison, Outcome, Point
from tutelage.run import write_whole

TEXTS = (
    *("method", "variant", "transfer", "start", "compute", "labels"),
    *("teacher_mode", "chosen", "collapsed", "error"),
)
"""Columns of text; ``seed`` is a whole number, all others are decimal ones."""

FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""What a cell begins with that a spreadsheet would compute; an apostrophe before it keeps it text."""


def write_tables(folder: Path, comparison: Comparison) -> None:
    """Write ``comparison.parquet`` and ``comparison.csv``, which hold the same.

    A cell's own row has ``share`` 1. Those of its earlier checkpoints have lower shares and leave empty what only the
    last one has: all metrics but the score, and the last finetuning. A failed cell has one row, with its error.
    There is a column ``variant`` where there are variants, and ``collapsed`` where a pretraining has.

    Raises:
        RunError: They cannot be written.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [row for outcome in comparison.outcomes for row in _rows(outcome)]
    columns = _columns(comparison)
    schema = pa.schema([(name, _type(name)) for name in columns])
    table = pa.Table.from_pylist(rows, schema=schema)
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    write_whole(folder / "comparison.parquet", sink.getvalue().to_pybytes())
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([_harmless(row.get(name)) for name in columns] for row in rows)
    write_whole(folder / "comparison.csv", text.getvalue())


def _columns(comparison: Comparison) -> list[str]:
    """Return the columns; metrics are those that any cell has, in the order in which they appear."""
    test = dict.fromkeys(f"test_{name}" for outcome in comparison.outcomes for name in outcome.metrics)
    held_out = dict.fromkeys(f"val_{name}" for outcome in comparison.outcomes for name in outcome.held_out or {})
    varied = any(outcome.cell.variant for outcome in comparison.outcomes)
    return [
        "method",
        *(["variant"] if varied else []),
        *("transfer", "start", "compute", "labels", "seed", "share", "score"),
        *test,
        *held_out,
        *("pretraining_seconds", "pretraining_flops", "finetuning_seconds", "finetuning_flops"),
        *("teacher_mode", "teacher_score", "chosen"),
        *(["collapsed"] if any(outcome.collapsed for outcome in comparison.outcomes) else []),
        "error",
    ]


def _rows(outcome: Outcome) -> Iterator[dict[str, Any]]:
    cell = outcome.cell
    place: dict[str, Any] = {
        "method": cell.method,
        "variant": _unicode(cell.variant),
        "transfer": _unicode(cell.transfer),
        "start": cell.start,
        "compute": cell.compute,
        "labels": cell.labels,
        "seed": cell.seed,
    }
    if outcome.error is not None:
        yield {**place, "error": _unicode(outcome.error)}
        return
    place |= {"teacher_mode": outcome.teacher_mode, "teacher_score": outcome.teacher_score}
    # The last checkpoint is the cell itself, of which more is known.
    yield from ({**place, **_checkpoint(point)} for point in outcome.curve if point.share < 1)
    yield {
        **place,
        "share": 1.0,
        "score": outcome.score,
        **_named("test", outcome.metrics),
        **_named("val", outcome.held_out or {}),
        "pretraining_seconds": outcome.pretraining.seconds,
        "pretraining_flops": outcome.pretraining.flops,
        "finetuning_seconds": outcome.finetuning.seconds,
        "finetuning_flops": outcome.finetuning.flops,
        "chosen": outcome.chosen,
        "collapsed": outcome.collapsed,
    }


def _checkpoint(point: Point) -> dict[str, float]:
    return {
        "share": point.share,
        "score": point.score,
        "pretraining_seconds": point.spent.seconds,
        "pretraining_flops": point.spent.flops,
    }


def _named(prefix: str, metrics: Mapping[str, float]) -> dict[str, float]:
    return {f"{prefix}_{name}": value for name, value in metrics.items()}


def _unicode(text: str | None) -> str | None:
    """Return a text without the halves of characters that file names may hold: neither format could store them."""
    return None if text is None else text.encode("utf-8", "replace").decode()


def _type(name: str) -> Any:
    import pyarrow as pa

    return pa.string() if name in TEXTS else pa.int64() if name == "seed" else pa.float64()


def _harmless(value: Any) -> Any:
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA) else value
