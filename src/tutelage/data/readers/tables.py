"""Tables: CSV, TSV and Parquet files whose rows are samples."""

from __future__ import annotations

import csv
import difflib
import io
import os
import posixpath
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from tutelage.data.mask_codes import MaskReading
from tutelage.data.problems import Problem
from tutelage.data.readers.class_lists import find_code
from tutelage.data.readers.parquet import Cell, ParquetFile
from tutelage.data.readers.places import (
    Piece,
    Place,
    connect,
    find_place,
    is_there,
    is_url,
    remote_place,
    suffix_of,
    walk_remote,
)
from tutelage.data.readers.rows import Found, Row, class_name, finish, finish_masked, printable
from tutelage.data.readers.shards import expand, short_names
from tutelage.data.samples import ImageSource, Samples
from tutelage.errors import DataError

TABLE_SUFFIXES = (".csv", ".tsv", ".parquet", ".pq")

ALSO_CALLED = {
    "image": ("file", "filename", "file_name", "path", "filepath", "image_path", "img"),
    "label": ("class", "target", "category", "y"),
    "mask": ("label", "annotation", "segmentation", "mask_path", "target"),
}
"""What else such columns are called; suggested, never guessed."""

PICTURES = ("image", "mask")
"""Columns of paths, or of encoded images."""

DOWNLOADED = {"image": ("jpg", "png", "webp"), "text": ("caption", "txt"), "id": ("key",)}
"""How img2dataset calls these columns in the Parquet files that it writes, which have a column ``key``."""

_NUMBER = re.compile(r"[+-]?\d+\.\d*")


def check_table(where: str) -> None:
    """Check that a table is there, or the first and the last of several.

    Raises:
        DataError: One is not.
    """
    names = _tables(where)
    for name in {names[0], names[-1]}:
        find_place(name)


def read_table(where: str, labeled: bool) -> Samples:
    """Read a table with the columns ``image`` (or ``text``), and ``label``, ``text`` and ``id`` where it has them.

    Images are paths from the table's folder on, whole paths, or URLs; in Parquet also the encoded images themselves,
    which stay in the file until they are needed. Ids are the column ``id``, or else the path, or the row's number;
    with the name of their file before them where a pattern names several.

    Raises:
        DataError: The table is missing, empty or damaged, lacks a column, or its labels name no classes.
    """
    found = _all_rows(where, ["label"] if labeled else [])
    return finish(found, where, labeled=labeled, remedy="fill in the column label")


def read_masked_table(where: str, reading: MaskReading) -> Samples:
    """Read a table with the columns ``image`` and ``mask``, found in the same ways; and ``id`` where it has one.

    Raises:
        DataError: The table is missing, empty or damaged, lacks a column, or no row has a mask.
    """
    root = _tables(where)[0].rpartition("/")[0] or "."
    code, classes = find_code(root, reading)
    return finish_masked(_all_rows(where, ["mask"]), where, code, classes, remedy="fill in the column mask")


def _all_rows(where: str, wanted: Sequence[str]) -> list[Found]:
    """Return the rows of all tables of that name; ``wanted`` are the columns of targets."""
    names, found = _tables(where), list[Found]()
    for name, base in zip(names, short_names(names), strict=True):
        place = find_place(name)
        rows = _parquet_rows(place, wanted) if suffix_of(name) in (".parquet", ".pq") else _text_rows(place, wanted)
        found += _located(rows, place, "label" in wanted, f"{base}/" if len(names) > 1 else "")
    if not found:
        raise DataError(f"{where}: the table has no rows; write one a sample below the header")
    return found


def _tables(where: str) -> list[str]:
    """Return the tables that a path or a pattern names."""
    return expand(where, suffix_of(where)) if set("*{") & set(where) and not is_there(where) else [where]


