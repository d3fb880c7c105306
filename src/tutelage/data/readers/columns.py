"""Which column of a table holds what: by our names, by what a recipe says, and what is meant by others."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence

from tutelage.data.readers.places import is_url
from tutelage.data.readers.rows import Wanted
from tutelage.errors import DataError

ALSO_CALLED = {
    "image": ("file", "filename", "file_name", "path", "filepath", "image_path", "img"),
    "label": ("class", "target", "category", "y", "gold", "gold_label", "answer", "sentiment"),
    "mask": ("label", "annotation", "segmentation", "mask_path", "target"),
    "text": ("sentence", "review", "content", "document", "body", "comment", "message", "description", "caption"),
}
"""What else such columns are called; suggested, never guessed."""

PAIRED = (
    ("sentence1", "sentence2"),
    ("question1", "question2"),
    ("premise", "hypothesis"),
    ("question", "passage"),
    ("question", "sentence"),
)
"""What the columns of two texts a sample are called in published sets; suggested, never guessed."""


def find_columns(
    where: str,
    names: Sequence[str],
    wanted: Wanted,
    target: str = "",
    also: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """Return the columns to read, by our names for them.

    A name that the recipe gives goes before our own, where the table has both.

    Args:
        where: The table, for messages.
        names: Its columns.
        wanted: What is wanted of it.
        target: ``label`` or ``mask``, where these are wanted.
        also: What else our names are called in a table of this kind.

    Raises:
        DataError: A column is missing, or two have one name.
    """
    if any(is_url(name) for name in names):
        raise DataError(
            f"{where}: has no header, and looks like a list of captions and addresses to download from, as CC3M's; "
            "download the images first (img2dataset writes WebDataset shards and Parquet), and give what that leaves"
        )
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise DataError(f"{where}: has several columns {', '.join(sorted(twice))}; rename all but one")
    needed = ["image"] * wanted.images + ["text"] * wanted.texts + [target] * bool(target)
    optional = ["text_pair"] * wanted.texts + ["id"]
    found = {}
    for ours in (*needed, *optional):
        said = wanted.columns.get(ours)
        column = next((name for name in (said, ours, (also or {}).get(ours)) if name in names), None)
        if column is not None:
            found[ours] = column
        elif said is not None:
            raise DataError(
                f"{where}: has no column {said!r}, which data.columns says {ours} is; its columns are "
                f"{', '.join(names)}"
            )
        elif ours in needed:
            raise DataError(_missing(where, ours, names))
    return found


def _missing(where: str, ours: str, names: Sequence[str]) -> str:
    """Return what to say of a table without a column."""
    lower = {name.lower(): name for name in names}
    pairs = [pair for pair in PAIRED if ours == "text" and set(pair) <= lower.keys()]
    called = [lower[other] for other in ALSO_CALLED.get(ours, ()) if other in lower]
    close = called or [lower[name] for name in difflib.get_close_matches(ours, lower, n=1)]
    if pairs:
        first, second = (lower[name] for name in pairs[0])
        remedy = f"set data.columns={{text: {first}, text_pair: {second}}}"
    elif close:
        remedy = f"rename {close[0]!r} or set data.columns={{{ours}: {close[0]}}}"
    else:
        remedy = f"add it, or say which is meant: data.columns={{{ours}: NAME}}"
    return f"{where}: has no column {ours!r}; its columns are {', '.join(names)}; {remedy}"
