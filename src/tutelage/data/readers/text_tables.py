"""Tables that are text: CSV, TSV and JSON lines, plain or gzipped."""

from __future__ import annotations

import csv
import gzip
import io
import json
import re
import sys
from collections.abc import Iterable, Iterator
from typing import Any

from tutelage.data.problems import Problem
from tutelage.data.readers.columns import find_columns
from tutelage.data.readers.places import Place, reaching
from tutelage.data.readers.rows import Wanted, class_name
from tutelage.errors import DataError

GZIPPED = ".gz"

_NUMBER = re.compile(r"[+-]?\d+\.\d*")


def delimited_rows(place: Place, wanted: Wanted, target: str) -> Iterator[dict[str, Any]]:
    """Yield the rows of a CSV or TSV file by our names of columns; ``target`` is that of labels or masks, if wanted.

    Raises:
        DataError: It is damaged, or lacks a column.
    """
    try:
        content = _content(place).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise DataError(f"{place.name}, line {line}: is not UTF-8; save the table as UTF-8") from error
    separator = "\t" if place.name.lower().removesuffix(GZIPPED).endswith(".tsv") else ","
    csv.field_size_limit(sys.maxsize)  # texts may be longer than the 131,072 characters that are allowed at first
    lines = csv.reader(io.StringIO(content, newline=""), delimiter=separator, strict=True)
    try:
        header = [name.strip() for name in next(lines, [])]
        if not header:
            what = "text" if wanted.modality == "text" else "image"
            raise DataError(f"{place.name}: is empty; write a header with the column {what}, and label or id")
        columns = find_columns(place.name, header, wanted, target)
        places = {ours: header.index(theirs) for ours, theirs in columns.items()}
        kept = []
        for fields in lines:
            if not fields:
                continue
            if len(fields) != len(header):
                raise DataError(
                    f"{place.name}, line {lines.line_num}: has {len(fields)} fields, the header {len(header)}; "
                    "put quotes around fields with a separator in them"
                )
            kept.append({ours: fields[number].strip() for ours, number in places.items()})
    except csv.Error as error:
        raise DataError(f"{place.name}, line {lines.line_num}: is no valid CSV ({error}); repair the line") from error
    yield from _whole_numbers(kept, place.name) if target == "label" else kept


def _whole_numbers(rows: list[dict[str, Any]], where: str) -> Iterable[dict[str, Any]]:
    """Take back what pandas does to whole-number labels when some are missing: 3 becomes 3.0."""
    given = [row["label"] for row in rows if row["label"]]
    if not given or not all(re.fullmatch(r"[+-]?\d+(\.\d*)?", label) for label in given):
        return rows
    for row in rows:
        if _NUMBER.fullmatch(row["label"]):
            row["label"] = class_name(float(row["label"]), where)
    return rows


def json_rows(place: Place, wanted: Wanted, target: str) -> Iterator[dict[str, Any] | Problem]:
    """Yield the rows of a file with a JSON object a line, as :func:`delimited_rows` does.

    Lines that are none are problems: unlike those of other tables, they say nothing about the lines after them.

    Raises:
        DataError: It is damaged, lacks a column, or has no line that is an object.
    """
    content = _content(place).removeprefix(b"\xef\xbb\xbf")
    # Not splitlines, which takes more than ends of lines for such.
    found = [_object(line, f"{place.name}, line {number}") for number, line in enumerate(content.split(b"\n"), 1)]
    there = [each for each in found if each is not None]
    objects = [each for each in there if isinstance(each, dict)]
    array = content.lstrip().startswith(b"[")
    if array or (there and not objects):
        what = "a JSON array" if array else "no JSON lines"
        raise DataError(
            f"{place.name}: is {what}; write one JSON object a line, such as " + '{"text": …, "label": …}'
        )
    if not objects:
        return
    columns = find_columns(place.name, list(dict.fromkeys(key for each in objects for key in each)), wanted, target)
    for each in there:
        yield {ours: each.get(key) for ours, key in columns.items()} if isinstance(each, dict) else each


def _object(line: bytes, where: str) -> dict[str, Any] | Problem | None:
    """Return the object in a line, or what is wrong with it; ``None`` of a line that is empty."""
    if not line.strip():
        return None
    try:
        found = json.loads(line.decode())
    except UnicodeDecodeError:
        return Problem("not text", where, "is not UTF-8")
    except (ValueError, RecursionError) as error:
        return Problem("damaged", where, f"is no JSON ({getattr(error, 'msg', 'nested too deep')})")
    return found if isinstance(found, dict) else Problem("damaged", where, f"is {type(found).__name__}, no object")


def _content(place: Place) -> bytes:
    content = place.read()
    if place.name.lower().endswith(GZIPPED):
        with reaching(place.name):
            return gzip.decompress(content)
    return content
