"""A comparison in the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from tutelage.comparison.findings import Summary, ranked
from tutelage.comparison.table import Comparison
from tutelage.comparison.verdict import contender_words, verdicts
from tutelage.report.compared import tables
from tutelage.report.numbers import MISSING, duration, flops, signed
from tutelage.report.words import printable

MADE = {
    "comparison.html": "everything on one page",
    "comparison.csv": "a row for each checkpoint, as comparison.parquet",
    "comparison.json": "the same for programs, with what each run got right",
}


def show_comparison(console: Console, comparison: Comparison, folder: Path) -> None:
    """Print a table for each group of comparable contenders, what they mean, and where the files are.

    Args:
        console: Where to.
        comparison: Finished or not.
        folder: Where its files are, as the reader would write it.
    """
    for group, members in ranked(comparison).items():
        console.print(_text(tables.title(comparison, group), "bold"))
        console.print(_table(tables.metric(comparison).name, members))
        console.print()
    unfinished = tables.unfinished(comparison)
    for sentence in [*verdicts(comparison), *([f"{unfinished} are there."] if unfinished else [])]:
        console.print(_text(sentence))
        console.print()
    width = max(map(len, MADE))
    for name, what in MADE.items():
        path = _text(f"{folder.as_posix()}/{name:{width}}")
        console.print(Text.assemble(path, (f"  {what}", "dim"), overflow="fold"))


def _table(metric: str, members: Sequence[Summary]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    # The one column that may be folded: numbers stay whole.
    table.add_column("", overflow="fold")
    for title in (metric, "runs", "gain", "95% interval", "FLOPs", "time"):
        table.add_column(_text(title), justify="right", no_wrap=True)
    for place, member in enumerate(members):
        style, spent, gain = "" if place else "bold", member.pretraining, member.gain
        table.add_row(
            _text(contender_words(member.contender), style),
            _text(tables.mean_std(member), style),
            tables.runs(member),
            _text(signed(gain.mean) if gain else MISSING),
            _text(tables.interval(gain.t_interval) if gain else "", "dim"),
            flops(spent.flops) if spent else MISSING,
            duration(spent.seconds) if spent and spent.seconds else MISSING,
        )
    return table


def _text(words: str, style: str = "") -> Text:
    """Return text that is neither markup nor steers the terminal, whatever names it holds."""
    # The command line knows this page's commands, and so cannot be known by it sooner.
    return Text(printable(words), style)
