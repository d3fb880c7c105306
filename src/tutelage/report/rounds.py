"""What a student that learns from its own predictions took unlabeled images for, round by round."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tutelage.report.finished import Finished
from tutelage.report.numbers import MISSING, percent, whole
from tutelage.report.tasks import noun, task_words

NAMED = 10
"""Most classes without an image that are named."""

SHOWN_CLASSES = 40
"""Most classes whose counts are listed."""


def rounds(run: Finished) -> dict[str, Any] | None:
    """Return a row for each round, classes that none was taken for, and counts; ``None`` for a run without rounds."""
    found = run.data.get("rounds")
    if not found:
        return None
    learned = [each for each in found if each["learned"] is not None]
    names = list(learned[0]["learned"]["classes"])
    return {
        "rows": [_row(each, task_words(run.data).primary) for each in found],
        "missing": [
            f"In round {each['round']} no {noun(run.data)} is of class {_named(each['learned']['missing'])}."
            for each in learned
            if each["learned"]["missing"]
        ],
        "heads": [f"Round {each['round']}" for each in learned],
        "counts": [(name, [whole(each["learned"]["classes"][name]) for each in learned]) for name in names]
        if len(names) <= SHOWN_CLASSES
        else [],
        "flattered": not run.data["images"]["validation"],
    }


def _row(found: Mapping[str, Any], primary: str) -> dict[str, str]:
    learned = found["learned"]
    row = {"round": str(found["round"]), "accuracy": percent(found["val"][primary])}
    if learned is None:
        return row | dict.fromkeys(("kept", "share", "fewest", "most", "agreement"), MISSING)
    ordered = sorted(learned["classes"].items(), key=lambda each: each[1])
    return row | {
        "kept": whole(learned["kept"]),
        "share": percent(learned["kept"] / learned["images"]),
        "fewest": _count(ordered[0]),
        "most": _count(ordered[-1]),
        "agreement": percent(learned["agreement"]),
    }


def _named(names: Sequence[str]) -> str:
    more = f" and {whole(len(names) - NAMED)} more" if len(names) > NAMED else ""
    return f"{', '.join(names[:NAMED])}{more}"


def _count(each: tuple[str, int]) -> str:
    return f"{each[0]} ({whole(each[1])})"
