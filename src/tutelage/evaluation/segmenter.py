"""How good an exported segmentation model is on images with masks, without torch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from tutelage.data.mask_codes import Mask, MaskReading
from tutelage.data.mask_pixels import IGNORED, decode_mask_pixels
from tutelage.data.pixels import named
from tutelage.data.readers import read_samples
from tutelage.data.samples import Samples
from tutelage.errors import DataError
from tutelage.evaluation.classifier import PAIRS, some
from tutelage.evaluation.measures import IntArray
from tutelage.evaluation.overlap import measure_overlap, pixel_counts, pixel_matrix
from tutelage.runtime import Segmenter


def read_masked(where: str, classes: tuple[str, ...]) -> Samples:
    """Read images with masks to evaluate on; where nobody names their classes, they are numbered as the model's are.

    Raises:
        DataError: The data are missing, or have no masks.
    """
    samples = read_samples(where, part="test", labeled=True, masks=MaskReading())
    if samples.classes:
        return samples
    return read_samples(where, part="test", labeled=True, masks=MaskReading(order=classes))


def evaluate_segmenter(
    segmenter: Segmenter,
    samples: Samples,
    *,
    batch_size: int = 16,
    update: Callable[[int], None] = lambda done: None,
) -> dict[str, Any]:
    """Evaluate a model on images with masks, whose classes are matched to its own by name.

    Pixels of classes that the model does not know are left out and counted; images are that cannot be decoded, or
    whose masks cannot be used.

    Args:
        segmenter: The model.
        samples: Images with masks.
        batch_size: Images that go through the model together, at most.
        update: Told how many images are done.

    Returns:
        Plain data: ``images`` and ``pixels`` (those judged), the metrics, ``classes`` (each with ``pixels, iou,
        recall, precision``; ``None`` where there is nothing to divide by), ``confused`` pairs, ``unknown_classes``
        with their pixels, and ``failed`` (what could not be used, with the reason).

    Raises:
        DataError: The samples have no images or masks, or none that can be judged.
        ModelError: The model cannot be run.
    """
    if samples.images is None or samples.masks is None:
        raise DataError(f"{samples.origin}: has no images with masks; this model tells the class of every pixel")
    names = segmenter.classes
    numbers = {name: number for number, name in enumerate(names)}
    known = np.array([numbers.get(name, IGNORED) for name in samples.classes], dtype=np.int64)
    if (known == IGNORED).all():
        raise DataError(
            f"{samples.origin}: none of its classes ({some(samples.classes)}) is one of the model's "
            f"({some(names)}); rename one of them"
        )
    matrix = np.zeros((len(names), len(names)), np.int64)
    unknown = np.zeros(len(samples.classes), np.int64)
    judged, failed = 0, []
    answers = segmenter.answers(samples.images, batch_size=batch_size)
    for row, answer in enumerate(answers):
        try:
            if answer.mask is None:
                raise DataError(answer.error)
            truth = _truth(samples.masks[row], answer.mask)
            unknown += np.bincount(truth[truth != IGNORED], minlength=len(unknown))
            # The last place is that of -1.
            matrix += pixel_matrix(answer.mask, np.append(known, IGNORED)[truth], len(names))
            judged += 1
        except DataError as error:
            failed.append({"image": samples.ids[row], "error": str(error)})
        update(row + 1)
    if not judged:
        raise DataError(
            f"{samples.origin}: none of {len(failed)} images could be judged; {failed[0]['error'] if failed else ''}"
        )
    return {
        "images": judged,
        "pixels": int(matrix.sum()),
        **measure_overlap(pixel_counts(matrix)),
        "classes": _classes(names, pixel_counts(matrix)),
        "confused": _confused(names, matrix),
        "unknown_classes": {
            name: int(count)
            for name, count in zip(samples.classes, unknown, strict=True)
            if count and name not in numbers
        },
        "failed": failed,
    }


def _truth(mask: Mask, predicted: npt.NDArray[Any]) -> npt.NDArray[np.int16]:
    truth = decode_mask_pixels(mask)
    if truth.shape != predicted.shape:
        (height, width), (tall, wide) = truth.shape, predicted.shape
        raise DataError(
            f"{named(mask.source)}: has {width} x {height} pixels, its image {wide} x {tall}; "
            "give a mask of its image's size"
        )
    return truth


def _classes(names: tuple[str, ...], counts: IntArray) -> list[dict[str, Any]]:
    def share(part: int, whole: int) -> float | None:
        return part / whole if whole else None

    return [
        {
            "name": name,
            "pixels": true,
            "iou": share(hit, predicted + true - hit),
            "recall": share(hit, true),
            "precision": share(hit, predicted),
        }
        for name, (hit, predicted, true) in zip(names, counts.tolist(), strict=True)
    ]


def _confused(names: tuple[str, ...], matrix: IntArray) -> list[dict[str, Any]]:
    """Return the pairs of which most pixels are confused, the most frequent first."""
    wrong = matrix * ~np.eye(len(matrix), dtype=bool)
    order = np.argsort(-wrong, axis=None, kind="stable")[:PAIRS]
    pairs = [(*divmod(place, len(matrix)), int(wrong.flat[place])) for place in order.tolist()]
    return [{"class": names[a], "taken_for": names[b], "pixels": count} for a, b, count in pairs if count]
