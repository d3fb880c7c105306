"""The test images whose pixels the student tells worst, as small pictures: image, truth, prediction."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image
from torch import Tensor

from tutelage.data.masks import IGNORED, decode_mask
from tutelage.data.pixels import decode_pixels
from tutelage.data.samples import ImageSource, Samples
from tutelage.data.thumbnails import encoded
from tutelage.errors import DataError
from tutelage.report.overlap import mean_iou
from tutelage.run import write_json, write_whole
from tutelage.runtime.letterbox import source_rows
from tutelage.runtime.palette import Color, default_palette

MOST = 12
"""How many images are kept."""

SIDE = 240
"""Long side of a kept picture, in pixels; smaller images are kept as they are."""

STRENGTH = 0.65
"""Share of a class's color in what is laid over an image."""

LUMA = np.array([0.299, 0.587, 0.114])
"""How bright red, green and blue are (ITU-R BT.601)."""

GRAY = 154
"""Laid over pixels that do not count."""

WORST = "worst.json"

Pixels = npt.NDArray[np.uint8]
Numbers = npt.NDArray[np.integer[Any]]

Predict = Callable[[Sequence[ImageSource]], Iterable[Tensor]]
"""The class of every pixel of images, [H, W] each."""


def lowest(counts: Tensor, most: int = MOST) -> list[int]:
    """Return the rows of the images with the lowest IoU, the lowest first; the earlier first where they are level.

    An image's IoU is the mean over the classes in its truth or its prediction. Images without an error are left out,
    and those without a pixel that counts.

    Args:
        counts: Pixels in intersection, prediction and truth, int64 [N, C, 3].
        most: How many rows at most.
    """
    found = mean_iou(counts.numpy())
    order = np.argsort(found, kind="stable")  # NaN last
    return [int(row) for row in order if found[row] < 1][:most]


def write_worst(folder: Path, samples: Samples, predict: Predict, student: Tensor, teacher: Tensor | None) -> None:
    """Write ``worst.json`` and three pictures for each image whose pixels the student tells worst.

    Each has ``id``, ``iou`` (mean over the classes in the image's truth or prediction), ``teacher`` (its IoU, or
    ``null`` without a teacher), ``pictures`` (files beside it: ``image``, and ``truth`` and ``prediction`` laid over
    it), ``classes`` (the names of those that are shown, each with its color) and ``ignored`` (whether there are
    pixels that do not count). Images that can no longer be decoded are left out.

    Args:
        folder: Where.
        samples: The images with masks that were predicted.
        predict: Tells the student's classes for a few images again.
        student: Pixels in intersection, prediction and truth of each image, int64 [N, C, 3].
        teacher: The teacher's, or ``None``.

    Raises:
        RunError: A file cannot be written.
    """
    if samples.images is None or samples.masks is None:
        return
    rows, pictures, truths = [], [], []
    for row in lowest(student):
        try:
            picture, truth = decode_pixels(samples.images[row]), decode_mask(samples.masks[row]).numpy()
        except DataError:
            continue
        rows.append(row)
        pictures.append(picture)
        truths.append(truth)
    ours = mean_iou(student.numpy())
    theirs = None if teacher is None else mean_iou(teacher.numpy())
    palette = samples.masks[0].code.colors(len(samples.classes)) or default_palette(len(samples.classes))
    found: list[dict[str, Any]] = []
    for place, (row, prediction) in enumerate(zip(rows, predict(pictures), strict=True)):
        told = np.where(truths[place] == IGNORED, IGNORED, prediction.numpy())
        small = _small(pictures[place])
        masks = {"truth": truths[place], "prediction": told}
        shown = {"image": small} | {part: overlaid(small, mask, palette) for part, mask in masks.items()}
        there = sorted({int(each) for mask in masks.values() for each in np.unique(mask)} - {IGNORED})
        names = {}
        for part, pixels in shown.items():
            content, ending = encoded(Image.fromarray(pixels))
            names[part] = f"worst-{place + 1:02d}-{part}.{ending}"
            write_whole(folder / names[part], content)
        found.append(
            {
                "id": samples.ids[row],
                "iou": float(ours[row]),
                "teacher": None if theirs is None else float(theirs[row]),
                "pictures": names,
                "classes": [[samples.classes[number], list(palette[number])] for number in there],
                "ignored": bool((told == IGNORED).any()),
            }
        )
    write_json(folder / WORST, {"worst": found})


def overlaid(image: Pixels, mask: Numbers, palette: Sequence[Color]) -> Pixels:
    """Return an image, in shades of gray, under the colors of its pixels' classes.

    Args:
        image: uint8 [h, w, 3].
        mask: Class numbers at any size, brought to the image's by nearest neighbor; ``IGNORED`` is gray.
        palette: A color for each class.

    Returns:
        uint8 [h, w, 3].
    """
    height, width = image.shape[:2]
    nearest = mask[source_rows(height, mask.shape[0])][:, source_rows(width, mask.shape[1])]
    colors = np.array([*palette, (GRAY, GRAY, GRAY)], dtype=np.float64)
    over = colors[np.where(nearest == IGNORED, len(palette), nearest)]
    # Its own colors would be taken for those of classes.
    shades = image @ LUMA
    found: Pixels = np.rint((1 - STRENGTH) * shades[..., None] + STRENGTH * over).astype(np.uint8)
    return found


def _small(image: Pixels) -> Pixels:
    picture = Image.fromarray(image)
    picture.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    return np.asarray(picture)
