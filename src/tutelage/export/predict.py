"""A trained model that answers: files, pictures or pixels in, class names with probabilities, or masks, out."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from tutelage.data.images import decode
from tutelage.errors import ModelError, RecipeError
from tutelage.export.graph import Deployable, to_masks
from tutelage.models.model import Model
from tutelage.models.preprocess import ImagePreprocess

ImageInput = str | os.PathLike[str] | bytes | Image.Image | npt.NDArray[np.uint8]
"""One image: a file, an encoded file's bytes, a Pillow image, or pixels uint8 [H, W] or [H, W, 3 or 4]."""


@dataclass(frozen=True)
class Prediction:
    """What the model says of one image.

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
    def preprocess(self) -> ImagePreprocess:
        """How an image becomes the model's input."""
        return Deployable(self.model).preprocess

    def predict(
        self, images: ImageInput | Sequence[ImageInput], *, top: int = 1, batch_size: int = 64
    ) -> list[Prediction]:
        """Classify one image or several, of any sizes.

        Args:
            images: Files, Pillow images or uint8 pixels; one or a sequence.
            top: How many of the most probable classes to give; all when there are fewer.
            batch_size: How many images go through the model at once.

        Returns:
            One prediction an image, in their order.

        Raises:
            DataError: An image cannot be decoded.
            ModelError: The model tells pixels, not images.
            RecipeError: ``top`` or ``batch_size`` is below 1.
        """
        if Deployable(self.model).dense:
            raise ModelError("this model tells the class of every pixel, not of an image; call segment(images)")
        if top < 1:
            raise RecipeError(f"top is {top}; ask for at least 1 class")
        probabilities = self.logits(images, batch_size=batch_size).double().softmax(dim=1)
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
        return [
            mask.cpu().numpy()
            for logits, shapes in self._scored(images, batch_size)
            for mask in to_masks(logits, shapes, self.preprocess.size)
        ]

    def logits(self, images: ImageInput | Sequence[ImageInput], *, batch_size: int = 64) -> Tensor:
        """Return logits on the CPU for one image or several, of any sizes.

        They are float [N, C]; of a model that tells every pixel [N, C, h, w], at the resolution of its head.

        Raises:
            DataError: An image cannot be decoded.
            RecipeError: ``batch_size`` is below 1.
        """
        batches = [logits.cpu() for logits, _ in self._scored(images, batch_size)]
        return torch.cat(batches) if batches else torch.empty(0, len(self.classes))

    @torch.no_grad()
    def _scored(
        self, images: ImageInput | Sequence[ImageInput], batch_size: int
    ) -> Iterator[tuple[Tensor, list[tuple[int, int]]]]:
        """Yield the logits of each batch, on the model's device, and the (height, width) of its images."""
        if batch_size < 1:
            raise RecipeError(f"batch_size is {batch_size}; it must be at least 1")
        deployable = Deployable(self.model)
        device = next(self.model.parameters()).device
        for batch in _batches(_as_list(images), batch_size):
            inputs: list[Tensor] = []
            shapes: list[tuple[int, int]] = []
            for source in batch:
                pixels = _pixels(source)
                shapes.append((pixels.shape[1], pixels.shape[2]))
                inputs.append(deployable.prepare(pixels.to(device)))
            yield deployable.score(torch.cat(inputs)), shapes


def _as_list(images: ImageInput | Sequence[ImageInput]) -> Sequence[ImageInput]:
    single = isinstance(images, str | os.PathLike | bytes | Image.Image)
    if single or (isinstance(images, np.ndarray) and images.ndim < 4):
        return [images]  # type: ignore[list-item]
    return images  # type: ignore[return-value]


def _batches(sources: Sequence[ImageInput], size: int) -> Iterator[Sequence[ImageInput]]:
    return (sources[start : start + size] for start in range(0, len(sources), size))


def _pixels(source: ImageInput) -> Tensor:
    """Return an image as uint8 [1, H, W, 3]."""
    file = Path(source) if isinstance(source, str | os.PathLike) else source
    return decode(file).permute(1, 2, 0)[None]
