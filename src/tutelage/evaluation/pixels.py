"""What a model makes of every pixel: masks at the images' own size, and what is counted of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from tutelage.data.images import decode
from tutelage.data.masks import decode_mask
from tutelage.data.samples import ImageSource, Samples
from tutelage.errors import DataError
from tutelage.export.graph import letterboxed, to_masks, upsampled
from tutelage.ledger import Cost, counted
from tutelage.models.model import Model
from tutelage.runtime.letterbox import source_rows
from tutelage.tasks.segmentation import pixel_counts

BATCH = 16
"""Squares that go through a model together."""

OVERLAP = 1 / 3
"""Share of a window's side that it has in common with the next one, at least."""

Scores = Callable[[Tensor], Tensor]
"""Logits [B, C, h, w] of raw squares [B, 3, size, size]."""


def count_pixels(
    model: Model, samples: Samples, *, classes: int, size: int, window: bool = False, cost: Cost | None = None
) -> Tensor:
    """Count how many pixels of each image a model gets right, class by class, at the images' own sizes.

    Args:
        model: On its device; its mode is restored.
        samples: Images with masks.
        classes: How many there are.
        size: Side of the square that the model sees, in pixels.
        window: As in :func:`predict_masks`.
        cost: Gets the images and FLOPs.

    Returns:
        Pixels in intersection, prediction and truth, int64 [N, C, 3].

    Raises:
        DataError: The samples have no images or masks.
    """
    if samples.images is None or samples.masks is None:
        raise DataError(f"{samples.origin}: images with masks are needed here")
    found = predict_masks(model, samples.images, size=size, window=window, cost=cost)
    rows = [pixel_counts(mask, decode_mask(truth), classes) for mask, truth in zip(found, samples.masks, strict=True)]
    return torch.stack(rows) if rows else torch.zeros(0, classes, 3, dtype=torch.int64)


@torch.no_grad()
def predict_masks(
    model: Model, images: Sequence[ImageSource], *, size: int, window: bool = False, cost: Cost | None = None
) -> Iterator[Tensor]:
    """Yield the class of every pixel of each image, int64 [H, W] on the CPU, in order.

    By default an image is seen whole, as the exported model sees it: its long side is resized to ``size``. With
    ``window`` its short side is, and a square window is moved over it; where windows overlap, their probabilities are
    averaged. The class is decided at that resolution and brought to the image's own by nearest neighbor.

    Args:
        model: On its device; its mode is restored.
        images: What to decode.
        size: Side of the square that the model sees, in pixels.
        window: Whether windows are moved over the image.
        cost: Gets the images and FLOPs.
    """
    device, training = next(model.parameters()).device, model.training
    model.eval()
    flops = 0.0

    def scores(squares: Tensor) -> Tensor:
        """Return logits at the head's resolution, [B, C, h, w]."""
        nonlocal flops
        moved = squares.to(device)
        logits: Tensor
        if flops:
            logits = model(moved, {"logits"}, size=size).require("logits")
        else:  # every square is the same work
            outputs, spent = counted(lambda: model(moved, {"logits"}, size=size))
            logits, flops = outputs.require("logits"), spent / len(squares)
        if cost is not None:
            cost.flops += flops * len(squares)
        return logits.float()

    try:
        with ThreadPoolExecutor(min(8, torch.get_num_threads() + 1), "decode") as pool:
            for start in range(0, len(images), BATCH):
                pictures = list(pool.map(decode, images[start : start + BATCH]))
                if window:
                    yield from (_windowed(picture, size, scores) for picture in pictures)
                else:
                    squares = torch.cat([letterboxed(_unit(picture), size) for picture in pictures])
                    shapes = [(picture.shape[1], picture.shape[2]) for picture in pictures]
                    yield from (mask.cpu() for mask in to_masks(scores(squares), shapes, size))
                if cost is not None:
                    cost.images += len(pictures)
    finally:
        model.train(training)


def nearest(mask: Tensor, height: int, width: int) -> Tensor:
    """Return a mask [h, w] at another size, by nearest neighbor."""
    rows, columns = source_rows(height, mask.shape[0]), source_rows(width, mask.shape[1])
    return mask[torch.from_numpy(rows)][:, torch.from_numpy(columns)]


def _windowed(picture: Tensor, size: int, scores: Scores) -> Tensor:
    """Return the mask of an image over which a window is moved, int64 [H, W]."""
    height, width = picture.shape[1:]
    scale = size / min(height, width)
    shape = max(size, round(height * scale)), max(size, round(width * scale))
    inside = F.interpolate(_unit(picture), shape, mode="bilinear", align_corners=False, antialias=True)
    total: Tensor | None = None
    for top in window_starts(shape[0], size):
        for left in window_starts(shape[1], size):
            found = upsampled(scores(inside[..., top : top + size, left : left + size]), size)[0].softmax(0).cpu()
            total = torch.zeros(len(found), *shape) if total is None else total
            total[:, top : top + size, left : left + size] += found
    assert total is not None
    # Where more windows overlap the sums are larger for all classes alike.
    return nearest(total.argmax(0), height, width)


def window_starts(extent: int, size: int) -> list[int]:
    """Return where windows begin that cover an extent evenly, each with a third or more in common with the next."""
    if extent <= size:
        return [0]
    steps = int(np.ceil((extent - size) / (size * (1 - OVERLAP))))
    return [round(step * (extent - size) / steps) for step in range(steps + 1)]


def _unit(picture: Tensor) -> Tensor:
    """Return an image uint8 [3, H, W] as float32 [1, 3, H, W] in 0..1."""
    return picture[None].float() / 255.0
