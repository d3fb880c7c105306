"""The student's most confident mistakes, kept small enough to look at."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tutelage.data.samples import Samples
from tutelage.data.thumbnails import thumbnail
from tutelage.errors import DataError
from tutelage.run import write_json, write_whole
from tutelage.runtime.texts import parts

MOST = 24
"""How many mistakes are kept."""

SIDE = 160
"""Long side of a kept picture, in pixels; smaller images are kept as they are."""

CHARACTERS = 10_000
"""Most of a text that is kept."""

MISTAKES = "mistakes.json"


def most_confident(logits: Tensor, targets: Tensor, most: int = MOST) -> list[int]:
    """Return the rows of wrong predictions, the most probable first; the earlier row first where they are level.

    Args:
        logits: [N, C].
        targets: Class numbers [N].
        most: How many rows at most.
    """
    probability, predicted = logits.softmax(1).max(1)
    wrong = (predicted != targets).nonzero().flatten()
    order = probability[wrong].argsort(descending=True, stable=True)
    rows: list[int] = wrong[order[:most]].tolist()
    return rows


def write_mistakes(folder: Path, samples: Samples, student: Tensor, teacher: Tensor | None) -> None:
    """Write ``mistakes.json``, and pictures of images, of the student's most confident mistakes.

    Each mistake has ``id``, ``true`` and ``predicted`` (class names), ``probability`` (of the prediction),
    ``true_probability``, ``teacher`` (its answer, or ``null`` without a teacher), ``picture`` (a file beside it, or
    ``null`` for texts alone) and, where it has some, ``texts``: one, or two of a pair of sentences, long ones cut.
    Images that can no longer be decoded are left out.

    Args:
        folder: Where.
        samples: The labeled images that were predicted.
        student: The student's logits [N, C].
        teacher: The teacher's, or ``None``.

    Raises:
        RunError: A file cannot be written.
    """
    targets = torch.from_numpy(samples.labels())
    probabilities = student.softmax(1)
    mistakes: list[dict[str, Any]] = []
    for row in most_confident(student, targets):
        picture = None
        if samples.images is not None:
            try:
                content, ending = thumbnail(samples.images[row], SIDE)
            except DataError:
                continue
            picture = f"mistake-{len(mistakes) + 1:02d}.{ending}"
            write_whole(folder / picture, content)
        texts = () if samples.texts is None else parts(samples.texts[row])
        true, predicted = int(targets[row]), int(probabilities[row].argmax())
        mistakes.append(
            {
                "id": samples.ids[row],
                "true": samples.classes[true],
                "predicted": samples.classes[predicted],
                "probability": float(probabilities[row, predicted]),
                "true_probability": float(probabilities[row, true]),
                "teacher": None if teacher is None else samples.classes[int(teacher[row].argmax())],
                "picture": picture,
                **({"texts": [text[:CHARACTERS] for text in texts if text is not None]} if texts else {}),
            }
        )
    write_json(folder / MISTAKES, {"mistakes": mistakes})
