"""What student and teacher make of the same test images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from tutelage.report.confusion import IntArray
from tutelage.report.finished import Finished
from tutelage.report.numbers import percent, whole
from tutelage.report.tasks import noun


@dataclass(frozen=True)
class Agreement:
    """Test images by who is right.

    Attributes:
        both: Both are right.
        student: The student alone.
        teacher: The teacher alone.
        same: Both are wrong, with the same answer.
        different: Both are wrong, with different answers.
    """

    both: int
    student: int
    teacher: int
    same: int
    different: int

    @property
    def images(self) -> int:
        """All of them."""
        return self.both + self.student + self.teacher + self.same + self.different


def compare(targets: IntArray, student: IntArray, teacher: IntArray) -> Agreement:
    """Return how often two classifiers are right together, alone, and not at all; each argument is [N]."""
    ours, theirs = student == targets, teacher == targets
    wrong = ~ours & ~theirs
    return Agreement(
        both=int(np.sum(ours & theirs)),
        student=int(np.sum(ours & ~theirs)),
        teacher=int(np.sum(~ours & theirs)),
        same=int(np.sum(wrong & (student == teacher))),
        different=int(np.sum(wrong & (student != teacher))),
    )


def agreement(run: Finished) -> Mapping[str, Any] | None:
    """Return the table and a sentence; ``None`` without logits of both."""
    predictions, adapted = run.predictions.get("evaluate"), run.stages.get("adapt")
    if predictions is None or adapted is None or run.dense:
        return None
    targets = predictions["targets"].numpy()
    student, teacher = (predictions[name].argmax(1).numpy() for name in ("student", adapted["results"]["chosen"]))
    found = compare(targets, student, teacher)
    counts = {
        "Both right": found.both,
        "Only the student right": found.student,
        "Only the teacher right": found.teacher,
        "Both wrong, with the same answer": found.same,
        "Both wrong, with different answers": found.different,
    }
    rows = [(label, whole(count), percent(count / found.images)) for label, count in counts.items()]
    return {"rows": rows, "sentence": in_words(found, noun(run.data))}


def in_words(found: Agreement, one: str = "image") -> str:
    """Return how far a student follows its teacher, in errors too; ``one`` is what a sample is called."""
    same = percent((found.both + found.same) / found.images)
    sentence = f"Student and teacher give the same answer on {same} of the test {one}s."
    errors = found.student + found.same + found.different
    if not errors:
        return f"{sentence} The teacher is wrong on none, the student on {found.teacher:,}."
    return (
        f"{sentence} The teacher is wrong on {errors:,}: the student gets {found.student:,} of them right and gives "
        f"the same wrong answer on {found.same:,}. On another {found.teacher:,} the student alone is wrong."
    )
