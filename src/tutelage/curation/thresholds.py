"""Above which similarity images are duplicates or possible leaks: a matter of the encoder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tutelage.errors import DataError

LEAST = 100
"""Similarities of either kind that a threshold is chosen by at least."""

RECALL, FALSE_ALARMS = 0.95, 0.01
"""Share of copies that a threshold must find, and share of other images that it may take for copies."""


@dataclass(frozen=True)
class Thresholds:
    """Of an encoder's cosine similarity.

    Attributes:
        duplicates: Above which two images are duplicates; ``None`` where that is not known.
        leaks: Above which an image may be one of the task's; ``None`` where that is not known.
    """

    duplicates: float | None
    leaks: float | None


KNOWN: Mapping[str, Thresholds] = {
    # Vemulapalli et al., ICML 2024, appendix B.3 and B.4, which used these two together.
    "openclip:ViT-L-14/openai": Thresholds(0.99, 0.95),
    "openclip:ViT-L-14/datacomp_xl_s13b_b90k": Thresholds(0.99, 0.95),
}
"""Encoders with thresholds that have proved good, by name."""

NONE: Mapping[str, Thresholds] = {}
"""Of encoders that were calibrated, where none were."""


def duplicate_threshold(encoders: Sequence[str], calibrated: Mapping[str, Thresholds] = NONE) -> float | None:
    """Return the threshold of encoders' mean similarity: the mean of theirs, or ``None`` if one has none.

    Args:
        encoders: Names, at least one.
        calibrated: Thresholds of encoders that were calibrated; they come before known ones.
    """
    own = [_of(name, calibrated).duplicates for name in encoders]
    known = [each for each in own if each is not None]
    return float(np.mean(known)) if len(known) == len(own) else None


def leak_thresholds(encoders: Sequence[str], calibrated: Mapping[str, Thresholds] = NONE) -> list[float] | None:
    """Return each encoder's threshold for leaks, or ``None`` if one has none.

    Args:
        encoders: Names.
        calibrated: Thresholds of encoders that were calibrated; they come before known ones.
    """
    own = [_of(name, calibrated).leaks for name in encoders]
    known = [each for each in own if each is not None]
    return known if len(known) == len(own) else None


@dataclass(frozen=True)
class Calibration:
    """How well a threshold tells copies of images from other images.

    Attributes:
        threshold: Similarities above it are taken for those of copies.
        recall: Share of the copies that are above.
        false_alarms: Share of the other images that are above.
    """

    threshold: float
    recall: float
    false_alarms: float

    @property
    def separable(self) -> bool:
        """Whether the encoder tells copies from other images; if not, its threshold is not to be acted on."""
        return self.recall >= RECALL and self.false_alarms <= FALSE_ALARMS


def calibrate(copies: npt.ArrayLike, others: npt.ArrayLike) -> Calibration:
    """Return the threshold that tells copies of images from other images best.

    It is the one with the largest difference of recall and false alarms (Youden's J), half-way between the two
    similarities that it separates; of several such the highest.

    Args:
        copies: Similarities of images to slightly changed copies of themselves, [n].
        others: Similarities of images to different ones, [m]. With each image's most similar different one a false
            alarm is an image that would be taken for a copy in a collection as large as theirs.

    Raises:
        DataError: There are fewer than 100 of either, or some are not finite.
    """
    positive, negative = (np.sort(np.asarray(each, dtype=np.float64).ravel()) for each in (copies, others))
    if min(len(positive), len(negative)) < LEAST:
        raise DataError(
            f"a threshold is chosen by {LEAST} copies and {LEAST} other images at least, "
            f"got {len(positive)} and {len(negative)}"
        )
    if not (np.isfinite(positive).all() and np.isfinite(negative).all()):
        raise DataError("the similarities that a threshold is to be chosen by are not all finite")
    values = np.unique(np.concatenate([positive, negative]))
    cuts = (values[1:] + values[:-1]) / 2 if len(values) > 1 else values
    recall = 1 - np.searchsorted(positive, cuts, side="right") / len(positive)
    alarms = 1 - np.searchsorted(negative, cuts, side="right") / len(negative)
    gain = recall - alarms
    best = int(np.flatnonzero(gain == gain.max())[-1])
    return Calibration(float(cuts[best]), float(recall[best]), float(alarms[best]))


def _of(name: str, calibrated: Mapping[str, Thresholds]) -> Thresholds:
    return calibrated.get(name) or KNOWN.get(name) or Thresholds(None, None)
