"""``tutelage report``: the page of a finished run, written again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def report(
    run: Annotated[Path, typer.Argument(help="The run folder.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")] = False,
) -> None:
    """Write report.html of a finished run again, and print where it is."""
    from tutelage.cli.console import print_json
    from tutelage.report.page import write_page

    path = write_page(run)
    if as_json:
        print_json({"report": str(path)})
    else:
        typer.echo(str(path))
