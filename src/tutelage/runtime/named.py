"""The texts, or images with texts, that a command line names: texts themselves, files, tables, folders, and stdin."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from tutelage.data.problems import KINDS, USED
from tutelage.data.readers import read_samples
from tutelage.data.readers.folders import LARGEST_TEXT, SUFFIXES
from tutelage.data.readers.tables import is_table
from tutelage.errors import DataError
from tutelage.runtime.files import STDIN
from tutelage.runtime.inputs import Kind

SENTENCES = "\t"
"""Between the two texts of a pair on the command line and on standard input."""


@dataclass(frozen=True)
class Named:
    """One sample of a command line.

    Attributes:
        name: The file, the table and its row, or the line it came from; empty for a text that was given as it is.
        given: What a model reads; ``None`` where there is nothing to read.
        text: The text, for people.
        error: Why there is nothing to read; empty otherwise.
    """

    name: str
    given: Any
    text: str = ""
    error: str = ""


def find_texts(
    arguments: Sequence[str], stdin: BinaryIO, *, sentences: int = 1, columns: Mapping[str, str] | None = None
) -> Iterator[Named]:
    """Return an iterator of all texts that ``arguments`` name, in their order.

    What exists as a file is read: a table (with a column ``text``) gives one text a row, any other file is one text;
    a folder gives those in it. ``-`` is standard input, one text a line. All else is a text.

    Args:
        arguments: Of the command line.
        stdin: Standard input.
        sentences: How many texts a sample has; two are parted by a tab where they are no columns.
        columns: What our columns are called in the tables.

    Raises:
        DataError: A table or a folder cannot be read, or an argument looks like the name of a file that is not there.
    """
    for argument in arguments:
        if argument != STDIN and not is_there(argument) and _looks_like_file(argument):
            raise DataError(
                f"{argument}: no such file; is it relative to {Path.cwd()}? A text that looks like a file's name "
                "goes in on standard input, with -"
            )
    return (found for argument in arguments for found in _texts(argument, stdin, sentences, columns))


def find_pairs(arguments: Sequence[str], *, columns: Mapping[str, str] | None = None) -> Iterator[Named]:
    """Return an iterator of all images with texts in the data that ``arguments`` name, in their order.

    Args:
        arguments: Tables with the columns ``image`` and ``text``, or other data with both.
        columns: What our columns are called in the tables.

    Raises:
        DataError: Something cannot be read, or has no images with texts.
    """
    if STDIN in arguments:
        raise DataError("-: this model reads images with a text each; give a table with the columns image and text")
    return (found for argument in arguments for found in _rows(argument, "pair", columns))


def is_there(argument: str) -> bool:
    """Return whether an argument is a file or a folder; most texts are too long to be one."""
    try:
        return bool(argument) and Path(argument).exists()
    except (OSError, ValueError):
        return False


def _looks_like_file(argument: str) -> bool:
    if not argument or len(argument) > 1000 or any(letter.isspace() for letter in argument):
        return False
    return is_table(argument) or Path(argument).suffix.lower() in SUFFIXES["text"]


def _texts(argument: str, stdin: BinaryIO, sentences: int, columns: Mapping[str, str] | None) -> Iterator[Named]:
    if argument == STDIN:
        for number, line in enumerate(stdin, 1):
            text = line.decode("utf-8", "replace").rstrip("\r\n").removeprefix("\ufeff" if number == 1 else "")
            if text:
                yield _named(f"{STDIN}:{number}", text, sentences)
    elif not is_there(argument):
        yield _named("", argument, sentences)
    elif is_table(argument) or Path(argument).is_dir():
        yield from _rows(argument, "text", columns)
    else:
        yield _file(argument, sentences)


def _named(name: str, text: str, sentences: int) -> Named:
    """Return a text, or the two that a tab parts."""
    if sentences == 1 or SENTENCES not in text:
        return Named(name, text, text)
    first, _, second = text.partition(SENTENCES)
    return Named(name, (first, second), text)


def _file(name: str, sentences: int) -> Named:
    try:
        if Path(name).stat().st_size > LARGEST_TEXT:
            return Named(name, None, error=f"{name}: too large for one text; make it a table with the column text")
        return _named(name, Path(name).read_bytes().decode("utf-8-sig").strip(), sentences)
    except UnicodeDecodeError:
        return Named(name, None, error=f"{name}: is not UTF-8; save it as UTF-8")
    except OSError as error:
        return Named(name, None, error=f"{name}: cannot be read ({error.strerror})")


def _rows(argument: str, modality: Kind, columns: Mapping[str, str] | None) -> Iterator[Named]:
    """Yield the samples of data, and then what could not be read of them."""
    samples = read_samples(argument, part="test", labeled=False, modality=modality, columns=columns)
    assert samples.texts is not None
    for row, (name, text) in enumerate(zip(samples.ids, samples.texts, strict=True)):
        given = text if samples.images is None else (samples.images[row], text)
        yield Named(_place(argument, name), given, text)
    for problem in samples.problems:
        if problem.kind not in USED:
            why = ", ".join(part for part in (KINDS[problem.kind], problem.detail) if part)
            name = _place(argument, problem.where)
            yield Named(name, None, error=f"{name}: {why}")


def _place(argument: str, name: str) -> str:
    """Return where in some data a sample is: a file of a folder, or a table's row."""
    return os.path.join(argument, name) if Path(argument).is_dir() else f"{argument}:{name}"  # noqa: PTH118
