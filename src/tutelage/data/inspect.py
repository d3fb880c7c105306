"""Looking at every image once: which can be used, and what is wrong with the others."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import PIL

from tutelage.cache import cache_folder
from tutelage.data import images as decoding
from tutelage.data import pixels
from tutelage.data.formats import misnamed
from tutelage.data.problems import KINDS, USED, ImageError, Problem
from tutelage.data.samples import ImageSource, IntArray, Samples, Stored, original
from tutelage.errors import DataError, RunError
from tutelage.run import write_json

SCHEMA = 1
"""Version of what is remembered."""

BLOCK = 64
"""Images that a thread takes at a time."""

Result = TypeVar("Result")

Found = tuple[int, str, str]
"""Row, kind, detail."""


def inspect(samples: Samples) -> tuple[IntArray, tuple[Problem, ...]]:
    """Decode every image once, whole: only that finds images that end too early.

    What is found is remembered by the samples' fingerprint, so that unchanged files are not decoded again.
    Images that are pixels already are taken as they are.

    Returns:
        The rows that can be used, in order, and the problems; an image of another format than its name says is
        a problem, and is used.
    """
    images = samples.images or ()
    rows = [row for row, image in enumerate(images) if not isinstance(original(image), np.ndarray)]
    found = [] if not rows else _look(samples, rows)
    lost = {row for row, kind, _ in found if kind not in USED}
    usable = np.array([row for row in range(len(samples)) if row not in lost], dtype=np.int64)
    return usable, tuple(Problem(kind, _where(samples, row), detail) for row, kind, detail in found)


def _look(samples: Samples, rows: list[int]) -> list[Found]:
    # Labels do not matter to decoding: data that are labeled in one place and not in another are the same images.
    rest = samples.subset(np.array(rows, dtype=np.int64)).without_targets()
    gone: list[Found] = []
    fingerprint = fingerprint_of(rest)
    if fingerprint is None:
        gone = [each for row in rows if (each := _gone(row, (samples.images or ())[row]))]
        absent = {row for row, _, _ in gone}
        rows = [row for row in rows if row not in absent]
        rest = samples.subset(np.array(rows, dtype=np.int64)).without_targets()
        fingerprint = fingerprint_of(rest)
    file = memory_of(fingerprint)
    recalled = recall(file, len(rows))
    if recalled is not None:
        found = recalled[0]
    else:
        found = list(_decode_all(rest.images or ()))
        remember(file, found)
    return sorted([*gone, *((rows[row], kind, detail) for row, kind, detail in found)])


def memory_of(fingerprint: str | None) -> Path | None:
    """Return the file in which what is found is kept; ``None`` without a fingerprint."""
    return None if fingerprint is None else cache_folder("inspected") / f"{fingerprint}.json"


def fingerprint_of(samples: Samples) -> str | None:
    """Return the fingerprint, or ``None`` if an image is not there."""
    try:
        return samples.fingerprint
    except DataError:
        return None


def _gone(row: int, image: ImageSource) -> Found | None:
    """Tell, without reading, an image that is not there."""
    image = original(image)
    try:
        if isinstance(image, Path):
            pixels.check_regular(image)
        elif isinstance(image, Stored):
            image.stamp()
    except DataError as error:
        return found_in(row, error)
    return None


def _decode_all(images: Sequence[ImageSource]) -> Iterator[Found]:
    """Yield what is wrong; of several crops of one image, that is decoded once."""
    wholes = [original(image) for image in images]
    places = {id(whole): place for place, whole in enumerate(wholes)}
    firsts = list(places.values())
    seen = dict(zip(firsts, each_of(len(firsts), lambda turn: _decode(wholes[firsts[turn]])), strict=True))
    for row, whole in enumerate(wholes):
        if found := seen[places[id(whole)]]:
            yield row, *found


def each_of(count: int, look: Callable[[int], Result]) -> Iterator[Result]:
    """Yield what ``look`` gives for each row, in order, from several threads."""

    def block(start: int) -> list[Result]:
        return [look(row) for row in range(start, min(start + BLOCK, count))]

    # Decoders let other threads run; reading waits for disks and networks: a few more threads than cores.
    with ThreadPoolExecutor(min(16, (os.cpu_count() or 1) + 2), thread_name_prefix="inspect") as pool:
        for found in pool.map(block, range(0, count, BLOCK)):
            yield from found


def _decode(image: ImageSource) -> tuple[str, str] | None:
    try:
        form = decoding.decode_named(image)[1]
    except DataError as error:
        return found_in(0, error)[1:]
    suffix = "" if isinstance(image, bytes) else misnamed(str(image), form)
    return ("wrong extension", f"{form} named {suffix}") if suffix else None


def found_in(row: int, error: DataError) -> Found:
    """Return what an error says of a row."""
    if isinstance(error, ImageError):
        return row, error.kind, error.detail
    return row, "unreadable", str(error)


def _where(samples: Samples, row: int) -> str:
    image = (samples.images or ())[row]
    return samples.ids[row] if isinstance(original(image), bytes) else pixels.named(image)


def _conditions() -> dict[str, Any]:
    """Return what else than the files decides whether an image can be used."""
    return {"schema": SCHEMA, "limit": pixels.PIXEL_LIMIT, "pillow": PIL.__version__}


def remember(file: Path | None, found: list[Found], *more: int) -> None:
    """Keep what was found, unless a disk or a network refused something: it may be there the next time.

    Args:
        file: From :func:`memory_of`.
        found: What is wrong.
        more: What else was learned.
    """
    if file is None or any(kind in ("vanished", "unreadable") for _, kind, _ in found):
        return
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        beside = {"more": list(more)} if more else {}
        write_json(file, {**_conditions(), "found": [list(each) for each in found], **beside})
    except (OSError, RunError):
        pass  # a place that cannot be written costs another look, and no more


def recall(file: Path | None, count: int) -> tuple[list[Found], tuple[int, ...]] | None:
    """Return what was found before, and what else was learned, if that can be relied on."""
    try:
        data = json.loads(file.read_text()) if file is not None else {}
        if any(data[key] != value for key, value in _conditions().items()):
            return None
        found = [(int(row), str(kind), str(detail)) for row, kind, detail in data["found"]]
        more = tuple(map(int, data.get("more", ())))
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return (found, more) if all(0 <= row < count and kind in KINDS for row, kind, _ in found) else None
