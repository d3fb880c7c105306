"""The one computation from pixels to logits that prediction, parity checks and exported files share."""

from __future__ import annotations

import copy
import math

import torch
from torch import Tensor, nn

from tutelage.errors import ModelError
from tutelage.models.model import Model
from tutelage.models.preprocess import ImagePreprocess
from tutelage.views.render import TIE


class Deployable(nn.Module):
    """A model with everything before it: images uint8 [B, H, W, 3] of any size in, logits out.

    The center square of ``preprocess.crop`` times the short side is cut, put on the 0..1 scale, resized with
    antialiasing in float32, normalized, encoded and given to the head.

    Args:
        model: An encoder of images and its head; kept, not copied.

    Raises:
        ModelError: The model does not read images.
    """

    def __init__(self, model: Model) -> None:
        super().__init__()
        if not isinstance(model.encoder.preprocess, ImagePreprocess):
            raise ModelError(f"{model.encoder.name} reads text; only a model of images alone can be used here")
        self.model = model

    @property
    def preprocess(self) -> ImagePreprocess:
        """The model's preprocess."""
        preprocess = self.model.encoder.preprocess
        assert isinstance(preprocess, ImagePreprocess)
        return preprocess

    def prepare(self, images: Tensor) -> Tensor:
        """Return the model's normalized inputs, float32 [B, 3, size, size], for images uint8 [B, H, W, 3].

        Raises:
            ModelError: The images are not uint8 [B, H, W, 3].
        """
        if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[3] != 3 or 0 in images.shape[1:3]:
            raise ModelError(f"images must be uint8 [B, H, W, 3], not {images.dtype} {list(images.shape)}")
        side = center_side(images.shape[1], images.shape[2], self.preprocess.crop)
        top, left = (images.shape[1] - side) // 2, (images.shape[2] - side) // 2
        square = images[:, top : top + side, left : left + side].permute(0, 3, 1, 2)
        return self.preprocess(square.float() / 255.0)

    def score(self, inputs: Tensor) -> Tensor:
        """Return logits for normalized inputs, float [B, 3, size, size]."""
        head = self.model.head
        logits: Tensor = head(self.model.encoder.encode(inputs, {head.reads}).require(head.reads))
        return logits

    def forward(self, images: Tensor) -> Tensor:
        """Return logits for images uint8 [B, H, W, 3]."""
        return self.score(self.prepare(images))


def center_side(height: int, width: int, crop: float) -> int:
    """Return the side of the center square that evaluation keeps, in pixels; at least 1."""
    return max(1, math.floor(min(height, width) * crop + 0.5 + TIE))


def inference_copy(model: Model) -> Model:
    """Return a copy for exact inference: on the CPU, in float32, in eval mode; the original is left as it is.

    Accelerators may round products to fewer bits, which would hide or fake a difference between two graphs.
    """
    return copy.deepcopy(model).cpu().float().eval().requires_grad_(False)
