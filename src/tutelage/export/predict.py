"""A trained model that answers: images, texts or pairs in, class names with probabilities, or masks, out."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from tutelage.data.images import decode
from tutelage.errors import ModelError, RecipeError
from tutelage.export.graph import Deployable, prepare_images, to_masks
from tutelage.models.model import Model
from tutelage.models.preprocess import Modality, Preprocess, modality_of
from tutelage.runtime.inputs import as_text

ImageInput = str | os.PathLike[str] | bytes | Image.Image | npt.NDArray[np.uint8]
"""One image: a file, an encoded file's bytes, a Pillow image, or pixels uint8 [H, W] or [H, W, 3 or 4]."""


TextInput = str | tuple[str, str]
"""One text, or the two of a pair of sentences."""

Input = ImageInput | TextInput | tuple[ImageInput, TextInput]
"""One sample: an image, a text, or an image with its text, as the model reads them; a string is a file's name where
the model reads images, and a text where it reads texts."""


@dataclass(frozen=True)
class Prediction:
    """What the model says of one sample.

    Attributes:
        label: The most probable class.
        probability: Its probability (softmax).
        top: The most probable classes with their probabilities, in falling order.
    """

    label: str
    probability: float
    top: list[tuple[str, float]]


@dataclass(frozen=True)
class LoadedModel:
    """A finished model, ready to predict (or to segment); :func:`tutelage.load_model` gives it.

    Attributes:
        model: Encoder and head, in eval mode.
        classes: Class names in the order of the logits.
        task: The task that it was made for.
    """

    model: Model
    classes: tuple[str, ...]
    task: str

    @property
    def preprocess(self) -> Preprocess:
        """How a sample becomes the model's input."""
        return self.model.encoder.preprocess

    @property
    def modality(self) -> Modality:
        """What the model reads."""
        return modality_of(self.preprocess)

    def predict(self, given: Input | Sequence[Input], *, top: int = 1, batch_size: int = 64) -> list[Prediction]:
        """Classify one sample or several, of any sizes.

        Args:
            given: Images (files, Pillow images or uint8 pixels), texts, or images with their texts; one, or a list.
            top: How many of the most probable classes to give; all when there are fewer.
            batch_size: How many samples go through the model at once.

        Returns:
            One prediction a sample, in their order.

        Raises:
            DataError: An image cannot be decoded, or a text is none.
            ModelError: The model tells pixels, not images.
            RecipeError: ``top`` or ``batch_size`` is below 1.
        """
        if Deployable(self.model).dense:
            raise ModelError("this model tells the class of every pixel, not of an image; call segment(images)")
        if top < 1:
            raise RecipeError(f"top is {top}; ask for at least 1 class")
        probabilities = self.logits(given, batch_size=batch_size).double().softmax(dim=1)
        values, rows = probabilities.topk(min(top, len(self.classes)), dim=1)
        ranked = [
            [(self.classes[row], value) for row, value in zip(*pair, strict=True)]
            for pair in zip(rows.tolist(), values.tolist(), strict=True)
        ]
        return [Prediction(label=best[0][0], probability=best[0][1], top=best) for best in ranked]

    def segment(
        self, images: ImageInput | Sequence[ImageInput], *, batch_size: int = 8
    ) -> list[npt.NDArray[np.int64]]:
        """Tell the class of every pixel of one image or several, of any sizes.

        Args:
            images: Files, Pillow images or uint8 pixels; one or a sequence.
            batch_size: How many images go through the model at once.

        Returns:
            A mask an image, in their order: class numbers int64 [H, W] at the image's own size.

        Raises:
            DataError: An image cannot be decoded.
            ModelError: The model tells images, not pixels.
            RecipeError: ``batch_size`` is below 1.
        """
        if not Deployable(self.model).dense:
            raise ModelError("this model tells the class of an image, not of its pixels; call predict(images)")
        size = Deployable(self.model).images.size
        return [
            mask.cpu().numpy()
            for logits, shapes in self._scored(images, batch_size)
            for mask in to_masks(logits, shapes, size)
        ]

    def logits(self, given: Input | Sequence[Input], *, batch_size: int = 64) -> Tensor:
        """Return logits on the CPU for one sample or several, of any sizes.

        They are float [N, C]; of a model that tells every pixel [N, C, h, w], at the resolution of its head.

        Raises:
            DataError: An image cannot be decoded, or a text is none.
            RecipeError: ``batch_size`` is below 1.
        """
        batches = [logits.cpu() for logits, _ in self._scored(given, batch_size)]
        return torch.cat(batches) if batches else torch.empty(0, len(self.classes))

    @torch.no_grad()
    def _scored(
        self, given: Input | Sequence[Input], batch_size: int
    ) -> Iterator[tuple[Tensor, list[tuple[int, int]]]]:
        """Yield the logits of each batch, on the model's device, and the (height, width) of its images."""
        if batch_size < 1:
            raise RecipeError(f"batch_size is {batch_size}; it must be at least 1")
        deployable = Deployable(self.model)
        device = next(self.model.parameters()).device
        for batch in _batches(_as_list(given, deployable.modality), batch_size):
            images: list[Tensor] = []
            shapes: list[tuple[int, int]] = []
            for source in batch if deployable.modality != "text" else ():
                pixels = _pixels(source[0] if deployable.modality == "pair" else source)
                shapes.append((pixels.shape[1], pixels.shape[2]))
                images.append(prepare_images(deployable.images, pixels.to(device)))
            inputs: Any = torch.cat(images) if images else None
            if deployable.texts is not None:
                texts = [as_text(source[1] if deployable.modality == "pair" else source) for source in batch]
                tokens = {name: each.to(device) for name, each in deployable.texts(texts).items()}
                inputs = tokens if inputs is None else (inputs, tokens)
            yield deployable.score(inputs), shapes


def _as_list(given: Input | Sequence[Input], modality: Modality) -> Sequence[Any]:
    """Return several samples as they are, and one as a list of it; several are no tuple, which one may be."""
    if modality != "image":
        return [given] if isinstance(given, str | tuple) else given  # type: ignore[return-value]
    single = isinstance(given, str | os.PathLike | bytes | Image.Image)
    if single or (isinstance(given, np.ndarray) and given.ndim < 4):
        return [given]
    return given  # type: ignore[return-value]


def _batches(sources: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    return (sources[start : start + size] for start in range(0, len(sources), size))


def _pixels(source: ImageInput) -> Tensor:
    """Return an image as uint8 [1, H, W, 3]."""
    file = Path(source) if isinstance(source, str | os.PathLike) else source
    return decode(file).permute(1, 2, 0)[None]
