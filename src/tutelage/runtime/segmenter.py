"""A segmenter from one ONNX file: images of any sizes in, the class of every pixel out."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tutelage.errors import DataError, ModelError
from tutelage.runtime.batches import Picture
from tutelage.runtime.model import SEGMENTATION, ExportedModel, Opened, open_file
from tutelage.runtime.palette import Color, default_palette

Mask = npt.NDArray[Any]
"""Class numbers [H, W], uint8 for up to 255 classes and else int32."""

MOST_LOGITS = 256 * 2**20
"""Bytes of logits at the input's resolution that one step may hold."""


@dataclass(frozen=True)
class MaskAnswer:
    """What became of one image.

    Attributes:
        mask: Class numbers [H, W] at the image's own size, or ``None`` where the image could not be decoded.
        error: Why it could not be decoded; empty otherwise.
    """

    mask: Mask | None
    error: str = ""


class Segmenter(ExportedModel):
    """A finished segmentation model, opened from its ONNX file as every :class:`ExportedModel` is.

    Attributes:
        palette: A color for each class, for masks that are shown.
    """

    task = SEGMENTATION
    output = "mask"

    def __init__(self, path: str | Path | Opened, *, int8: bool = False, threads: int | None = None) -> None:
        opened = path if isinstance(path, Opened) else open_file(path, int8=int8, threads=threads)
        super().__init__(opened)
        outputs = {each.name: each.shape for each in self._session.get_outputs()}
        size = self.preprocess.get("size")
        if self.modality != "image" or set(outputs) != {"mask", "logits"} or not isinstance(size, int):
            self._refuse()
        if outputs["logits"][1] != len(self.classes):
            raise ModelError(
                f"{self.file}: gives {outputs['logits'][1]} logits but names {len(self.classes)} classes; "
                "export it again"
            )
        self.palette = _palette(self.file, opened.metadata, len(self.classes))
        self._together = max(1, MOST_LOGITS // (4 * len(self.classes) * size**2))

    def masks(self, images: Sequence[Picture], *, batch_size: int = 16) -> list[Mask]:
        """Return the class of every pixel of each image, [H, W] at its own size.

        Raises:
            DataError: An image cannot be decoded.
            ModelError: The file cannot be run.
            RecipeError: ``batch_size`` is below 1.
        """
        found = []
        for answer in self.answers(images, batch_size=batch_size):
            if answer.mask is None:
                raise DataError(answer.error)
            found.append(answer.mask)
        return found

    def answers(self, images: Iterable[Picture], *, batch_size: int = 16) -> Iterator[MaskAnswer]:
        """Answer a stream of images, one after the other and in their order; holds a few batches at most.

        Fewer images than ``batch_size`` go through the model together where their logits would take much memory.

        Raises:
            ModelError: The file cannot be run.
            RecipeError: ``batch_size`` is below 1.
        """
        found = self._found(images, min(batch_size, self._together))
        return (MaskAnswer(None, each) if isinstance(each, str) else MaskAnswer(each) for each in found)


def _palette(file: Path, metadata: Mapping[str, str], classes: int) -> tuple[Color, ...]:
    if "palette" not in metadata:
        return tuple(default_palette(classes))
    try:
        colors = np.array(json.loads(metadata["palette"]), dtype=np.int64)
    except (ValueError, TypeError, OverflowError):
        colors = np.empty(0, np.int64)
    if colors.shape != (classes, 3) or colors.min() < 0 or colors.max() > 255:
        raise ModelError(f"{file}: its palette is damaged; copy or export it again")
    return tuple((int(red), int(green), int(blue)) for red, green, blue in colors)
