"""From a recipe's data settings to the samples that a run works with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from tutelage.data.leaks import exact_copies
from tutelage.data.pixels import image_size
from tutelage.data.readers import read_samples
from tutelage.data.samples import Samples
from tutelage.data.settings import DataSettings
from tutelage.data.splits import few_shot
from tutelage.errors import DataError

MEASURED = 200
"""Images whose size is looked at to learn how large the images are."""


@dataclass(frozen=True)
class PreparedData:
    """The samples of a run.

    Attributes:
        labeled: The labels that may be used.
        validation: Given validation data, or ``None``.
        test: Labeled test data, or ``None``; for evaluation and the leak check alone.
        transfer: Unlabeled data; includes the labeled images, without labels, when it is what is left of them.
        dropped: How many images were left out for being test or validation images, by where.
        short_side: Median short side of the transfer images, in pixels.
    """

    labeled: Samples
    validation: Samples | None
    test: Samples | None
    transfer: Samples
    dropped: dict[str, int]
    short_side: int

    def counts(self) -> dict[str, Any]:
        """Return the number of images of each part, and of those ``dropped``."""
        parts = {"labeled": self.labeled, "validation": self.validation, "test": self.test, "transfer": self.transfer}
        return {**{name: 0 if part is None else len(part) for name, part in parts.items()}, "dropped": self.dropped}


def prepare_data(settings: DataSettings, *, seed: int) -> PreparedData:
    """Read the data, choose the labels, and drop what would leak the test set.

    Raises:
        DataError: Data are missing, have too few classes or images, or contradict each other.
    """
    everything = read_samples(settings.labeled, labeled=True)
    if len(everything.classes) < 2:
        raise DataError(
            f"{settings.labeled}: holds one class ({everything.classes[0]}); telling classes apart takes two or more"
        )
    validation = _held(settings.validation, everything) if settings.validation else None
    test = _held(settings.test, everything) if settings.test else None
    dropped = {"labeled": 0, "validation": 0, "transfer": 0}
    if validation is not None:
        validation, dropped["validation"] = _without_copies(validation, [test])
        if not len(validation):
            raise DataError(f"{settings.validation}: every validation image is also a test image")
    kept, dropped["labeled"] = _without_copies(everything, [validation, test])
    present = set(np.unique(kept.labels()).tolist())
    lost = [name for number, name in enumerate(kept.classes) if number not in present]
    if lost:
        raise DataError(f"{settings.labeled}: every image of {', '.join(lost)} is also a test or validation image")
    labeled = kept.subset(few_shot(kept, settings.labels, seed=seed))
    if settings.transfer:
        unlabeled = read_samples(settings.transfer, labeled=False)
        transfer, dropped["transfer"] = _without_copies(unlabeled, [validation, test])
    else:
        # The source's task-related transfer set: the task's own training images, labeled ones included.
        transfer = kept.without_targets()
    if not len(transfer):
        raise DataError(f"{transfer.origin}: every transfer image is also a test or validation image")
    return PreparedData(labeled, validation, test, transfer, dropped, _short_side(transfer))


def _held(where: str, labeled: Samples) -> Samples:
    """Read held-out data, with its class numbers as in the labeled data."""
    samples = read_samples(where, part="test", labeled=True)
    unknown = sorted(set(samples.classes) - set(labeled.classes))
    if unknown:
        raise DataError(f"{where}: class {', '.join(map(repr, unknown))} is not in {labeled.origin}")
    numbers = np.array([labeled.classes.index(name) for name in samples.classes], dtype=np.int64)
    return Samples(
        samples.ids, samples.images, samples.texts, numbers[samples.labels()], labeled.classes, samples.origin
    )


def _without_copies(samples: Samples, held: list[Samples | None]) -> tuple[Samples, int]:
    copies = [exact_copies(samples, other) for other in held if other is not None]
    drop = np.unique(np.concatenate([np.array([], dtype=np.int64), *copies]))
    return (samples, 0) if not len(drop) else (samples.subset(np.setdiff1d(np.arange(len(samples)), drop)), len(drop))


def _short_side(samples: Samples) -> int:
    assert samples.images is not None
    rows = np.linspace(0, len(samples) - 1, min(MEASURED, len(samples))).astype(int)
    return int(np.median([min(image_size(samples.images[row])) for row in rows]))
