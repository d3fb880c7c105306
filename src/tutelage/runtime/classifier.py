"""A classifier from one ONNX file: images of any sizes in, logits out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tutelage.errors import DataError, ModelError
from tutelage.runtime.model import CLASSIFICATION, ExportedModel, Opened, Picture, takes_images


@dataclass(frozen=True)
class Answer:
    """What became of one image.

    Attributes:
        logits: float32 [C], or ``None`` where the image could not be decoded.
        error: Why it could not be decoded; empty otherwise.
    """

    logits: npt.NDArray[np.float32] | None
    error: str = ""


class Classifier(ExportedModel):
    """A finished classifier, opened from its ONNX file as every :class:`ExportedModel` is."""

    task = CLASSIFICATION
    output = "logits"

    def __init__(self, path: str | Path | Opened, *, int8: bool = False, threads: int | None = None) -> None:
        super().__init__(path, int8=int8, threads=threads)
        outputs = [(each.name, each.shape[-1:]) for each in self._session.get_outputs()]
        if not takes_images(self._session) or [name for name, _ in outputs] != [self.output]:
            raise ModelError(
                f"{self.file}: does not turn images, uint8 [B, H, W, 3], into logits; "
                "give a model that Tutelage exported"
            )
        if outputs[0][1] != [len(self.classes)]:
            raise ModelError(
                f"{self.file}: gives {outputs[0][1]} logits but names {len(self.classes)} classes; export it again"
            )

    def logits(self, images: Sequence[Picture], *, batch_size: int = 64) -> npt.NDArray[np.float32]:
        """Return logits, float32 [N, C], of images of any sizes.

        Raises:
            DataError: An image cannot be decoded.
            ModelError: The file cannot be run.
            RecipeError: ``batch_size`` is below 1.
        """
        rows = np.empty((len(images), len(self.classes)), np.float32)
        for row, answer in enumerate(self.answers(images, batch_size=batch_size)):
            if answer.logits is None:
                raise DataError(answer.error)
            rows[row] = answer.logits
        return rows

    def answers(self, images: Iterable[Picture], *, batch_size: int = 64) -> Iterator[Answer]:
        """Answer a stream of images, one after the other and in their order; holds a few batches at most.

        Raises:
            ModelError: The file cannot be run.
            RecipeError: ``batch_size`` is below 1.
        """
        found = self._found(images, batch_size)
        return (Answer(None, each) if isinstance(each, str) else Answer(each) for each in found)
