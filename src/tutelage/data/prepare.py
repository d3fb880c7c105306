"""From a recipe's data settings to the samples that a run works with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from tutelage.data.leaks import Contents, exact_copies
from tutelage.data.mask_codes import MaskReading
from tutelage.data.pixels import image_size
from tutelage.data.problems import Problem
from tutelage.data.readers import Part, read_samples
from tutelage.data.samples import IntArray, Samples
from tutelage.data.settings import DataSettings
from tutelage.data.splits import few_shot, hold_out, share_of
from tutelage.data.usable import lost_classes, usable
from tutelage.errors import DataError, RecipeError

if TYPE_CHECKING:
    from tutelage.models.preprocess import Modality

MEASURED = 200
"""Images whose size is looked at to learn how large the images are."""

NAMED = 3
"""Classes that a message names."""


@dataclass(frozen=True)
class PreparedData:
    """The samples of a run.

    Attributes:
        labeled: The labels that may be used: classes, or masks.
        validation: Given validation data, or ``None``.
        test: Labeled test data, or ``None``; for evaluation and the leak check alone.
        transfer: Unlabeled data; includes the labeled images, without labels, when it is what is left of them.
        dropped: How many samples were left out for being test or validation samples, by where.
        short_side: Median short side of the transfer images, in pixels; 0 where there are none.
        problems: What was left out or set right, by part; a part without any may be absent.
        pretraining: Labeled data of another task, or ``None``.
        pairs: Images with a text each, or ``None``.
        pool: All labeled samples that are no held-out ones, labels left out, however many of them may be used;
            ``None`` if nobody has said.
    """

    labeled: Samples
    validation: Samples | None
    test: Samples | None
    transfer: Samples
    dropped: dict[str, int]
    short_side: int
    problems: Mapping[str, tuple[Problem, ...]] = field(default_factory=dict)
    pretraining: Samples | None = None
    pairs: Samples | None = None
    pool: Samples | None = None

    def counts(self) -> dict[str, Any]:
        """Return the number of samples of each part, and of those ``dropped``."""
        parts = {
            "labeled": self.labeled,
            "validation": self.validation,
            "test": self.test,
            "transfer": self.transfer,
            "pretraining": self.pretraining,
            **({} if self.pairs is None else {"pairs": self.pairs}),
        }
        return {**{name: 0 if part is None else len(part) for name, part in parts.items()}, "dropped": self.dropped}


def prepare_data(
    settings: DataSettings, *, seed: int, task: str = "classification", modality: Modality = "image"
) -> PreparedData:
    """Read the data (see :func:`read_parts`) and draw the labels (see :func:`draw_labels`)."""
    return draw_labels(read_parts(settings, task=task, modality=modality), settings.labels, seed=seed)


def read_parts(settings: DataSettings, *, task: str = "classification", modality: Modality = "image") -> PreparedData:
    """Read the data, leave out what cannot be used, and drop what would leak the test set; no label is drawn yet.

    Every image of every part, and every mask, is decoded once. Labeled samples that stand under two labels are left
    out, all copies; copies under one label stay, as they do in the transfer set.

    Args:
        settings: Where the data are.
        task: For ``"segmentation"``, labels are masks; validation and test data have the labeled data's classes.
            ``pretraining`` has class labels whatever the task.
        modality: Whether all of them are images, texts, or images with a text each; ``pairs`` are always those.

    Raises:
        DataError: Data are missing, have too few classes or samples, contradict each other, or more of a part than
            ``settings.tolerate`` cannot be used.
        RecipeError: Something is said about masks where there are none.
    """
    contents = Contents()  # each image is hashed once, whatever it is compared with
    reading = MaskReading(settings.classes, settings.ignore) if task == "segmentation" else None
    if reading is None and (settings.classes is not None or settings.ignore is not None):
        raise RecipeError(
            f"data.classes and data.ignore are about masks, which task {task!r} has none of; remove them"
        )
    if reading is not None and modality != "image":
        raise RecipeError(f"task {task!r} is about images, and the student reads {modality}s; give another student")
    everything = _read(settings.labeled, settings, modality, masks=reading)
    if reading is not None:  # their classes may be known only when all have been looked at
        everything = usable(everything, settings.tolerate, settings.labeled, contents)
    if len(everything.classes) < 2:
        raise DataError(
            f"{settings.labeled}: holds one class ({everything.classes[0]}); telling classes apart takes two or more"
        )
    if reading is None:
        everything = usable(everything, settings.tolerate, settings.labeled, contents, twice=True)
    everything, test = _hold(settings.test, "test", everything, settings, contents)
    everything, validation = _hold(settings.validation, "validation", everything, settings, contents)
    dropped = {"labeled": 0, "validation": 0, "transfer": 0}
    if validation is not None:
        validation, dropped["validation"] = _without_copies(validation, [test], contents)
        if not len(validation):
            raise DataError(f"{settings.validation}: every validation {modality} is also a test {modality}")
    kept, dropped["labeled"] = _without_copies(everything, [validation, test], contents)
    lost = lost_classes(kept) if reading is None else []
    if not len(kept) and reading is not None:
        raise DataError(f"{settings.labeled}: every image is also a test or validation image")
    if lost:
        what = f"{modality} of {', '.join(lost)}"
        raise DataError(f"{settings.labeled}: every {what} is also a test or validation {modality}")

    # The source's task-related transfer set: the task's own training images, labeled ones included.
    pool = replace(kept.without_targets(), problems=())
    pretraining = None
    if settings.pretraining:
        other = _read(settings.pretraining, settings, modality)
        other = usable(other, settings.tolerate, settings.pretraining, contents)
        pretraining, dropped["pretraining"] = _without_copies(other, [validation, test], contents)
        if len(np.unique(pretraining.labels())) < 2:
            raise DataError(f"{settings.pretraining}: fewer than two classes are left to learn from")
    pairs = None
    if settings.pairs:
        told = _read(settings.pairs, settings, "pair", labeled=False)
        told = usable(told, settings.tolerate, settings.pairs, contents)
        pairs, dropped["pairs"] = _without_copies(told, [validation, test], contents)
        if len(pairs) < 2:
            raise DataError(
                f"{settings.pairs}: {len(pairs) or 'no'} pair is left, and pairs are told apart from each other; "
                "give two or more"
            )
    parts = {
        "labeled": kept,
        "validation": validation,
        "test": test,
        "pretraining": pretraining,
        "pairs": pairs,
    }
    problems = {name: part.problems for name, part in parts.items() if part is not None and part.problems}
    side = 0 if settings.transfer else _median_side(pool)  # that of the transfer set, which may still come
    data = PreparedData(kept, validation, test, pool, dropped, side, problems, pretraining, pairs, pool)
    return with_transfer(data, settings, settings.transfer, contents) if settings.transfer else data


def with_transfer(
    data: PreparedData, settings: DataSettings, where: str, contents: Contents | None = None
) -> PreparedData:
    """Return the data with a transfer set: read, without what cannot be used and without held-out samples.

    Args:
        data: All else.
        settings: Say how much may be unusable.
        where: The transfer set.
        contents: What is known of images from before.

    Raises:
        DataError: It is missing, more of it than ``settings.tolerate`` cannot be used, or nothing is left of it.
    """
    contents = contents or Contents()
    unlabeled = _read(where, settings, data.labeled.modality, labeled=False)
    read = usable(unlabeled, settings.tolerate, where, contents)
    transfer, dropped = _without_copies(read, [data.validation, data.test], contents)
    if not len(transfer):
        what = read.modality
        raise DataError(f"{transfer.origin}: every transfer {what} is also a test or validation {what}")
    problems = {name: found for name, found in data.problems.items() if name != "transfer"}
    if transfer.problems:
        problems["transfer"] = transfer.problems
    return replace(
        data,
        transfer=transfer,
        dropped={**data.dropped, "transfer": dropped},
        short_side=_median_side(transfer),
        problems=problems,
    )


def draw_labels(data: PreparedData, amount: str, *, seed: int) -> PreparedData:
    """Return the data with so many of their labels (see :func:`tutelage.data.splits.few_shot`).

    Raises:
        RecipeError: ``amount`` is no amount.
        DataError: A class has too few.
    """
    return replace(data, labeled=data.labeled.subset(few_shot(data.labeled, amount, seed=seed)))


def _read(
    where: str,
    settings: DataSettings,
    modality: Modality,
    *,
    part: Part = "train",
    labeled: bool = True,
    masks: MaskReading | None = None,
) -> Samples:
    return read_samples(
        where, part=part, labeled=labeled, masks=masks, modality=modality, columns=settings.columns or {}
    )


def _hold(
    where: str | None, what: str, labeled: Samples, settings: DataSettings, contents: Contents
) -> tuple[Samples, Samples | None]:
    """Return the labeled data that are left, and held-out data: a share of the former, or read."""
    if where is None:
        return labeled, None
    share = share_of(where)
    if share is None:
        return labeled, _held(where, labeled, settings, contents)
    kept, out = hold_out(labeled, share, what=what)
    return labeled.subset(kept), replace(labeled.subset(out), problems=(), origin=f"{where} of {labeled.origin}")


def _held(where: str, labeled: Samples, settings: DataSettings, contents: Contents) -> Samples:
    """Read held-out data, with its class numbers as in the labeled data, and without classes that those lack."""
    if labeled.masks is not None:
        reading = MaskReading(settings.classes, settings.ignore, labeled.classes, labeled.masks[0].code)
        masked = _read(where, settings, "image", part="test", masks=reading)
        return usable(masked, settings.tolerate, where, contents)
    samples = _read(where, settings, labeled.modality, part="test")
    numbers = {name: number for number, name in enumerate(labeled.classes)}
    if numbers.keys().isdisjoint(samples.classes):
        raise DataError(
            f"{where}: none of its classes is one of the labeled data's: labels of {labeled.origin} are "
            f"{_some(labeled.classes)}; those of {where} are {_some(samples.classes)}; write both the same way"
        )
    names = [samples.classes[number] for number in samples.labels()]
    known = np.array([row for row, name in enumerate(names) if name in numbers], dtype=np.int64)
    unknown = [
        Problem("unknown class", samples.ids[row], f"class {name!r} is not in {labeled.origin}")
        for row, name in enumerate(names)
        if name not in numbers
    ]
    found = replace(
        samples.subset(known),
        targets=np.array([numbers[names[row]] for row in known], dtype=np.int64),
        classes=labeled.classes,
        problems=(*samples.problems, *unknown),
    )
    return usable(found, settings.tolerate, where, contents)


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:NAMED]) + (", …" if len(names) > NAMED else "")


def _without_copies(samples: Samples, held: list[Samples | None], contents: Contents) -> tuple[Samples, int]:
    copies = [exact_copies(samples, other, contents) for other in held if other is not None]
    drop: IntArray = np.unique(np.concatenate([np.array([], dtype=np.int64), *copies]))
    return (samples, 0) if not len(drop) else (samples.subset(np.setdiff1d(np.arange(len(samples)), drop)), len(drop))


def _median_side(samples: Samples) -> int:
    return 0 if samples.images is None else int(np.median(sampled_sizes(samples).min(axis=1)))


def sampled_sizes(samples: Samples) -> npt.NDArray[np.int64]:
    """Return (height, width) of up to ``MEASURED`` images spread over the samples, int64 [n, 2].

    Raises:
        DataError: An image cannot be read.
    """
    assert samples.images is not None
    rows = np.linspace(0, len(samples) - 1, min(MEASURED, len(samples))).astype(int)
    return np.array([image_size(samples.images[row]) for row in rows], dtype=np.int64)
