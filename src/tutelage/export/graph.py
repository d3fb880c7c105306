"""The one computation from pixels to logits and masks that prediction, parity checks and exported files share."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tutelage.data.boxes import TIE
from tutelage.errors import ModelError
from tutelage.models.model import Model
from tutelage.models.preprocess import ImagePreprocess, Interpolation
from tutelage.runtime.letterbox import fitted, source_rows


class Deployable(nn.Module):
    """A model with everything before it: images uint8 [B, H, W, 3] of any size in, logits out.

    The center square of ``preprocess.crop`` times the short side is cut (or nothing, where ``preprocess.fit`` is
    ``letterbox``), put on the 0..1 scale, resized with antialiasing in float32 (to fit, and padded), normalized,
    encoded and given to the head.

    Args:
        model: An encoder of images and its head; kept, not copied.

    Raises:
        ModelError: The model does not read images, or tells the pixels of a part of them.
    """

    def __init__(self, model: Model) -> None:
        super().__init__()
        preprocess = model.encoder.preprocess
        if not isinstance(preprocess, ImagePreprocess):
            raise ModelError(f"{model.encoder.name} reads text; only a model of images alone can be used here")
        self.model = model
        if self.dense and preprocess.fit != "letterbox":
            raise ModelError(
                f"{model.encoder.name} tells every pixel but sees the center of an image; "
                "give its preprocess fit='letterbox'"
            )

    @property
    def preprocess(self) -> ImagePreprocess:
        """The model's preprocess."""
        preprocess = self.model.encoder.preprocess
        assert isinstance(preprocess, ImagePreprocess)
        return preprocess

    @property
    def dense(self) -> bool:
        """Whether it tells every pixel: its logits are [B, C, h, w], and masks can be made of them."""
        return self.model.head.reads == "patches"

    def prepare(self, images: Tensor) -> Tensor:
        """Return the model's normalized inputs, float32 [B, 3, size, size], for images uint8 [B, H, W, 3].

        Raises:
            ModelError: The images are not uint8 [B, H, W, 3].
        """
        if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[3] != 3 or 0 in images.shape[1:3]:
            raise ModelError(f"images must be uint8 [B, H, W, 3], not {images.dtype} {list(images.shape)}")
        if self.preprocess.fit == "letterbox":
            views = images.permute(0, 3, 1, 2).float() / 255.0
            return self.preprocess(letterboxed(views, self.preprocess.size, self.preprocess.interpolation))
        side = center_side(images.shape[1], images.shape[2], self.preprocess.crop)
        top, left = (images.shape[1] - side) // 2, (images.shape[2] - side) // 2
        square = images[:, top : top + side, left : left + side].permute(0, 3, 1, 2)
        return self.preprocess(square.float() / 255.0)

    def score(self, inputs: Tensor) -> Tensor:
        """Return logits, [B, C] or of a dense model [B, C, h, w], for normalized inputs, float [B, 3, size, size]."""
        head = self.model.head
        logits: Tensor = head(self.model.encoder.encode(inputs, {head.reads}).require(head.reads))
        return logits

    def forward(self, images: Tensor) -> Tensor:
        """Return logits for images uint8 [B, H, W, 3]."""
        return self.score(self.prepare(images))


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
