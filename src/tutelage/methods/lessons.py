"""What a student can learn from a teacher on unlabeled data."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

from tutelage.models.model import Model
from tutelage.models.preprocess import ImagePreprocess
from tutelage.models.sources import build_encoder
from tutelage.objectives import ImageFeatures, Logits, Objective, Patches

Shapes = Mapping[str, tuple[int, ...]]
"""Of one row of each output of a teacher."""

ImageMaker = Callable[[int, Mapping[str, int]], Objective]
"""Makes an objective on image embeddings, given the width of the student's features and the teacher's widths."""


@dataclass(frozen=True)
class Lesson:
    """What a student learns from a teacher.

    Attributes:
        name: As stages and loss curves write it.
        adapted: Whether the teacher must first be adapted to the task; the pretrained one teaches otherwise.
        outputs: Outputs that the teacher may teach by, the preferred one first; the first that it has is used.
        objective: Makes the loss for a student, given the teacher's output, a temperature, and what makes the loss of
            image embeddings.
        contrasts: Whether images are told apart: from memory banks, or within the batch.
    """

    name: str
    adapted: bool
    outputs: tuple[str, ...]
    objective: Callable[[Model, Mapping[str, int], float, ImageMaker], Objective]
    contrasts: bool = False

    def shapes_of(self, teacher: Model, classes: int) -> Shapes:
        """Return the width of what a built teacher gives, without the rest of its shape."""
        if self.adapted:
            return {"logits": (classes,)}
        name = _taught(self.outputs, teacher.encoder.widths)
        return {name: (teacher.encoder.widths[name],)}

    def shapes(self, teacher: str, *, size: int | None, classes: int, stride: int | None = None) -> Shapes:
        """Return the shape of a row of what a teacher will give, before it is loaded.

        Args:
            teacher: Its name.
            size: Of its input, in pixels.
            classes: That the task tells apart.
            stride: Pixels that a prediction stands for, in a dense task.
        """
        if not self.adapted:
            return _shapes(self.outputs, teacher, size)
        if stride is None:
            return {"logits": (classes,)}
        assert size is not None
        return {"logits": (classes, math.ceil(size / stride), math.ceil(size / stride))}

    def of(
        self, student: Model, shapes: Shapes, *, temperature: float, image: ImageMaker = ImageFeatures
    ) -> Objective:
        """Return the objective for a student and what its teacher gives.

        Args:
            student: That learns.
            shapes: Of what the teacher gives.
            temperature: Of predictions.
            image: Makes the objective on image embeddings; within the batch if not given.
        """
        return self.objective(student, widths_of(shapes), temperature, image)


def widths_of(shapes: Shapes) -> dict[str, int]:
    """Return the width of each output."""
    return {name: shape[0] for name, shape in shapes.items()}


@functools.lru_cache(maxsize=16)
def _shapes(outputs: tuple[str, ...], teacher: str, size: int | None) -> Shapes:
    # Random weights have the same shapes, and need no download.
    encoder = build_encoder(teacher, pretrained=False, size=size).eval()
    name = _taught(outputs, encoder.widths)
    if not isinstance(encoder.preprocess, ImagePreprocess):
        return {name: (encoder.widths[name],)}
    side = encoder.preprocess.size
    with torch.no_grad():
        found = encoder(torch.zeros(1, 3, side, side), frozenset({name})).require(name)
    return {name: tuple(found.shape[1:])}


def _taught(outputs: tuple[str, ...], widths: Mapping[str, int]) -> str:
    return next((name for name in outputs if name in widths), outputs[-1])


LESSONS: dict[str, Lesson] = {
    "logits": Lesson(
        "logits", True, ("logits",), lambda student, widths, temperature, image: Logits(temperature=temperature)
    ),
    "patches": Lesson(
        "patches",
        False,
        ("patches",),
        lambda student, widths, temperature, image: Patches(student.encoder.widths["patches"], widths["patches"]),
    ),
    "image": Lesson(
        "image",
        False,
        ("embedding", "features"),
        lambda student, widths, temperature, image: image(student.encoder.widths["features"], widths),
        contrasts=True,
    ),
}
"""By name; ``logits`` are the task's predictions, the others know nothing of the task."""
