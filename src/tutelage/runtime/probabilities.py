"""From logits to probabilities and ranks, in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt


def softmax(logits: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Return probabilities over the last axis, float64, for logits of any shape."""
    wide = logits.astype(np.float64)
    shifted = np.exp(wide - wide.max(axis=-1, keepdims=True))
    total: npt.NDArray[np.float64] = shifted / shifted.sum(axis=-1, keepdims=True)
    return total


def ranked(logits: npt.NDArray[Any], top: int) -> list[tuple[int, float]]:
    """Return (class number, probability) of the ``top`` most probable classes for logits [C]; ties by number."""
    probabilities = softmax(logits)
    order = np.argsort(-probabilities, kind="stable")[:top]
    return [(int(row), float(probabilities[row])) for row in order]
