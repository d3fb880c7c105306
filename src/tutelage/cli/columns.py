"""What columns are called in tables, as command lines say it: ``--column text=review``."""

from __future__ import annotations

from collections.abc import Sequence


def columns_of(given: Sequence[str]) -> dict[str, str]:
    """Return the names of columns in tables by our own.

    Raises:
        RecipeError: One is not written NAME=COLUMN, or the name is none of ours.
    """
    from tutelage.data.settings import COLUMNS
    from tutelage.errors import RecipeError, UnknownNameError

    found: dict[str, str] = {}
    for each in given:
        ours, equals, theirs = each.partition("=")
        if not equals or not theirs:
            raise RecipeError(f"--column {each}: write it as NAME=COLUMN, such as text=review")
        if ours not in COLUMNS:
            raise UnknownNameError("column", ours, COLUMNS, "(our names in --column)")
        found[ours] = theirs
    return found
