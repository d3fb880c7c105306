"""A classifier from one ONNX file: images or texts of any sizes in, logits out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tutelage.errors import DataError, ModelError
from tutelage.runtime.batches import Picture
from tutelage.runtime.inputs import Text
from tutelage.runtime.model import CLASSIFICATION, ExportedModel, Opened

Given = Picture | Text | tuple[Picture, Text]
"""One sample: an image, a text or an image with its text, as the model's ``modality`` says."""


@dataclass(frozen=True)
class Answer:
    """What became of one sample.

    Attributes:
        logits: float32 [C], or ``None`` where the sample could not be read.
        error: Why it could not be read; empty otherwise.
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
        if [name for name, _ in outputs] != [self.output]:
            self._refuse()
        if outputs[0][1] != [len(self.classes)]:
            raise ModelError(
                f"{self.file}: gives {outputs[0][1]} logits but names {len(self.classes)} classes; export it again"
            )

    def logits(self, given: Sequence[Given], *, batch_size: int = 64) -> npt.NDArray[np.float32]:
        """Return logits, float32 [N, C], of samples of any sizes.

        Raises:
            DataError: A sample cannot be read.
            ModelError: The file cannot be run.
            RecipeError: ``batch_size`` is below 1.
        """
        rows = np.empty((len(given), len(self.classes)), np.float32)
        for row, answer in enumerate(self.answers(given, batch_size=batch_size)):
            if answer.logits is None:
                raise DataError(answer.error)
            rows[row] = answer.logits
        return rows

    def answers(self, given: Iterable[Given], *, batch_size: int = 64) -> Iterator[Answer]:
        """Answer a stream of samples, one after the other and in their order; holds a few batches at most.

        Raises:
            ModelError: The file cannot be run.
            RecipeError: ``batch_size`` is below 1.
        """
        found = self._found(given, batch_size)
        return (Answer(None, each) if isinstance(each, str) else Answer(each) for each in found)
