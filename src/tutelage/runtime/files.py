"""The images that a command line names: files, folders, patterns, and what comes on standard input."""

from __future__ import annotations

import glob
import itertools
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from tutelage.data.formats import IMAGE_SUFFIXES, format_at_start
from tutelage.data.readers.folders import folder_rows
from tutelage.data.readers.rows import Row
from tutelage.errors import DataError

STDIN = "-"


def find_images(arguments: Sequence[str], stdin: BinaryIO) -> Iterator[tuple[str, Path | bytes]]:
    """Return an iterator of (name, image) for all that ``arguments`` name, in their order.

    Files are taken whatever their suffix, folders searched for images, patterns (``*``, ``?``, ``**``) expanded;
    ``-`` is an image, or a list of paths, one a line. Nothing is read ahead, so that any number will do.

    Raises:
        DataError: A pattern, or a folder, holds no image.
    """
    for argument in arguments:
        if argument != STDIN:
            _check(argument)
    return (found for argument in arguments for found in _expand(argument, stdin))


def searched(arguments: Sequence[str]) -> list[Path]:
    """Return the folders in which images are looked for; none for files, and for what comes on standard input."""
    return [
        _above(argument) if _is_pattern(argument) else Path(argument)
        for argument in arguments
        if argument != STDIN and _is_searched(argument)
    ]


def common_folder(arguments: Sequence[str]) -> Path:
    """Return the innermost folder, as an absolute path, that all named images lie in.

    Those that are named on standard input are taken to lie in the current one.
    """
    folders = searched(arguments)
    files = [Path(argument).parent for argument in arguments if argument != STDIN and not _is_searched(argument)]
    lists = [Path.cwd()] if STDIN in arguments else []
    # Not resolved: links are no other place.
    return Path(os.path.commonpath([os.path.abspath(each) for each in (*folders, *files, *lists)]))  # noqa: PTH100


def _is_searched(argument: str) -> bool:
    return _is_pattern(argument) or Path(argument).is_dir()


def _above(pattern: str) -> Path:
    """Return the folder in front of a pattern's first wildcard."""
    return Path(*itertools.takewhile(lambda part: not glob.has_magic(part), Path(pattern).parts))


def _check(argument: str) -> None:
    if _is_pattern(argument) and next(_matching(argument), None) is None:
        raise DataError(f"{argument}: nothing has a name like that; is it relative to {Path.cwd()}?")
    if Path(argument).is_dir() and next(_walk(Path(argument)), None) is None:
        raise DataError(f"{argument}: no images found; expected files ending in {', '.join(sorted(IMAGE_SUFFIXES))}")


def _expand(argument: str, stdin: BinaryIO) -> Iterator[tuple[str, Path | bytes]]:
    if argument == STDIN:
        yield from _read(stdin)
    elif _is_pattern(argument):
        # The pattern says what is wanted, but not of which kind: it matches folders and notes as well.
        for name in _matching(argument):
            path = Path(name)
            if path.is_file() and path.suffix.lower() in IMAGE_SUFFIXES:
                yield name, path
            elif path.is_dir() and "**" not in argument:
                yield from ((str(inside), inside) for inside in _walk(path))
    elif Path(argument).is_dir():
        yield from ((str(path), path) for path in _walk(Path(argument)))
    else:
        yield argument, Path(argument)


def _matching(pattern: str) -> Iterator[str]:
    """Yield names as the shell would; Path.glob reads neither absolute nor parent-relative patterns."""
    return glob.iglob(pattern, recursive=True)  # noqa: PTH207 (Path.glob cannot)


def _is_pattern(argument: str) -> bool:
    return glob.has_magic(argument) and not Path(argument).exists()


def _walk(folder: Path) -> Iterator[Path]:
    """Yield images under a folder, in a fixed order; none that are hidden."""
    for row in folder_rows(str(folder)):
        if isinstance(row, Row) and isinstance(row.image, Path):
            yield row.image


def _read(stdin: BinaryIO) -> Iterator[tuple[str, Path | bytes]]:
    head = stdin.read(16)
    if _is_image(head):
        yield STDIN, head + stdin.read()
        return
    for line in (head + stdin.readline()).splitlines():
        yield from _line(line)
    for line in stdin:
        yield from _line(line)


def _is_image(head: bytes) -> bool:
    """Return whether these bytes begin an image; a list of paths may begin with BM or P5 as well."""
    form = format_at_start(head)
    if form == "BMP":
        return head[6:10] == bytes(4)
    return form is not None and (form != "PPM" or head[2:3] == b"\n")


def _line(line: bytes) -> Iterator[tuple[str, Path | bytes]]:
    name = os.fsdecode(line.rstrip(b"\r\n"))
    if name:
        yield name, Path(name)
