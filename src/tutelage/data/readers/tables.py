"""Tables: CSV, TSV, JSON lines and Parquet files whose rows are samples."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import PurePath
from typing import Any

from tutelage.data.mask_codes import MaskReading
from tutelage.data.problems import Problem
from tutelage.data.readers.class_lists import find_code
from tutelage.data.readers.columns import find_columns
from tutelage.data.readers.parquet import Cell, ParquetFile
from tutelage.data.readers.places import Place, find_place, is_there, suffix_of
from tutelage.data.readers.rows import Found, Row, Wanted, class_name, finish, finish_masked
from tutelage.data.readers.shards import expand, short_names
from tutelage.data.readers.table_images import LocalImages, RemoteImages
from tutelage.data.readers.text_tables import GZIPPED, delimited_rows, json_rows
from tutelage.data.samples import ImageSource, Samples
from tutelage.errors import DataError

PICTURES = ("image", "mask")
"""Columns of paths, or of encoded images."""

DOWNLOADED = {"image": ("jpg", "png", "webp"), "text": ("caption", "txt"), "id": ("key",)}
"""How img2dataset calls these columns in the Parquet files that it writes, which have a column ``key``."""


def is_table(where: str) -> bool:
    """Return whether a name means tables, by its suffix."""
    return bool(_form(where))


def _form(where: str) -> str:
    """Return which key of :data:`FORMS` a table's name ends in, or nothing."""
    suffix = suffix_of(where)
    if suffix != GZIPPED:
        return suffix if suffix in FORMS else ""
    inner = PurePath(where.partition("?")[0]).with_suffix("").suffix.lower()
    return inner if inner in FORMS and FORMS[inner] is not _parquet_rows else ""


def check_table(where: str) -> None:
    """Check that a table is there, or the first and the last of several.

    Raises:
        DataError: One is not.
    """
    names = _tables(where)
    for name in {names[0], names[-1]}:
        find_place(name)


def read_table(where: str, wanted: Wanted) -> Samples:
    """Read a table with the columns ``image`` or ``text`` (or both, for pairs), and ``label``; others do not count.

    Images are paths from the table's folder on, whole paths, or URLs; in Parquet also the encoded images themselves,
    which stay in the file until they are needed. A column ``text_pair`` holds second texts. Ids are the column
    ``id``, or else the image's path, or the row's number; with the name of their file before them where a pattern
    names several. Of pairs one image may be in several rows, whose ids then are told apart.

    Raises:
        DataError: The table is missing, empty or damaged, lacks a column, or its labels name no classes.
    """
    found = _all_rows(where, wanted, "label" if wanted.labeled else "")
    return finish(found, where, labeled=wanted.labeled, remedy="fill in the column label")


def read_masked_table(where: str, wanted: Wanted, reading: MaskReading) -> Samples:
    """Read a table with the columns ``image`` and ``mask``, found in the same ways; and ``id`` where it has one.

    Raises:
        DataError: The table is missing, empty or damaged, lacks a column, or no row has a mask.
    """
    root = _tables(where)[0].rpartition("/")[0] or "."
    code, classes = find_code(root, reading)
    return finish_masked(_all_rows(where, wanted, "mask"), where, code, classes, remedy="fill in the column mask")


def _all_rows(where: str, wanted: Wanted, target: str) -> list[Found]:
    """Return the rows of all tables of that name; ``target`` is the column of labels or masks, if any."""
    names, found = _tables(where), list[Found]()
    for name, base in zip(names, short_names(names), strict=True):
        place = find_place(name)
        rows = FORMS[_form(name)](place, wanted, target)
        found += _located(rows, place, wanted, f"{base}/" if len(names) > 1 else "")
    if not found:
        raise DataError(f"{where}: the table has no rows; write one a sample below the header")
    return found


def _tables(where: str) -> list[str]:
    """Return the tables that a path or a pattern names."""
    return expand(where, suffix_of(where)) if set("*{") & set(where) and not is_there(where) else [where]


def _parquet_rows(place: Place, wanted: Wanted, target: str) -> Iterator[dict[str, Any]]:
    """Yield the rows of a Parquet file; cells that hold images or masks as :class:`Cell`."""
    file = ParquetFile(place)
    columns = find_columns(place.name, file.schema.names, wanted, target, _downloaded(file.schema.names))
    plain = {ours: column for ours, column in columns.items() if ours not in PICTURES}
    read, leaves = [*plain.values()], dict[str, str]()
    for name in PICTURES:
        if name in columns:
            leaves[name], more = _leaf(file, place, columns[name])
            read += more
    names = file.class_names(columns["label"]) if "label" in columns else []
    there: dict[str, list[bool]] = {}
    for group, row, found in file.rows(list(dict.fromkeys(read))):
        values = {ours: found[column] for ours, column in plain.items()}
        for name, leaf in leaves.items():
            values[name] = found.get(columns[name])
            if leaf:
                there[name] = file.present(group, leaf) if row == 0 else there[name]
                path = (values[name] or {}).get("path")
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
    """Return what our names are called in a Parquet file that img2dataset wrote; nothing of any other file."""
    if "image" in names or "key" not in names or not set(DOWNLOADED["image"]) & set(names):
        return {}
    found = {ours: next((each for each in theirs if each in names), "") for ours, theirs in DOWNLOADED.items()}
    return {ours: column for ours, column in found.items() if column}


FORMS: dict[str, Callable[[Place, Wanted, str], Iterator[dict[str, Any] | Problem]]] = {
    ".csv": delimited_rows,
    ".tsv": delimited_rows,
    ".jsonl": json_rows,
    ".ndjson": json_rows,
    ".parquet": _parquet_rows,
    ".pq": _parquet_rows,
}
"""What each kind of table is read by, by its suffix."""


def _located(rows: Iterable[dict[str, Any] | Problem], place: Place, wanted: Wanted, prefix: str) -> Iterator[Found]:
    """Yield rows with their images found, or with what is wrong about them; ``prefix`` goes before their ids."""
    times = Counter[str]()  # that an image was there before, with other texts
    find = RemoteImages(place) if place.store is not None else LocalImages(place)
    for number, values in enumerate(rows):
        if isinstance(values, Problem):
            yield values
            continue
        where = f"{place.name}, row {number + 1}"
        cell = values.get("image")
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
            if wanted.modality == "pair":
                times[key] += 1
                key = key if times[key] == 1 else f"{key}#{times[key]}"
        elif "image" in values:
            yield Problem("no image", where)
            continue
        label = class_name(values.get("label"), where)  # which is read only where it is wanted
        given = values.get("id")
        key = key if given is None or given == "" else str(given)
        mask = values.get("mask")
        if mask and not isinstance(mask, Cell):
            at = find(str(mask))
            if isinstance(at, Problem):
                yield at
                continue
            mask = at[1]
        first, second = (_text(values[name], where) if name in values else None for name in ("text", "text_pair"))
        yield Row(prefix + key, image, label, first, mask or None, second)


def _text(value: object, where: str) -> str:
    """Return what a cell of texts holds; nothing where it is empty.

    Raises:
        DataError: It holds neither text nor a number.
    """
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if not isinstance(value, str | int | float):
        raise DataError(f"{where}: its text is a {type(value).__name__}; give strings, one a sample")
    return str(value)
