"""``tutelage analyze``: why a method works here, or does not."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def analyze(
    path: Annotated[list[Path], typer.Argument(help="Folders of finished runs (best of aft), or of comparisons.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")] = False,
) -> None:
    """Show what features weigh, what noise and better teachers do, and what it costs; writes analysis.html.

    Of a run: learned weights, a linear probe on them, the time of a training step, the student beside its teachers.
    Of a comparison: errors beside standard transfer, noise, and students over their teachers' linear probes.
    """
    from tutelage.analysis.analyze import analyze, as_data
    from tutelage.analysis.terminal import show_analysis
    from tutelage.cli.console import Bars, err_console, print_json

    console = err_console()
    analyses = []
    for folder in path:
        found = analyze(folder, progress=Bars(console))
        if as_json:
            analyses.append(as_data(found))
        else:
            show_analysis(console, found)
    if as_json:
        print_json({"analyses": analyses})
