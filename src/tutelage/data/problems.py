"""What is wrong with data as people have them: counted, listed, and fatal only past a stated share."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from tutelage.errors import DataError

LISTED = 50
"""How many problems of one part of the data a summary spells out; the counts have them all."""


@dataclass(frozen=True)
class Problem:
    """One thing that was left out or set right.

    Attributes:
        kind: One of :data:`KINDS`.
        where: The file, row or member; as a user would look for it.
        detail: What exactly is wrong, in a few words.
    """

    kind: str
    where: str
    detail: str = ""


KINDS: dict[str, str] = {
    "empty file": "files of zero bytes",
    "not an image": "files that no decoder knows",
    "truncated": "images that end too early",
    "damaged": "images whose content cannot be decoded",
    "too large": "images past the pixel limit, and files too large for one text",
    "wrong extension": "images of another format than their name says (used as they are)",
    "unreadable": "files that may not be read",
    "vanished": "files that were listed and are gone",
    "link": "symbolic links that lead nowhere, in a circle, or outside, and links in archives",
    "unsafe path": "names that lead out of the data's folder",
    "special file": "pipes, sockets and devices",
    "duplicate id": "rows with an id that came before",
    "contradiction": "the same image or text under two labels",
    "no label": "samples without a label",
    "unknown class": "held-out samples of a class that the labeled data lack",
    "empty class": "classes without a sample",
    "no image": "rows, archive keys or masks without an image",
    "no mask": "images without a mask, where masks are wanted",
    "mask size": "masks of another size than their image",
    "unknown id": "masks with a value or color that no class has",
    "all ignored": "masks without a pixel that counts",
    "RGB mask": "masks of colors, where no class has one",
    "not a mask": "masks in a form that holds no class numbers",
    "no text": "samples without a text, where texts are wanted",
    "not text": "files and lines that are no text in UTF-8",
    "possible leak": "retrieved images that may be images of the task (kept as they are)",
    "characters": "texts with characters that do not exist, which became spaces",
}
"""Kinds of problems, and what each is in words."""


USED = frozenset({"wrong extension", "empty class", "possible leak", "characters"})
"""Kinds of problems that leave no image out."""


class ImageError(DataError):
    """An image that cannot be read or decoded.

    Args:
        message: What is wrong, where, and what to do.
        kind: Which of :data:`KINDS` it is.
        detail: What exactly is wrong, in a few words.
    """

    def __init__(self, message: str, kind: str, detail: str = "") -> None:
        super().__init__(message, kind, detail)
        self.kind = kind
        self.detail = detail

    def __str__(self) -> str:
        return str(self.args[0])


def summarize(problems: Iterable[Problem]) -> dict[str, Any]:
    """Return problems as plain data: ``counts`` by kind, the most frequent first, and the first ``examples``."""
    found = list(problems)
    counts = dict(Counter(problem.kind for problem in found).most_common())
    return {"counts": counts, "examples": [asdict(problem) for problem in found[:LISTED]]}


def in_words(counts: Mapping[str, int]) -> str:
    """Return counts by kind as one line: ``3 truncated, 1 duplicate id``."""
    return ", ".join(f"{count:,} {kind}" for kind, count in counts.items())
