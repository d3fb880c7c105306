"""The one computation from what people have to logits and masks that prediction, parity checks and files share."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tutelage.data.boxes import TIE
from tutelage.errors import ModelError
from tutelage.models.model import Model
from tutelage.models.preprocess import (
    ClipTextPreprocess,
    ImagePreprocess,
    Interpolation,
    Modality,
    PairInputs,
    PairPreprocess,
    Preprocess,
    TextPreprocess,
    modality_of,
)
from tutelage.runtime.letterbox import fitted, source_rows
from tutelage.runtime.texts import paired

VIEWS = "views"
"""The input of :class:`Core` that holds images."""

EXAMPLE = ("one", "two and three")
"""Texts that a trace is made with."""

Raw = Tensor | Sequence[str] | PairInputs
"""Images uint8 [B, H, W, 3] of any size, texts, or as many of both."""


class Deployable(nn.Module):
    """A model with everything before it: images, texts or both in, as :data:`Raw` says, logits out.

    Of an image the center square of ``preprocess.crop`` times the short side is cut (or nothing, where
    ``preprocess.fit`` is ``letterbox``), put on the 0..1 scale, resized with antialiasing in float32 (to fit, and
    padded) and normalized; texts become tokens. Then they are encoded and given to the head.

    Args:
        model: An encoder and its head; kept, not copied.

    Raises:
        ModelError: The model tells the pixels of a part of an image.
    """

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.model = model
        if self.dense and self.images.fit != "letterbox":
            raise ModelError(
                f"{model.encoder.name} tells every pixel but sees the center of an image; "
                "give its preprocess fit='letterbox'"
            )

    @property
    def preprocess(self) -> Preprocess:
        """The model's preprocess."""
        return self.model.encoder.preprocess

    @property
    def modality(self) -> Modality:
        """What the model reads."""
        return modality_of(self.preprocess)

    @property
    def images(self) -> ImagePreprocess:
        """How the model sees images.

        Raises:
            ModelError: It reads none.
        """
        images = self.preprocess.image if isinstance(self.preprocess, PairPreprocess) else self.preprocess
        if not isinstance(images, ImagePreprocess):
            raise ModelError(f"{self.model.encoder.name} reads texts; only a model of images can be used here")
        return images

    @property
    def texts(self) -> TextPreprocess | ClipTextPreprocess | None:
        """How the model reads texts; ``None`` for a model of images alone."""
        texts = self.preprocess.text if isinstance(self.preprocess, PairPreprocess) else self.preprocess
        return None if isinstance(texts, ImagePreprocess) else texts

    @property
    def dense(self) -> bool:
        """Whether it tells every pixel: its logits are [B, C, h, w], and masks can be made of them."""
        return self.model.head.reads == "patches"

    def prepare(self, raw: Raw) -> Any:
        """Return the encoder's inputs for what is raw: normalized images, tokens by name, or both.

        Raises:
            ModelError: Images are not uint8 [B, H, W, 3].
        """
        if isinstance(raw, PairInputs):
            assert self.texts is not None
            return prepare_images(self.images, raw.image), self.texts(raw.text)
        if isinstance(raw, Tensor):
            return prepare_images(self.images, raw)
        assert self.texts is not None
        return self.texts(raw)

    def score(self, inputs: Any) -> Tensor:
        """Return logits, [B, C] or of a dense model [B, C, h, w], for what :meth:`prepare` returns."""
        head = self.model.head
        logits: Tensor = head(self.model.encoder.encode(inputs, {head.reads}).require(head.reads))
        return logits

    def forward(self, raw: Raw) -> Tensor:
        """Return logits for what is raw."""
        return self.score(self.prepare(raw))


