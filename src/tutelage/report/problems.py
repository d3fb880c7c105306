"""What was wrong with the data, as the page shows it."""

from __future__ import annotations

from typing import Any

from tutelage.data.problems import KINDS
from tutelage.report.finished import Finished
from tutelage.report.numbers import whole

PARTS = {
    "labeled": "Labeled data",
    "validation": "Validation data",
    "test": "Test data",
    "transfer": "Unlabeled data",
    "unlabeled": "Unlabeled data",
}


def problems(run: Finished) -> list[dict[str, Any]]:
    """Return, for each part of the data that has any, its problems by kind and the examples that were kept."""
    shown = []
    for part, found in (run.data.get("problems") or {}).items():
        total = sum(found["counts"].values())
        if not total:
            continue
        examples = [(each["where"], each["kind"], each.get("detail", "")) for each in found["examples"]]
        shown.append(
            {
                "part": PARTS.get(part, part),
                "rows": [(KINDS.get(kind, kind), whole(count)) for kind, count in found["counts"].items()],
                "examples": examples,
                "listed": "Where" if len(examples) == total else f"Where: the first {whole(len(examples))}",
            }
        )
    return shown
