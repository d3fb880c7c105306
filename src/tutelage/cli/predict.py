"""``tutelage predict``: what a finished model says of images; no training library is loaded."""

from __future__ import annotations

import os
import sys
import tempfile
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TextIO

import typer

from tutelage.cli.rows import Format, Row, write_rows
from tutelage.report.words import printable

if TYPE_CHECKING:
    from tutelage.runtime import Classifier

SHOWN = 20
"""Failures that are listed on stderr as they are; all are in the rows."""


@dataclass
class Tally:
    """Counts rows as they pass.

    Attributes:
        images: All rows.
        failed: Those without a prediction.
        errors: What was wrong with the first of them.
    """

    images: int = 0
    failed: int = 0
    errors: list[str] = field(default_factory=list)

    def count(self, rows: Iterator[Row]) -> Iterator[Row]:
        """Yield the rows as they are."""
        for row in rows:
            self.images += 1
            if row.error:
                self.failed += 1
                if self.failed <= SHOWN:
                    self.errors.append(row.error)
            yield row


def predict(
    model: Annotated[str, typer.Argument(help="A run folder, its model/ folder, or an .onnx file.")],
    files: Annotated[
        list[str],
        typer.Argument(help="Images, folders, quoted patterns; - reads an image, or a list of paths, from stdin."),
    ],
    top: Annotated[int, typer.Option(min=1, help="How many of the most probable classes to give.")] = 1,
    batch: Annotated[int, typer.Option(min=1, help="Images that go through the model together.")] = 64,
    form: Annotated[
        Format | None, typer.Option("--format", help="How to write; by the suffix of --out, else a table.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="File to write instead of stdout.")] = None,
    int8: Annotated[bool, typer.Option("--int8", help="Use the quantized file, model.int8.onnx.")] = False,
    threads: Annotated[int | None, typer.Option(min=1, help="Threads; one a core if not given.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")] = False,
) -> None:
    """Classify images with a finished model. Ends with 1 if an image could not be read, with 2 if nothing could."""
    from tutelage.cli.console import print_json
    from tutelage.runtime import Classifier
    from tutelage.runtime.files import find_images

    classifier = Classifier(model, int8=int8, threads=threads)
    top = min(top, len(classifier.classes))
    images = find_images(files, sys.stdin.buffer)
    tally = Tally()
    rows = tally.count(_rows(classifier, images, top, batch))
    about = {"model": str(classifier.file), "classes": list(classifier.classes)}
    if out is None:
        if hasattr(sys.stdout, "reconfigure"):
            # File names need not be valid Unicode.
            sys.stdout.reconfigure(errors="surrogateescape")
        chosen = Format.JSON if as_json else form or Format.TABLE
        write_rows(rows, chosen, sys.stdout, top=top, about=about)
    else:
        with _whole(out) as file:
            write_rows(rows, form or _by_suffix(out), file, top=top, about=about)
        if as_json:
            print_json({**about, "out": str(out), "images": tally.images, "failed": tally.failed})
    _finish(tally)


def _rows(classifier: Classifier, images: Iterator[tuple[str, Path | bytes]], top: int, batch: int) -> Iterator[Row]:
    from tutelage.runtime.probabilities import ranked

    names: deque[str] = deque()

    def sources() -> Iterator[Path | bytes]:
        for name, image in images:
            names.append(name)
            yield image

    for answer in classifier.answers(sources(), batch_size=batch):
        if answer.logits is None:
            yield Row(names.popleft(), (), answer.error)
        else:
            best = ranked(answer.logits, top)
            yield Row(names.popleft(), [(classifier.classes[number], share) for number, share in best])


def _by_suffix(out: Path) -> Format:
    suffix = out.suffix.lower().lstrip(".")
    return Format(suffix) if suffix in ("csv", "json", "jsonl") else Format.TABLE


@contextmanager
def _whole(out: Path) -> Iterator[TextIO]:
    """Write a file whole or not at all, without holding it in memory."""
    from tutelage.errors import RunError

    try:
        handle, temporary = tempfile.mkstemp(dir=out.parent, prefix=f".{out.name}.")
    except OSError as error:
        raise RunError(f"{out}: cannot be written ({error.strerror}); choose another --out") from error
    try:
        with os.fdopen(handle, "w", encoding="utf-8", errors="surrogateescape", newline="") as file:
            yield file
        Path(temporary).chmod(0o644)
        Path(temporary).replace(out)
    except OSError as error:
        raise RunError(f"{out}: cannot be written ({error.strerror}); choose another --out") from error
    finally:
        Path(temporary).unlink(missing_ok=True)


def _finish(tally: Tally) -> None:
    """Say on stderr what failed, and end with the exit code that says so."""
    from tutelage.errors import DataError

    if not tally.images:
        raise DataError("no images were named; give files, folders, quoted patterns, or - with a list on stdin")
    if not tally.failed:
        return
    for error in tally.errors:
        typer.echo(printable(error), err=True)
    if tally.failed > SHOWN:
        typer.echo(f"and {tally.failed - SHOWN} more; the rows say which", err=True)
    typer.echo(f"{tally.failed} of {tally.images} images failed", err=True)
    raise typer.Exit(1)
