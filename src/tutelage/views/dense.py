"""Draw what views of dense tasks have besides, choose where they are cut by their masks, and round their edges."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from tutelage.data.masks import IGNORED
from tutelage.views.policy import DensePolicy, DenseViews, FloatArray, Views
from tutelage.views.streams import Doubles, Keys, uniforms

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.floating]

PLACES = 10
"""Places that a square is tried in."""

BLUR = 1 / 512
BRIGHTNESS = 32 / 255
CONTRAST = SATURATION = 0.5
HUE = 0.05

# Where each part starts, counted from the first number that is theirs.
_SCALE = 0
_PLACES = _SCALE + 1
_ANGLE = _PLACES + 2 * PLACES
_BLUR = _ANGLE + 1
_BRIGHTNESS = _BLUR + 2
_CONTRAST = _BRIGHTNESS + 2
_SATURATION = _CONTRAST + 2
_HUE = _SATURATION + 2
_LAST = _HUE + 2

# Below a tie by less than this many pixels is still tied; far above what float64 loses.
_TIE = 1e-6


def sample_dense(policy: DensePolicy, streams: Keys, at: int, aspects: Doubles) -> DenseViews:
    """Draw one view for each of B samples.

    Strengths are the usual ones (SSD, arXiv:1512.02325, and segmentation since): brightness within 32 of 255,
    contrast and saturation by half, hue by 18 of OpenCV's 180. The code that the source names has half of that hue.

    Args:
        policy: The distribution to draw from.
        streams: One a sample (see :mod:`tutelage.views.streams`), uint64 [B].
        at: The first number of each that is used.
        aspects: Width over height of each image, [B].
    """

    def drawn(part: int, probability: float, low: float, high: float) -> FloatArray:
        draws = uniforms(streams, at + part, 2)
        values = low + (high - low) * draws[:, 1]
        return np.where(draws[:, 0] < probability, values, 0.0).astype(np.float32)

    angles = policy.rotate * (2.0 * uniforms(streams, at + _ANGLE, 1)[:, 0] - 1.0)
    return DenseViews(
        places=_places(policy, streams, at, aspects),
        blur=drawn(_BLUR, policy.blur, 0.0, BLUR),
        brightness=drawn(_BRIGHTNESS, policy.distort, -BRIGHTNESS, BRIGHTNESS),
        contrast=drawn(_CONTRAST, policy.distort, -CONTRAST, CONTRAST),
        saturation=drawn(_SATURATION, policy.distort, -SATURATION, SATURATION),
        hue=drawn(_HUE, policy.distort, -HUE, HUE),
        contrast_last=uniforms(streams, at + _LAST, 1)[:, 0] < 0.5,
        angle=angles.astype(np.float32),
    )


def _places(policy: DensePolicy, streams: Keys, at: int, aspects: Doubles) -> Doubles:
    """Return squares, relative to the image; larger than the image, they hold it somewhere, wherever they are."""
    if policy.scale is None:
        size = np.stack([np.maximum(aspects, 1.0), np.maximum(1.0 / aspects, 1.0)], axis=1)
        return np.concatenate([np.zeros_like(size), size], axis=1)[:, None]
    count = PLACES if policy.fill < 1.0 else 1
    scale = policy.scale[0] + (policy.scale[1] - policy.scale[0]) * uniforms(streams, at + _SCALE, 1)
    size = np.stack([np.minimum(aspects, 1.0), np.minimum(1.0 / aspects, 1.0)], axis=1) / scale
    sizes = np.repeat(size[:, None], count, axis=1)
    starts = uniforms(streams, at + _PLACES, 2 * count).reshape(-1, count, 2) * (1.0 - sizes)
    return np.concatenate([starts, sizes], axis=2)


def placed(views: Views, masks: Sequence[Tensor], fill: float) -> Views:
    """Cut each view in its first place where no class has more than ``fill`` of the pixels that count.

    Where none is so, the first place stays, as it does for images without a mask.

    Args:
        views: B dense views.
        masks: B masks, int16 [H_i, W_i], of the images' sizes.
        fill: A share, ``DensePolicy.fill``.
    """
    assert views.dense is not None
    if views.dense.places.shape[1] == 1:
        return views
    crops = views.crop.copy()
    for row, (mask, places) in enumerate(zip(masks, views.dense.places, strict=True)):
        for place, (top, left, height, width) in zip(places, inside(places, *mask.shape).tolist(), strict=True):
            if _largest_share(mask[top : top + height, left : left + width]) <= fill:
                crops[row] = place
                break
    return replace(views, crop=crops)


def _largest_share(mask: Tensor) -> float:
    """Return how much of the pixels that count the most frequent class has; all, where none count."""
    counts = torch.bincount(mask.reshape(-1).int() - IGNORED)[1:]
    total = int(counts.sum())
    return int(counts.max()) / total if total else 1.0


def inside(crops: Floats, height: npt.ArrayLike, width: npt.ArrayLike) -> Ints:
    """Return what of crops lies in their images, edges rounded to whole pixels.

    Args:
        crops: Relative boxes, [..., 4].
        height: Height of each image in pixels, [...].
        width: Width of each image in pixels, [...].

    Returns:
        (top, left, height, width) in pixels, never empty, int64 [..., 4].
    """
    image = np.stack(np.broadcast_arrays(height, width), axis=-1)
    return _spans(crops[..., :2] * image, (crops[..., :2] + crops[..., 2:]) * image, image)


def shown(crops: Floats, size: int) -> Ints:
    """Return where in views of this size their images lie, edges rounded to whole pixels.

    Args:
        crops: Relative boxes, [..., 4].
        size: Side of the views, in pixels.

    Returns:
        (top, left, height, width) in pixels, never empty, int64 [..., 4].
    """
    start, extent = crops[..., :2], crops[..., 2:]
    return _spans(-start / extent * size, (1.0 - start) / extent * size, np.array(size))


def _spans(start: Floats, stop: Floats, most: npt.NDArray[np.int64]) -> Ints:
    first = np.clip(np.floor(start + 0.5 + _TIE), 0, most - 1)
    end = np.clip(np.floor(stop + 0.5 + _TIE), first + 1, most)
    return np.concatenate([first, end - first], axis=-1).astype(np.int64)
