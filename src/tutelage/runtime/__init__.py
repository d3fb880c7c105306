"""An exported model that answers: needs onnxruntime, numpy, Pillow and (for texts) tokenizers alone, never torch."""

from __future__ import annotations

from pathlib import Path

from tutelage.errors import ModelError
from tutelage.runtime.classifier import Answer, Classifier
from tutelage.runtime.model import CLASSIFICATION, SEGMENTATION, open_file
from tutelage.runtime.probabilities import softmax
from tutelage.runtime.segmenter import MaskAnswer, Segmenter

KINDS: dict[str, type[Classifier] | type[Segmenter]] = {CLASSIFICATION: Classifier, SEGMENTATION: Segmenter}
"""What answers for each task."""


def open_model(path: str | Path, *, int8: bool = False, threads: int | None = None) -> Classifier | Segmenter:
    """Open a finished model by what it was made for, which its file says.

    Args:
        path: A run folder, its ``model/`` folder, or an ``.onnx`` file.
        int8: Whether the quantized file is wanted.
        threads: Threads for decoding and for the model; one a core where not given.

    Raises:
        ModelError: There is no such file, it is damaged, or it was not exported by Tutelage.
        RecipeError: ``threads`` is below 1.
    """
    opened = open_file(path, int8=int8, threads=threads)
    if opened.task not in KINDS:
        raise ModelError(f"{opened.file}: was made for {opened.task!r}, which this Tutelage does not know; update it")
    return KINDS[opened.task](opened)


__all__ = ["Answer", "Classifier", "MaskAnswer", "Segmenter", "open_model", "softmax"]
