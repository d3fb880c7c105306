"""Class lists that lie beside masks: which classes there are, and what their pixels look like."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path
from typing import Any

from tutelage.data.mask_codes import VOID, Classes, MaskCode, MaskReading, Pixel, check_ignored, make_code
from tutelage.data.readers.places import Place, connect, find_place, is_there, is_url, reaching
from tutelage.errors import DataError

ADE20K_LIST = "objectInfo150.txt"
"""ADE20K's own: a table with the columns Idx and Name; 0 is no class."""

ADE20K_VOID: tuple[Pixel, ...] = (0,)

ADE20K_CLASSES = tuple(str(number) for number in range(1, 151))
"""What ADE20K's classes are called where its list is missing."""


def find_code(root: str, reading: MaskReading, *, ade20k: bool = False) -> tuple[MaskCode, tuple[str, ...]]:
    """Return what the pixels of masks below a folder stand for, and the class names; none if nobody knows them.

    What the recipe says comes first, then a list in the folder (``classes.txt``, ``.json``, ``.csv``, or ADE20K's
    own), then what is known from other data.

    Args:
        root: The folder, or a URL.
        reading: What is known beside it.
        ade20k: Whether 0 is no class and the first class is 1, whoever lists them.

    Raises:
        DataError: The list cannot be read or is none, or has classes that ``reading.order`` lacks.
    """
    first, void = (1, ADE20K_VOID) if ade20k else (0, None)
    if reading.classes is not None:
        ignored = reading.ignore if reading.ignore is not None else void
        return make_code(reading.classes, "data.classes", ignored=ignored, first=first, order=reading.order)
    found = _beside(root)
    if found is not None:
        place, classes = found
        if Path(place.path).name == ADE20K_LIST:
            void = ADE20K_VOID
        ignored = reading.ignore if reading.ignore is not None else void
        return make_code(classes, place.name, ignored=ignored, first=first, order=reading.order)
    if reading.code is not None and not ade20k:
        return reading.code, reading.order
    if ade20k or reading.order:
        classes = reading.order or ADE20K_CLASSES
        ignored = reading.ignore if reading.ignore is not None else void
        return make_code(classes, root, ignored=ignored, first=first, order=reading.order)
    ignored = VOID if reading.ignore is None else reading.ignore
    check_ignored(ignored)
    return MaskCode(None, ignored), ()


def _beside(root: str) -> tuple[Place, Classes] | None:
    """Return the first class list in a folder, and what it says."""
    for name, read in LISTS.items():
        where = f"{root.rstrip('/')}/{name}"
        if not (_remote(where) if is_url(where) else is_there(Path(where).expanduser())):
            continue
        place = find_place(where)
        try:
            text = place.read().decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise DataError(f"{where}: is not UTF-8 text (byte {error.start:,}); save it as UTF-8") from error
        return place, read(text, where)
    return None


def _remote(url: str) -> bool:
    store, path = connect(url)
    with reaching(url):
        return bool(store.exists(path))


def _lines(text: str, where: str) -> Classes:
    return [line.strip() for line in text.splitlines() if line.strip()]


def _json(text: str, where: str) -> Classes:
    form = "give a list of names, or an object of name → number or name → [red, green, blue]"

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len(dict(pairs)) < len(pairs):
            raise DataError(f"{where}: names a class twice; give each class a name of its own")
        return dict(pairs)

    try:
        found = json.loads(text, object_pairs_hook=once)
    except ValueError as error:
        raise DataError(f"{where}: is no valid JSON ({error}); {form}") from error
    if isinstance(found, list) and all(isinstance(name, str) for name in found):
        return found
    if isinstance(found, dict) and all(_is_pixel(value) for value in found.values()):
        return found
    raise DataError(f"{where}: lists no classes; {form}")


def _is_pixel(value: object) -> bool:
    many = isinstance(value, list) and len(value) == 3 and all(isinstance(each, int) for each in value)
    return many or (isinstance(value, int) and not isinstance(value, bool))


def _csv(text: str, where: str) -> Classes:
    rows = csv.DictReader(io.StringIO(text), skipinitialspace=True)
    columns = [name.strip().lower() for name in rows.fieldnames or ()]
    rows.fieldnames = columns
    kinds = [kind for kind in (("r", "g", "b"), ("id",)) if set(kind) <= set(columns)]
    if "name" not in columns or not kinds:
        raise DataError(f"{where}: has the columns {', '.join(columns)}; give name and id, or name, r, g and b")
    found: dict[str, Pixel] = {}
    for row in rows:
        name = (row["name"] or "").strip()
        try:
            values = [int(row[column]) for column in kinds[0]]
        except (TypeError, ValueError) as error:
            raise DataError(
                f"{where}, line {rows.line_num}: {', '.join(kinds[0])} must be whole numbers; repair the line"
            ) from error
        if name in found:
            raise DataError(f"{where}, line {rows.line_num}: class {name!r} stands there twice; remove one")
        found[name] = values[0] if len(values) == 1 else (values[0], values[1], values[2])
    return found


def _ade20k(text: str, where: str) -> Classes:
    """Read lines such as ``2  0.1072  6046  612  building, edifice``; names are the first of several if unique."""
    rows = [[field.strip() for field in re.split(r"\t+|\s{2,}", line.strip())] for line in text.splitlines()]
    entries = [(row[0], row[-1]) for row in rows if len(row) > 1 and row[0].isdigit()]
    if not entries:
        raise DataError(f"{where}: lists no classes; put the file there that comes with ADE20K, or remove it")
    short = [name.partition(",")[0].strip() for _, name in entries]
    names = short if len(set(short)) == len(short) else [name for _, name in entries]
    return {name: int(number) for name, (number, _) in zip(names, entries, strict=True)}


LISTS = {"classes.json": _json, "classes.csv": _csv, "classes.txt": _lines, ADE20K_LIST: _ade20k}
"""Names of class lists, and how each is read; the first that is there counts."""
