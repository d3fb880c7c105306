"""Rows: what each reader finds, one sample or one problem at a time, and how they become Samples."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

import numpy as np

from tutelage.data.mask_codes import Mask, MaskCode
from tutelage.data.problems import Problem
from tutelage.data.samples import ImageSource, Samples
from tutelage.data.texts import clean
from tutelage.errors import DataError
from tutelage.runtime.texts import paired

if TYPE_CHECKING:  # which needs torch
    from tutelage.models.preprocess import Modality

Part = Literal["train", "test"]


@dataclass(frozen=True)
class Wanted:
    """What is wanted of some data.

    Attributes:
        labeled: Whether class labels are.
        part: Of sets that have parts.
        modality: Images, texts (one or two a sample), or an image with its text.
        columns: Our names of columns, and what they are called in tables (and in the JSON of archives) that have
            such ones.
    """

    labeled: bool
    part: Part = "train"
    modality: Modality = "image"
    columns: Mapping[str, str] = field(default_factory=dict)

    @property
    def images(self) -> bool:
        """Whether images are wanted."""
        return self.modality != "text"

    @property
    def texts(self) -> bool:
        """Whether texts are wanted."""
        return self.modality != "image"


@dataclass(frozen=True, slots=True)
class Row:
    """One sample as found.

    Attributes:
        id: Its name within the data.
        image: Its image, or ``None`` for text alone.
        label: The name of its class, or ``None`` where it has none.
        text: Its text, or ``None`` where none is wanted; empty where one is and it has none.
        mask: Its mask, or ``None``.
        text_pair: Its second text, likewise, until both are cleaned and joined.
    """

    id: str
    image: ImageSource | None
    label: str | None = None
    text: str | None = None
    mask: ImageSource | None = None
    text_pair: str | None = None


Found = Row | Problem


def finish(
    found: Iterable[Found], where: str, *, labeled: bool, classes: Sequence[str] = (), remedy: str = ""
) -> Samples:
    """Gather what was found.

    Texts are cleaned (see :func:`cleaned`). The first of several rows with one id is kept. Classes are numbered in
    the order of their names.

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
    for each in cleaned(found):
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


def cleaned(found: Iterable[Found]) -> Iterator[Found]:
    """Yield rows with clean texts, two joined into one; those without a text where one is wanted become problems."""
    for each in found:
        if isinstance(each, Problem) or each.text is None:
            yield each
            continue
        texts = [clean(text) for text in (each.text, each.text_pair) if text is not None]
        if not all(text for text, _ in texts):
            yield Problem("no text", each.id, "" if len(texts) == 1 else "two are wanted")
            continue
        if any(foreign for _, foreign in texts):
            yield Problem("characters", each.id, "became spaces")
        text = texts[0][0] if len(texts) == 1 else paired(texts[0][0], texts[1][0])
        yield replace(each, text=text, text_pair=None)


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
    """Return rows as Samples: all of them have images, or texts, or both."""
    images = [row.image for row in rows if row.image is not None]
    texts = [row.text for row in rows if row.text is not None]
    masks = None if code is None else [Mask(row.mask, code) for row in rows if row.mask is not None]
    ids = tuple(row.id for row in rows)
    return Samples(ids, images or None, texts or None, targets, classes, where, tuple(problems), masks)


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
