"""Everything Tutelage raises on purpose.

    TutelageError
    ├── RecipeError          what was asked for is not valid, or not complete
    │   └── UnknownNameError a key, model, method or other name that does not exist; names the close ones
    ├── DataError            files, labels or images that cannot be used as given
    ├── ModelError           a model that cannot be built, loaded or used for this
    ├── RunError             a run folder that cannot be used, written or resumed
    ├── TrainingError        training that cannot go on (a loss that is not finite)
    └── ExportError          an exported model that does not agree with the trained one

Each message says what is wrong, where, and what to do. The command line turns them into exit code 2.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class TutelageError(Exception):
    """The root of all errors raised on purpose."""


class RecipeError(TutelageError):
    """What was asked for is not valid, or not complete."""


class UnknownNameError(RecipeError):
    """A name that does not exist, answered with the close ones.

    Args:
        kind: What is being named, such as "method".
        name: The name as given.
        known: All names that exist.
        hint: What else the reader can do; printed after the close names.
    """

    def __init__(self, kind: str, name: str, known: Iterable[str], hint: str = "") -> None:
        names = sorted(known)
        folded = {each.casefold(): each for each in names}
        self.close = [folded[each] for each in difflib.get_close_matches(name.casefold(), folded, n=3, cutoff=0.5)]
        message = f"unknown {kind} {name!r}"
        if self.close:
            message += f"; did you mean {' or '.join(map(repr, self.close))}?"
        elif len(names) <= 20:
            message += f"; known: {', '.join(names)}"
        super().__init__(f"{message} {hint}".strip())


class DataError(TutelageError):
    """Files, labels or images that cannot be used as given."""


class ModelError(TutelageError):
    """A model that cannot be built, loaded or used for this."""


class RunError(TutelageError):
    """A run folder that cannot be used, written or resumed."""


class TrainingError(TutelageError):
    """Training that cannot go on."""


class ExportError(TutelageError):
    """An exported model that does not agree with the trained one."""
