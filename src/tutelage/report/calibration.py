"""How far a classifier's probabilities can be believed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tutelage.report.finished import Finished
from tutelage.report.intervals import wilson
from tutelage.report.numbers import between, percent, plural, whole
from tutelage.report.pictures import reliability
from tutelage.report.tasks import noun

BINS = 15
"""As many as the expected calibration error has."""


@dataclass(frozen=True)
class Bin:
    """Test images that the classifier was about equally sure of.

    Attributes:
        low: Where the bin begins; it is ``1 / bins`` wide.
        images: How many images.
        confidence: Their mean probability of the predicted class.
        correct: How many of them are right.
    """

    low: float
    images: int
    confidence: float
    correct: int


def reliability_bins(confidence: npt.ArrayLike, right: npt.ArrayLike, bins: int = BINS) -> list[Bin]:
    """Return the bins that have images, the least sure first.

    Guo et al., "On Calibration of Modern Neural Networks" (2017), section 2.

    Args:
        confidence: Probability of the predicted class [N].
        right: Whether the prediction is right [N].
        bins: How many, of equal width.
    """
    sure, correct = np.asarray(confidence, dtype=np.float64), np.asarray(right, dtype=bool)
    # A probability of one belongs to the last bin.
    places = np.minimum((sure * bins).astype(np.int64), bins - 1)
    images = np.bincount(places, minlength=bins)
    sums = np.bincount(places, weights=sure, minlength=bins)
    hits = np.bincount(places[correct], minlength=bins)
    return [
        Bin(number / bins, int(images[number]), float(sums[number] / images[number]), int(hits[number]))
        for number in range(bins)
        if images[number]
    ]


def calibration(run: Finished) -> dict[str, Any] | None:
    """Return the student's reliability diagram, its numbers, and a sentence; ``None`` without logits."""
    predictions = run.predictions.get("evaluate")
    if predictions is None or run.dense:
        return None
    confidence, predicted = predictions["student"].softmax(1).max(1)
    found = reliability_bins(confidence.numpy(), (predicted == predictions["targets"]).numpy())
    total = len(predicted)
    sure, correct = float(confidence.double().mean()), sum(each.correct for each in found)
    spans = [wilson(each.correct, each.images) for each in found]
    rows = [
        {
            "bin": between(each.low, each.low + 1 / BINS),
            "images": whole(each.images),
            "part": percent(each.images / total),
            "confidence": percent(each.confidence),
            "accuracy": percent(each.correct / each.images),
            "range": between(*span),
        }
        for each, span in zip(found, spans, strict=True)
    ]
    drawn = [
        (each.low, each.correct / each.images, *span, each.images / total)
        for each, span in zip(found, spans, strict=True)
    ]
    return {
        "picture": reliability(drawn, 1 / BINS),
        "rows": rows,
        "sentence": sureness(sure, correct, total, noun(run.data)),
    }


def sureness(confidence: float, correct: int, images: int, one: str = "image") -> str:
    """Return whether a classifier is as sure as it is right, as one sentence.

    Args:
        confidence: Mean probability of the predicted class.
        correct: Test images that are right.
        images: All of them, at least one.
        one: What one of them is called.
    """
    accuracy = correct / images
    says = (
        f"On average the student gives its answer a probability of {percent(confidence)}, and "
        f"{percent(accuracy)} of its answers are right"
    )
    low, high = wilson(correct, images)
    if low <= confidence <= high:
        return f"{says}: as sure as it should be, as far as {plural(images, f'test {one}')} can tell."
    much = f"{100 * abs(confidence - accuracy):.1f} points"
    return f"{says}: it is {'over' if confidence > accuracy else 'under'}-confident by {much}."
