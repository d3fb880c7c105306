"""The command line: one file a command, and the one place where errors become exit codes."""

from __future__ import annotations

import sys

import typer

from tutelage.cli import demo, doctor, listing, transfer
from tutelage.errors import TutelageError

app = typer.Typer(
    name="tutelage",
    help="Turn a foundation model, a few labels and unlabeled data into a small model for one task.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command()(demo.demo)
app.command()(transfer.transfer)
app.command("list")(listing.list_names)
app.command()(doctor.doctor)


def main() -> None:
    """Run the command line; what goes wrong on purpose ends with one line and exit code 2."""
    try:
        app()
    except TutelageError as error:
        print(f"tutelage: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        print("tutelage: interrupted; the same command goes on from here", file=sys.stderr)
        raise SystemExit(130) from None
