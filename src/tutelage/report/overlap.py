"""How far predicted masks and true ones overlap, and how sure that is from so many images."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from tutelage.report.confusion import IntArray
from tutelage.report.intervals import Interval

FloatArray = npt.NDArray[np.float64]

DRAWS = 2000
"""Times that as many images as there are are drawn from them with replacement."""

CHUNK = 100
"""Draws that are held at once."""


def mean_iou(counts: npt.NDArray[Any]) -> FloatArray:
    """Return the mean intersection over union of the classes that occur, NaN where none does.

    Args:
        counts: Pixels in intersection, prediction and truth, [..., C, 3].

    Returns:
        [...].
    """
    hit, predicted, true = np.moveaxis(np.asarray(counts, dtype=np.float64), -1, 0)
    union = predicted + true - hit
    occurs = union > 0
    total, classes = np.divide(hit, union, out=np.zeros_like(hit), where=occurs).sum(-1), occurs.sum(-1)
    found: FloatArray = np.divide(total, classes, out=np.full(classes.shape, np.nan), where=classes > 0)
    return found


def iou_interval(counts: IntArray, *, draws: int = DRAWS, seed: int = 0) -> Interval:
    """Return the 95 % percentile interval, over images, of a model's mean IoU.

    Args:
        counts: Pixels in intersection, prediction and truth of each image, [N, C, 3].
        draws: How often N images are drawn.
        seed: Of the draws.

    Raises:
        ValueError: The counts are not [N, C, 3] of at least one image.
    """
    return _interval(np.concatenate([mean_iou(sums[0]) for sums in _resampled((counts,), draws, seed)]))


def iou_difference(ours: IntArray, theirs: IntArray, *, draws: int = DRAWS, seed: int = 0) -> Interval:
    """Return the 95 % percentile interval, over images, of the difference of two models' mean IoU.

    Every draw takes the same images for both.

    Args:
        ours: Pixels in intersection, prediction and truth of each image, [N, C, 3].
        theirs: The same of the other model, on the same images.
        draws: How often N images are drawn.
        seed: Of the draws.

    Raises:
        ValueError: The shapes differ, or are not [N, C, 3] of at least one image.
    """
    found = [mean_iou(one) - mean_iou(other) for one, other in _resampled((ours, theirs), draws, seed)]
    return _interval(np.concatenate(found))


def _resampled(counts: tuple[IntArray, ...], draws: int, seed: int) -> Iterator[list[FloatArray]]:
    """Yield, a chunk of draws after the other, the sums of each model's counts over the images drawn, [d, C, 3]."""
    shape = counts[0].shape
    if any(each.shape != shape for each in counts) or len(shape) != 3 or shape[2] != 3 or not shape[0]:
        raise ValueError(f"expected [N, C, 3] of the same images, not {[each.shape for each in counts]}")
    random, images = np.random.default_rng(seed), shape[0]
    flat = [each.reshape(images, -1).astype(np.float64) for each in counts]
    for start in range(0, draws, CHUNK):
        drawn = [random.integers(images, size=images) for _ in range(min(CHUNK, draws - start))]
        # How often an image is drawn is its weight; sums of pixels are whole numbers that float64 holds.
        weights = np.stack([np.bincount(rows, minlength=images) for rows in drawn]).astype(np.float64)
        yield [(weights @ each).reshape(-1, *shape[1:]) for each in flat]


def _interval(values: FloatArray) -> Interval:
    # A draw of images without a pixel that counts has no mean; as a metric it is 0.
    low, high = np.quantile(np.nan_to_num(values), [0.025, 0.975])
    return Interval(float(low), float(high))
