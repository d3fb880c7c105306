"""Looking at every mask once: which can be used, what is wrong with the others, and which classes there are."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from tutelage.data.inspect import Found, each_of, fingerprint_of, found_in, memory_of, recall, remember
from tutelage.data.mask_codes import VOID, Mask, MaskCode
from tutelage.data.mask_pixels import IGNORED, check_mask
from tutelage.data.pixels import image_size, named
from tutelage.data.problems import Problem
from tutelage.data.samples import Samples, original
from tutelage.errors import DataError


def with_usable_masks(samples: Samples, where: str) -> Samples:
    """Return the samples whose masks can be used; why others cannot is in ``problems``.

    Each mask is decoded once: it has the size of its image, classes that there are, and a pixel that counts. What is
    found is remembered by the samples' fingerprint, as of images. Where nobody says which classes there are, they are
    numbers up to the largest in any mask.

    Args:
        samples: Images that can be decoded, with masks.
        where: What messages call the data.

    Raises:
        DataError: Nobody says which classes there are, and masks have values on both sides of 255, of which nobody
            says whether it counts.
    """
    found, largest = _look(samples)
    masks = samples.masks or ()
    lost = {row for row, _, _ in found}
    problems = [Problem(kind, _where(samples, row), detail) for row, kind, detail in found]
    usable = np.array([row for row in range(len(masks)) if row not in lost], dtype=np.int64)
    kept = replace(samples.subset(usable), problems=(*samples.problems, *problems))
    return kept if kept.classes or not len(kept) else _numbered(kept, largest, where)


def _look(samples: Samples) -> tuple[list[Found], int]:
    """Return what is wrong, and the largest class number in masks with which nothing is."""
    file = memory_of(fingerprint_of(samples))
    recalled = recall(file, len(samples))
    if recalled is not None and recalled[1]:
        return recalled[0], recalled[1][0]
    images, masks = samples.images or (), samples.masks or ()

    def look(row: int) -> tuple[Found | None, int]:
        try:
            return None, check_mask(masks[row], image_size(images[row]))
        except DataError as error:
            return found_in(row, error), IGNORED

    results = list(each_of(len(masks), look))
    found = [each for each, _ in results if each is not None]
    largest = max((number for _, number in results), default=IGNORED)
    remember(file, found, largest)
    return found, largest


def _numbered(samples: Samples, largest: int, where: str) -> Samples:
    """Return samples whose classes are all values up to the largest that are not ignored."""
    assert samples.masks
    ignored = samples.masks[0].code.ignored
    if largest > VOID[0] and ignored == VOID:
        raise DataError(
            f"{where}: masks have values up to {largest}, and nobody says which classes there are, nor whether "
            f"{VOID[0]} counts; give data.classes, or classes.txt beside the masks"
        )
    values = [value for value in range(largest + 1) if value not in ignored]
    code = MaskCode(tuple((value, number) for number, value in enumerate(values)), ignored)
    return replace(
        samples, masks=[Mask(mask.source, code) for mask in samples.masks], classes=tuple(map(str, values))
    )


def _where(samples: Samples, row: int) -> str:
    source = (samples.masks or ())[row].source
    return samples.ids[row] if isinstance(original(source), bytes | np.ndarray) else named(source)
