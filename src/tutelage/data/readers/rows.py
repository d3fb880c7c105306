"""Rows: what each reader finds, one sample or one problem at a time, and how they become Samples."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from tutelage.data.mask_codes import Mask, MaskCode
from tutelage.data.problems import Problem
from tutelage.data.samples import ImageSource, Samples
from tutelage.errors import DataError

Part = Literal["train", "test"]


@dataclass(frozen=True, slots=True)
class Row:
    """One sample as found.

    Attributes:
        id: Its name within the data.
        image: Its image, or ``None`` for text alone.
        label: The name of its class, or ``None`` where it has none.
        text: Its text, or ``None``.
        mask: Its mask, or ``None``.
    """

    id: str
    image: ImageSource | None
    label: str | None = None
    text: str | None = None
    mask: ImageSource | None = None


Found = Row | Problem


def finish(
    found: Iterable[Found], where: str, *, labeled: bool, classes: Sequence[str] = (), remedy: str = ""
) -> Samples:
    """Gather what was found.

    The first of several rows with one id is kept. Classes are numbered in the order of their names.

    Args:
        found: Rows and problems.
        where: The data's name, for messages.
        labeled: Whether labels are wanted; rows without one are then left out.
        classes: Class names in an order of their own, such as a data set publishes; those without a row are left out.
        remedy: Where labels would be expected, for the message when there are none at all.

    Raises:
        DataError: Labels are wanted and no row has one.
    """
    rows: list[Row] = []
    problems: list[Problem] = []
    seen: set[str] = set()
    unlabeled = 0
    for each in found:
        if isinstance(each, Problem):
            problems.append(each)
        elif each.id in seen:
            problems.append(Problem("duplicate id", each.id, "the first is kept"))
        elif labeled and each.label is None:
            seen.add(each.id)
            unlabeled += 1
            problems.append(Problem("no label", each.id))
        else:
            seen.add(each.id)
            rows.append(each)
    if unlabeled and not rows:
        raise DataError(f"{where}: none of {unlabeled:,} samples has a label, and labels are wanted here; {remedy}")
    if not labeled:
        return gather(rows, where, problems)
    there = {row.label for row in rows if row.label is not None}
    names = tuple(name for name in classes if name in there) if classes else tuple(sorted(there))
    problems += [Problem("empty class", name, "left out") for name in classes if name not in there]
    numbers = {name: number for number, name in enumerate(names)}
    targets = np.array([numbers[row.label or ""] for row in rows], dtype=np.int64)
    return gather(rows, where, problems, targets, names)


def finish_masked(
    found: Iterable[Found], where: str, code: MaskCode, classes: tuple[str, ...], *, remedy: str
) -> Samples:
    """Gather what was found with masks; rows without one are left out, as are second rows with one id.

    Args:
        found: Rows and problems.
        where: The data's name, for messages.
        code: What the masks' pixels stand for.
        classes: Class names by number; empty where they are not known yet.
        remedy: Where masks would be expected, for the message when there are none at all.

    Raises:
        DataError: No row has a mask.
    """
    rows: list[Row] = []
    problems: list[Problem] = []
    seen: set[str] = set()
    for each in found:
        if isinstance(each, Problem):
            problems.append(each)
        elif each.id in seen:
            problems.append(Problem("duplicate id", each.id, "the first is kept"))
        else:
            seen.add(each.id)
            if each.mask is None:
                problems.append(Problem("no mask", each.id))
            else:
                rows.append(each)
    if not rows:
        lacking = sum(problem.kind == "no mask" for problem in problems)
        if lacking:
            raise DataError(f"{where}: none of {lacking:,} images has a mask, and masks are wanted here; {remedy}")
        return gather(rows, where, problems)
    return gather(rows, where, problems, classes=classes, code=code)


def gather(
    rows: Sequence[Row],
    where: str,
    problems: Sequence[Problem],
    targets: np.ndarray[tuple[int], np.dtype[np.int64]] | None = None,
    classes: tuple[str, ...] = (),
    code: MaskCode | None = None,
) -> Samples:
    """Return rows as Samples. Images and texts are all or nothing: what some rows lack is an empty text."""
    images = [row.image for row in rows if row.image is not None]
    texts = [row.text or "" for row in rows] if any(row.text is not None for row in rows) else None
    masks = None if code is None else [Mask(row.mask, code) for row in rows if row.mask is not None]
    ids = tuple(row.id for row in rows)
    return Samples(ids, images or None, texts, targets, classes, where, tuple(problems), masks)


def chunks(found: Iterable[Found], where: str, size: int) -> Iterator[Samples]:
    """Yield unlabeled samples ``size`` at a time, each with the problems met on the way to it."""
    rows: list[Row] = []
    problems: list[Problem] = []
    for each in found:
        if isinstance(each, Problem):
            problems.append(each)
            continue
        if len(rows) == size:
            # Not before the next row is there, so that the last chunk carries the last problems.
            yield gather(rows, where, problems)
            rows, problems = [], []
        rows.append(each)
    if rows:
        yield gather(rows, where, problems)


def class_name(value: object, where: str) -> str | None:
    """Return a label as the name of a class, or ``None`` for none.

    Whole numbers stay as they are written; spreadsheets and pandas turn them into floats, which is undone.

    Raises:
        DataError: It cannot name a class.
    """
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, str):
        return value.strip() or None
    if isinstance(value, bool | int):
        return str(value)
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    what = f"{value!r}" if isinstance(value, float) else f"a {type(value).__name__}"
    raise DataError(f"{where}: label {what} names no class; give text or whole numbers, one a sample")


def printable(name: str) -> str:
    """Return a file's name as text that can be printed and saved: bytes that are not UTF-8 as ``\\xNN``."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
