"""An analysis in the terminal."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table as Grid
from rich.text import Text

from tutelage.analysis.of_comparison import ComparisonAnalysis
from tutelage.analysis.of_run import RunAnalysis
from tutelage.analysis.page import PAGE, missing, sections_of
from tutelage.analysis.sections import Table
from tutelage.report.words import printable

NUMBER = 24
"""Most characters of a number, its deviation or interval included; what is longer is a name."""


def show_analysis(console: Console, analysis: RunAnalysis | ComparisonAnalysis) -> None:
    """Print each part's sentences and tables, why others are missing, and where the page is."""
    for section in sections_of(analysis):
        console.print(_text(section.title, "bold"))
        for table in section.tables:
            if table.title:
                console.print(_text(table.title, "dim"))
            console.print(grid_of(table))
        for sentence in section.sentences:
            console.print(_text(sentence))
        console.print()
    for title, why in missing(analysis):
        console.print(_text(f"{title}: left out; {why}", "dim"))
    console.print(_text(f"{(analysis.folder / PAGE).as_posix()}  everything on one page, with pictures"))


def grid_of(table: Table) -> Grid:
    """Return a table as the terminal shows it."""
    grid = Grid(box=None, pad_edge=False, header_style="dim")
    for place, title in enumerate(table.columns):
        # Names may be folded, numbers stay whole.
        number = place > 0 and all(len(row[place]) <= NUMBER for row in table.rows)
        grid.add_column(_text(title), justify="right" if place else "left", no_wrap=number, overflow="fold")
    for row in table.rows:
        grid.add_row(*map(_text, row))
    return grid


def _text(words: str, style: str = "") -> Text:
    """Return text that is neither markup nor steers the terminal, whatever names it holds."""
    return Text(printable(words), style)