def _columns(where: str, names: Sequence[str], wanted: Sequence[str]) -> list[str]:
    """Return which of the columns we know are there, and refuse a table without those that are needed."""
    if any(is_url(name) for name in names):
        raise DataError(
            f"{where}: has no header, and looks like a list of captions and addresses to download from, as CC3M's; "
            "download the images first (img2dataset writes WebDataset shards and Parquet), and give what that leaves"
        )
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise DataError(f"{where}: has several columns {', '.join(sorted(twice))}; rename all but one")
    needed = [*wanted]
    if "text" not in names or "mask" in wanted:
        needed.append("image")
    for need in sorted(needed):
        if need not in names:
            lower = {name.lower(): name for name in names}
            also = [lower[other] for other in ALSO_CALLED[need] if other in lower]
            close = also or [lower[name] for name in difflib.get_close_matches(need, lower, n=1)]
            remedy = f"rename {close[0]!r}" if close else "add it"
            raise DataError(f"{where}: has no column {need!r}; its columns are {', '.join(names)}; {remedy}")
    known = ("image", "mask", "id") if "mask" in wanted else ("image", "label", "text", "id")
    return [name for name in known if name in names]


def _text_rows(place: Place, wanted: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Yield the rows of a CSV or TSV file."""
    try:
        content = place.read().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise DataError(f"{place.name}, line {line}: is not UTF-8; save the table as UTF-8") from error
    separator = "\t" if suffix_of(place.name) == ".tsv" else ","
    lines = csv.reader(io.StringIO(content, newline=""), delimiter=separator, strict=True)
    try:
        header = [name.strip() for name in next(lines, [])]
        if not header:
            raise DataError(f"{place.name}: is empty; write a header with the column image, and label, text or id")
        known = _columns(place.name, header, wanted)
        kept = []
        for fields in lines:
            if not fields:
                continue
            if len(fields) != len(header):
                raise DataError(
                    f"{place.name}, line {lines.line_num}: has {len(fields)} fields, the header {len(header)}; "
                    "put quotes around fields with a separator in them"
                )
            row = dict(zip(header, (field.strip() for field in fields), strict=True))
            kept.append({name: row[name] for name in known})
    except csv.Error as error:
        raise DataError(f"{place.name}, line {lines.line_num}: is no valid CSV ({error}); repair the line") from error
    yield from _whole_numbers(kept, place.name) if "label" in wanted else kept


def _whole_numbers(rows: list[dict[str, Any]], where: str) -> Iterable[dict[str, Any]]:
    """Take back what pandas does to whole-number labels when some are missing: 3 becomes 3.0."""
    given = [row["label"] for row in rows if row["label"]]
    if not given or not all(re.fullmatch(r"[+-]?\d+(\.\d*)?", label) for label in given):
        return rows
    for row in rows:
        if _NUMBER.fullmatch(row["label"]):
            row["label"] = class_name(float(row["label"]), where)
    return rows


def _parquet_rows(place: Place, wanted: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Yield the rows of a Parquet file; cells that hold images or masks as :class:`Cell`."""
    file = ParquetFile(place)
    theirs = _downloaded(file.schema.names)
    ours = {column: name for name, column in theirs.items()}
    known = _columns(place.name, [ours.get(column, column) for column in file.schema.names], wanted)
    columns = [theirs.get(name, name) for name in known if name not in PICTURES]
    leaves: dict[str, str] = {}
    for name in PICTURES:
        if name in known:
            column = theirs.get(name, name)
            leaves[name], more = _leaf(file, place, column)
            columns += more
    names = file.class_names("label")
    there: dict[str, list[bool]] = {}
    for group, row, found in file.rows(columns):
        values = {ours.get(name, name): value for name, value in found.items()}
        for name, leaf in leaves.items():
            if leaf:
                there[name] = file.present(group, leaf) if row == 0 else there[name]
                path = (values.pop(name, None) or {}).get("path")
                values[name] = Cell(file, group, row, leaf) if there[name][row] else path
        number = values.get("label")
        if names and isinstance(number, int):
            values["label"] = names[number] if 0 <= number < len(names) else None  # -1 hides the labels of a split
        yield values


def _leaf(file: ParquetFile, place: Place, column: str) -> tuple[str, list[str]]:
    """Return where a column of images holds bytes, or nothing, and what else of it is read with the other columns."""
    import pyarrow as pa

    form = file.schema.field(column).type
    if pa.types.is_dictionary(form):
        form = form.value_type
    if pa.types.is_struct(form):
        fields = {form.field(number).name for number in range(form.num_fields)}
        if "bytes" not in fields:
            raise DataError(
                f"{place.name}: the structs in column {column} have no field 'bytes'; store image bytes there"
            )
        return f"{column}.bytes", [f"{column}.path"] if "path" in fields else []
    if pa.types.is_binary(form) or pa.types.is_large_binary(form):
        return column, []
    if pa.types.is_string(form) or pa.types.is_large_string(form):
        return "", [column]
    raise DataError(
        f"{place.name}: column {column} holds {form}; give paths, image bytes, or structs of bytes and path"
    )


def _downloaded(names: Sequence[str]) -> dict[str, str]:
    """Return which columns of a Parquet file that img2dataset wrote are ours; none of any other file."""
    if "image" in names or "key" not in names or not set(DOWNLOADED["image"]) & set(names):
        return {}
    found = {ours: next((each for each in theirs if each in names), "") for ours, theirs in DOWNLOADED.items()}
    return {ours: column for ours, column in found.items() if column and ours not in names}


def _located(rows: Iterable[dict[str, Any]], place: Place, labeled: bool, prefix: str) -> Iterator[Found]:
    """Yield rows with their images found, or with what is wrong about them; ``prefix`` goes before their ids."""
    find = _Remote(place) if place.store is not None else _Local(place)
    for number, values in enumerate(rows):
        where = f"{place.name}, row {number + 1}"
        cell = values.get("image")
        text = values.get("text")
        image: ImageSource | None = None
        key = f"{number:08d}"
        if isinstance(cell, Cell):
            image = cell
        elif cell:
            found = find(str(cell))
            if isinstance(found, Problem):
                yield found
                continue
            key, image = found
        elif "image" in values:
            yield Problem("no image", where)
            continue
        label = class_name(values.get("label"), where) if labeled else None
        given = values.get("id")
        key = key if given is None or given == "" else str(given)
        mask = values.get("mask")
        if mask and not isinstance(mask, Cell):
            at = find(str(mask))
            if isinstance(at, Problem):
                yield at
                continue
            mask = at[1]
        yield Row(prefix + key, image, label, None if text is None else str(text), mask or None)


class _Local:
    """Finds the images of a table on this machine: from its folder on, anywhere else, or at a URL.

    By os.path, a row at a time: pathlib would take several times as long, and does not take ``..`` out of a path.
    """

    def __init__(self, place: Place) -> None:
        self.folder = os.path.abspath(os.path.dirname(place.path))  # noqa: PTH100, PTH120

    def __call__(self, cell: str) -> tuple[str, ImageSource] | Problem:
        if is_url(cell):
            return _at_url(cell)
        path = os.path.normpath(os.path.join(self.folder, os.path.expanduser(cell)))  # noqa: PTH111, PTH118
        if not os.path.isfile(path):  # noqa: PTH113
            return Problem("vanished", printable(cell), f"looked in {self.folder}")
        whole = posixpath.isabs(cell) or cell.startswith("~")
        inside = path.startswith(f"{self.folder}/")
        key = path if whole and not inside else os.path.relpath(path, self.folder)
        return printable(key), Path(path)


class _Remote:
    """Finds the images of a table on a store: below the table's folder or at a URL; never on this machine."""

    def __init__(self, place: Place) -> None:
        self.url = place.name.rpartition("/")[0]
        self.store = place.store
        self.root = place.path.rpartition("/")[0]
        self.index: dict[str, Place] | None = None

    def __call__(self, cell: str) -> tuple[str, ImageSource] | Problem:
        if is_url(cell):
            if cell.startswith(("file://", "local://")):
                return Problem("unsafe path", cell, "a remote table names a file of this machine")
            return _at_url(cell)
        key = posixpath.normpath(cell)
        if posixpath.isabs(key) or key.startswith(".."):
            return Problem("unsafe path", cell, "leads out of the table's folder")
        if self.url.startswith(("http://", "https://")):  # web servers need not list their folders
            found = _at_url(f"{self.url}/{key}")
            return found if isinstance(found, Problem) else (key, found[1])
        if self.index is None:
            self.index = dict(walk_remote(self.store, self.root, self.url))
        return (key, Piece(self.index[key])) if key in self.index else Problem("vanished", cell, f"not in {self.url}")


def _at_url(url: str) -> tuple[str, ImageSource] | Problem:
    if "::" in url:
        return Problem("unsafe path", url, "chained URLs are not read")
    store, path = connect(url)
    # Nobody listed it, and asking for each row would take a request each: the URL stands for the image.
    return url, Piece(remote_place(store, {"name": path}, url))
