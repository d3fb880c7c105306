"""The command line: one file a command, and the one place where errors become exit codes."""

from __future__ import annotations

import sys

import typer

from tutelage.cli import (
    analyze,
    cache,
    compare,
    curate,
    demo,
    doctor,
    evaluate,
    export,
    listing,
    predict,
    rank,
    report,
    review,
    transfer,
)
from tutelage.errors import TutelageError

INTERRUPTED = 130
"""What typer makes of Ctrl-C."""

app = typer.Typer(
    name="tutelage",
    help="Turn a foundation model, a few labels and unlabeled data into a small model for one task.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command()(demo.demo)
app.command()(transfer.transfer)
app.command()(compare.compare)
app.command()(curate.curate)
app.command()(review.review)
app.command()(rank.rank)
app.command()(analyze.analyze)
app.command()(cache.cache)
app.command()(predict.predict)
app.command()(evaluate.evaluate)
app.command()(export.export)
app.command()(report.report)
app.command("list")(listing.list_names)
app.command()(doctor.doctor)


def main() -> None:
    """Run the command line; what goes wrong on purpose ends with one line and exit code 2."""
    try:
        app(prog_name="tutelage")
    except TutelageError as error:
        # What libraries say inside of it may run over several lines.
        print("tutelage:", " ".join(line.strip() for line in str(error).splitlines()), file=sys.stderr)
        raise SystemExit(2) from None
    except SystemExit as end:
        if end.code == INTERRUPTED:
            print("tutelage: interrupted; the same command goes on from here", file=sys.stderr)
        raise