class Core(nn.Module):
    """From a model's views, float [B, 3, size, size] in 0..1, from tokens by name, or from both, to its logits.

    Args:
        deployable: The model.
    """

    def __init__(self, deployable: Deployable) -> None:
        super().__init__()
        self.deployable = deployable

    def forward(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """Return logits."""
        tokens = {name: each for name, each in inputs.items() if name != VIEWS}
        texts = self.deployable.texts
        if isinstance(texts, ClipTextPreprocess):
            # CLIP reads rows of its full length alone.
            tokens = {name: F.pad(each, (0, texts.length - each.shape[1])) for name, each in tokens.items()}
        if VIEWS not in inputs:
            return self.deployable.score(tokens)
        images = self.deployable.images(inputs[VIEWS])
        return self.deployable.score((images, tokens) if tokens else images)


def example_of(deployable: Deployable) -> dict[str, Tensor]:
    """Return inputs for :class:`Core` that a trace can be made with: of some samples, not all of one length."""
    found = {}
    if deployable.modality != "text":
        side = deployable.images.size
        found[VIEWS] = torch.zeros(len(EXAMPLE), 3, side, side)
    if deployable.texts is not None:
        # Pairs of sentences, which any template takes.
        tokens = deployable.texts([paired(each, each) for each in EXAMPLE])
        # What CLIP pads with zeros is as long as it can be, which a trace would take for the only length.
        used = tokens["input_ids"].ne(0).any(0) | ("attention_mask" in tokens)
        found |= {name: values[:, used] for name, values in tokens.items()}
    return found


def free_axes(deployable: Deployable, name: str) -> dict[int, Any]:
    """Return the axes of an input of :class:`Core` that may have any length, for a trace."""
    batch = {0: torch.export.Dim("batch")}
    if name == VIEWS:
        return batch
    assert deployable.texts is not None
    return {**batch, 1: torch.export.Dim("length", max=deployable.texts.length)}


def prepare_images(preprocess: ImagePreprocess, images: Tensor) -> Tensor:
    """Return a model's normalized images, float32 [B, 3, size, size], for images uint8 [B, H, W, 3].

    Raises:
        ModelError: The images are not uint8 [B, H, W, 3].
    """
    if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[3] != 3 or 0 in images.shape[1:3]:
        raise ModelError(f"images must be uint8 [B, H, W, 3], not {images.dtype} {list(images.shape)}")
    if preprocess.fit == "letterbox":
        views = images.permute(0, 3, 1, 2).float() / 255.0
        return preprocess(letterboxed(views, preprocess.size, preprocess.interpolation))
    side = center_side(images.shape[1], images.shape[2], preprocess.crop)
    top, left = (images.shape[1] - side) // 2, (images.shape[2] - side) // 2
    square = images[:, top : top + side, left : left + side].permute(0, 3, 1, 2)
    return preprocess(square.float() / 255.0)


def center_side(height: int, width: int, crop: float) -> int:
    """Return the side of the center square that evaluation keeps, in pixels; at least 1."""
    return max(1, math.floor(min(height, width) * crop + 0.5 + TIE))


def letterboxed(views: Tensor, size: int, interpolation: Interpolation = "bilinear") -> Tensor:
    """Return all of each view at the top left of a square, its long side that of the square, the rest 0.

    Args:
        views: float [B, 3, H, W] in 0..1.
        size: Side of the square, in pixels.
        interpolation: How views are resized, antialiased.

    Returns:
        float [B, 3, size, size] in 0..1.
    """
    height, width = fitted(views.shape[2], views.shape[3], size)
    if views.shape[2:] != (height, width):
        views = F.interpolate(views, (height, width), mode=interpolation, antialias=True, align_corners=False)
        # Bicubic overshoots; an 8-bit image could not.
        views = views.clamp(0.0, 1.0)
    return F.pad(views, (0, size - width, 0, size - height))


def upsampled(logits: Tensor, size: int) -> Tensor:
    """Return logits [B, C, h, w] at the resolution of the model's input, [B, C, size, size]."""
    return F.interpolate(logits, (size, size), mode="bilinear", align_corners=False)


def restored(square: Tensor, height: int, width: int) -> Tensor:
    """Return the mask of an image of (height, width) from that of its square, [size, size], by nearest neighbor."""
    rows, columns = fitted(height, width, square.shape[0])
    down = torch.from_numpy(source_rows(height, rows)).to(square.device)
    across = torch.from_numpy(source_rows(width, columns)).to(square.device)
    return square[down][:, across]


def to_masks(logits: Tensor, shapes: Sequence[tuple[int, int]], size: int) -> list[Tensor]:
    """Return the most probable class of every pixel of each image; the reference for every exported form.

    Logits are upsampled to the model's input, the class is told there, and brought to the image's own size.

    Args:
        logits: [B, C, h, w].
        shapes: (height, width) of each image, in pixels.
        size: Side of the model's input, in pixels.

    Returns:
        B masks, class numbers int64 [H, W].
    """
    # One by one: upsampled logits of many classes are large.
    return [
        restored(upsampled(row[None], size).argmax(1)[0], *shape) for row, shape in zip(logits, shapes, strict=True)
    ]


def inference_copy(model: Model) -> Model:
    """Return a copy for exact inference: on the CPU, in float32, in eval mode; the original is left as it is.

    Accelerators may round products to fewer bits, which would hide or fake a difference between two graphs.
    """
    return copy.deepcopy(model).cpu().float().eval().requires_grad_(False)
