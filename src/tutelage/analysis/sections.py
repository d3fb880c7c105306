"""What page and terminal show of an analysis: sentences, tables with formatted numbers, pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from tutelage.report.intervals import Interval
from tutelage.report.numbers import signed


@dataclass(frozen=True)
class Table:
    """A table; the first column names its rows.

    Attributes:
        columns: Titles.
        rows: As many cells each.
        title: Above it; empty for none.
    """

    columns: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    title: str = ""


@dataclass(frozen=True)
class Picture:
    """A picture, on the page alone.

    Attributes:
        caption: What it shows.
        svg: Made of numbers and escaped names.
        legend: A swatch, as an ``<svg>``, and a name for each series.
    """

    caption: str
    svg: str
    legend: list[tuple[str, str]]


@dataclass(frozen=True)
class Section:
    """A part of an analysis.

    Attributes:
        title: What it is about.
        sentences: What was found, the most important first.
        tables: The numbers.
        pictures: The same to look at.
        note: How it was measured.
    """

    title: str
    sentences: list[str]
    tables: list[Table]
    pictures: list[Picture] = field(default_factory=list)
    note: str = ""


def between(interval: Interval | None) -> str:
    """Return an interval of a difference, in points; empty where there is none."""
    return "" if interval is None else f"{signed(interval.low)} to {signed(interval.high)}"


def plain_between(interval: Interval | None, digits: int) -> str:
    """Return an interval of plain numbers; empty where there is none."""
    if interval is None:
        return ""
    return f"{number(interval.low, digits)} to {number(interval.high, digits)}"


def number(value: float, digits: int) -> str:
    """Return a number with a proper minus sign."""
    return f"{value:.{digits}f}".replace("-", "\N{MINUS SIGN}")
