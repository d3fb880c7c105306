"""``tutelage predict``: what a finished model says of images or texts; no training library is loaded."""

from __future__ import annotations

import os
import sys
import tempfile
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TextIO

import typer

from tutelage.cli.rows import Format, Row, write_rows
from tutelage.report.words import printable

if TYPE_CHECKING:
    from tutelage.cli.masks import MaskFolder
    from tutelage.runtime import Classifier, Segmenter
    from tutelage.runtime.inputs import Kind
    from tutelage.runtime.named import Named

TOP, TOP_OF_MASK = 1, 5
"""Classes that are given where nobody says how many."""

SHOWN = 20
"""Failures that are listed on stderr as they are; all are in the rows."""


@dataclass
class Tally:
    """Counts rows as they pass.

    Attributes:
        samples: All rows.
        failed: Those without a prediction.
        errors: What was wrong with the first of them.
    """

    samples: int = 0
    failed: int = 0
    errors: list[str] = field(default_factory=list)

    def count(self, rows: Iterator[Row]) -> Iterator[Row]:
        """Yield the rows as they are."""
        for row in rows:
            self.samples += 1
            if row.error:
                self.failed += 1
                if self.failed <= SHOWN:
                    self.errors.append(row.error)
            yield row


def predict(
    model: Annotated[str, typer.Argument(help="A run folder, its model/ folder, or an .onnx file.")],
    files: Annotated[
        list[str],
        typer.Argument(
            help="Images, folders, quoted patterns; - reads an image, or a list of paths, from stdin. Of a model of "
            "texts: texts, files, folders, tables with a column text; - reads one text a line. Of one of images with "
            "texts: tables with both. What exists as a file is read as one."
        ),
    ],
    top: Annotated[
        int | None,
        typer.Option(min=1, help="How many classes to give: the most probable (1), or those of most pixels (5)."),
    ] = None,
    batch: Annotated[int, typer.Option(min=1, help="Samples that go through the model together.")] = 64,
    form: Annotated[
        Format | None, typer.Option("--format", help="How to write; by the suffix of --out, else a table.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="File to write instead of stdout; of a segmentation model a folder for masks.")
    ] = None,
    overlay: Annotated[
        bool, typer.Option("--overlay", help="Write each image with its mask over it as well, into --out.")
    ] = False,
    column: Annotated[
        list[str] | None,
        typer.Option("--column", help="What a column is called in your tables, as in text=review; repeatable."),
    ] = None,
    int8: Annotated[bool, typer.Option("--int8", help="Use the quantized file, model.int8.onnx.")] = False,
    threads: Annotated[int | None, typer.Option(min=1, help="Threads; one a core if not given.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")] = False,
) -> None:
    """Classify images or texts, or the pixels of images.

    Ends with 1 if one of them could not be read, with 2 if nothing could.
    """
    from tutelage.cli.console import print_json
    from tutelage.errors import RecipeError
    from tutelage.runtime import Segmenter, open_model

    opened = open_model(model, int8=int8, threads=threads)
    samples = _named(opened, files, column or ())
    tally = Tally()
    about: dict[str, Any] = {"model": str(opened.file), "classes": list(opened.classes)}
    chosen = Format.JSON if as_json else form
    if isinstance(opened, Segmenter):
        top = min(top or TOP_OF_MASK, len(opened.classes))
        folder = _mask_folder(opened, files, out, overlay=overlay)
        about |= {"task": opened.task} if out is None else {"task": opened.task, "out": str(out)}
        rows = tally.count(_mask_rows(opened, samples, top, batch, folder))
        kinds = () if folder is None else folder.kinds
        write_rows(rows, chosen or Format.TABLE, _stdout(), top=top, about=about, measure="share", more=kinds)
    else:
        top = min(top or TOP, len(opened.classes))
        if overlay:
            raise RecipeError(f"{opened.file}: names whole images, not pixels, so there is no mask; drop --overlay")
        rows = tally.count(_rows(opened, samples, top, batch))
        more = () if opened.modality == "image" else ("text",)
        if out is None:
            write_rows(rows, chosen or Format.TABLE, _stdout(), top=top, about=about, more=more)
        else:
            with _whole(out) as file:
                write_rows(rows, form or _by_suffix(out), file, top=top, about=about, more=more)
            if as_json:
                print_json({**about, "out": str(out), "images": tally.samples, "failed": tally.failed})
    _finish(tally, opened.modality)


def _named(opened: Classifier | Segmenter, arguments: Sequence[str], column: Sequence[str]) -> Iterator[Named]:
    """Return an iterator of what the command line names, of the kind that the model reads."""
    from tutelage.cli.columns import columns_of
    from tutelage.runtime.files import find_images
    from tutelage.runtime.named import Named, find_pairs, find_texts

    columns = columns_of(column)
    if opened.modality == "image":
        return (Named(name, image) for name, image in find_images(arguments, sys.stdin.buffer))
    if opened.modality == "pair":
        return find_pairs(arguments, columns=columns)
    return find_texts(arguments, sys.stdin.buffer, sentences=opened.sentences, columns=columns)


def _rows(classifier: Classifier, samples: Iterable[Named], top: int, batch: int) -> Iterator[Row]:
    from tutelage.runtime.probabilities import ranked

    waiting = _Waiting(samples)
    for answer in classifier.answers(waiting.given(), batch_size=batch):
        yield from waiting.unreadable()
        named = waiting.next()
        if answer.logits is None:
            yield _failure(named, answer.error)
        else:
            best = ranked(answer.logits, top)
            classes = [(classifier.classes[number], share) for number, share in best]
            yield Row(named.name, classes, more={"text": named.text} if classifier.modality != "image" else {})
    yield from waiting.unreadable()


def _mask_rows(
    segmenter: Segmenter, images: Iterable[Named], top: int, batch: int, folder: MaskFolder | None
) -> Iterator[Row]:
    from tutelage.cli.masks import shares

    waiting = _Waiting(images)
    for answer in segmenter.answers(waiting.given(), batch_size=batch):
        named = waiting.next()
        if answer.mask is None:
            yield _failure(named, answer.error)
        else:
            written = {} if folder is None else folder.write(named.name, named.given, answer.mask)
            yield Row(named.name, shares(answer.mask, segmenter.classes, top), more=written)


def _failure(named: Named, error: str) -> Row:
    """Return the row of a sample without an answer; what is wrong with an image names it already."""
    said = f"{named.name}: {error}" if named.text and named.name else error
    return Row(named.name, (), said, more={"text": named.text} if named.text else {})


class _Waiting:
    """Samples that a model has been given and has not answered yet."""

    def __init__(self, samples: Iterable[Named]) -> None:
        self._samples = samples
        self._waiting: deque[Named] = deque()

    def given(self) -> Iterator[Any]:
        """Yield what the model reads; those of which there is nothing to read wait with the others."""
        for each in self._samples:
            self._waiting.append(each)
            if not each.error:
                yield each.given

    def unreadable(self) -> Iterator[Row]:
        """Yield the rows of those that come next and cannot be read."""
        while self._waiting and self._waiting[0].error:
            named = self._waiting.popleft()
            yield Row(named.name, (), named.error)

    def next(self) -> Named:
        """Return the one that is answered next."""
        return self._waiting.popleft()


def _mask_folder(
    segmenter: Segmenter, arguments: Sequence[str], out: Path | None, *, overlay: bool
) -> MaskFolder | None:
    from tutelage.cli.masks import MaskFolder
    from tutelage.errors import RecipeError

    if out is not None:
        return MaskFolder(out, arguments, segmenter.palette, overlay=overlay)
    if overlay:
        raise RecipeError("--overlay writes pictures; say with --out which folder they go into")
    return None


def _stdout() -> TextIO:
    if hasattr(sys.stdout, "reconfigure"):
        # File names need not be valid Unicode.
        sys.stdout.reconfigure(errors="surrogateescape")
    return sys.stdout


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


def _finish(tally: Tally, modality: Kind) -> None:
    """Say on stderr what failed, and end with the exit code that says so."""
    from tutelage.errors import DataError

    if not tally.samples:
        raise DataError(
            "no images were named; give files, folders, quoted patterns, or - with a list on stdin"
            if modality == "image"
            else f"no {modality}s were named; give tables with a column text, or, of texts alone, texts, files or -"
        )
    if not tally.failed:
        return
    for error in tally.errors:
        typer.echo(printable(error), err=True)
    if tally.failed > SHOWN:
        typer.echo(f"and {tally.failed - SHOWN} more; the rows say which", err=True)
    typer.echo(f"{tally.failed} of {tally.samples} {modality}s failed", err=True)
    raise typer.Exit(1)
