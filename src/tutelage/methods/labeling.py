"""Pseudo-labels: what a student takes unlabeled images for, kept as a table in the stage's folder.

    labels-00000.parquet … shares-00000.npy …

A part holds some thousand images and is written whole: an interrupted labeling goes on with the next one.
"""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
from torch import Tensor

from tutelage.data.leaks import exact_copies, other_rows
from tutelage.data.samples import IntArray, Samples
from tutelage.errors import RunError
from tutelage.ledger import Cost, measured
from tutelage.methods.job import Job
from tutelage.models.model import Model
from tutelage.models.preprocess import TEXTUAL
from tutelage.run import write_whole

PART = 8192
"""Images of a part."""


@dataclass(frozen=True)
class PseudoLabels:
    """What a model takes unlabeled images for.

    Attributes:
        rows: Of the images in the transfer set, int64 [N].
        classes: The likeliest class of each, int64 [N]; of equally likely ones the first.
        confidence: The model's probability of it, float32 [N].
        shares: The probabilities of all classes, float16 [N, C]; ``None`` where only the likeliest is learned.
    """

    rows: IntArray
    classes: IntArray
    confidence: npt.NDArray[np.float32]
    shares: npt.NDArray[np.float16] | None = None

    def __len__(self) -> int:
        return len(self.rows)

    def at_least(self, threshold: float) -> PseudoLabels:
        """Return those with at least so much confidence, in order."""
        sure = self.confidence >= threshold
        shares = None if self.shares is None else self.shares[sure]
        return PseudoLabels(self.rows[sure], self.classes[sure], self.confidence[sure], shares)

    def samples(self, transfer: Samples, names: Sequence[str]) -> Samples:
        """Return the transfer images with these labels.

        Args:
            transfer: The transfer set.
            names: Of all classes.
        """
        targets = self.classes if self.shares is None else self.shares
        return replace(transfer.subset(self.rows), targets=targets, classes=tuple(names), problems=())


def pseudo_labels(rows: IntArray, logits: Tensor, *, soft: bool) -> PseudoLabels:
    """Return the pseudo-labels of some images.

    Args:
        rows: Of the images.
        logits: Of the model in eval mode, [N, C].
        soft: Whether the probabilities of all classes are kept.
    """
    probabilities = logits.double().softmax(1).numpy()
    classes = probabilities.argmax(1).astype(np.int64)
    confidence = probabilities.max(1).astype(np.float32)
    return PseudoLabels(rows, classes, confidence, probabilities.astype(np.float16) if soft else None)


def unlabeled_rows(transfer: Samples, labeled: Samples) -> IntArray:
    """Return the rows of transfer images that are no labeled ones, neither by name nor by content."""
    rows = other_rows(transfer, labeled)
    return np.delete(rows, exact_copies(transfer.subset(rows), labeled))


def label_images(job: Job, model: Model, rows: IntArray, folder: Path, cost: Cost, *, soft: bool) -> PseudoLabels:
    """Label transfer images in their evaluation view, the model in eval mode; parts that are there are taken.

    Args:
        job: Views, device and processes; each process labels its own parts.
        model: That labels.
        rows: Of the images.
        folder: Of the parts.
        cost: Gets what all parts took; what was found counts too.
        soft: Whether the probabilities of all classes are kept.

    Raises:
        RunError: A part is damaged, or cannot be written.
    """
    parts = [rows[start : start + PART] for start in range(0, len(rows), PART)]
    found = [_file(folder, number).exists() for number in range(len(parts))]
    job.world.barrier()  # before any is written, all have looked
    with job.progress.track(f"label the unlabeled {TEXTUAL[job.modality]}", len(parts)) as update:
        for number in range(job.world.rank, len(parts), job.world.size):
            if not found[number]:
                images = job.transfer.subset(parts[number])
                with measured(Cost(), job.world.device) as spent:
                    logits = job.predict(model, images, cost=spent)
                labels = pseudo_labels(parts[number], logits, soft=soft)
                _write(folder, number, labels, images.ids, spent)
            update(number + 1, {})
    job.world.barrier()
    whole = [_read(folder, number) for number in range(len(parts))]
    for known, (_, spent) in zip(found, whole, strict=True):
        cost.add(replace(spent, earlier=spent.seconds if known else 0.0))
    return _together([labels for labels, _ in whole])


def read_labels(folder: Path) -> PseudoLabels:
    """Read what a finished labeling has left, in the order of the transfer set.

    Raises:
        RunError: A part is damaged.
    """
    return _together([_read(folder, number)[0] for number in range(len(list(folder.glob("labels-*.parquet"))))])


def agreement(labels: PseudoLabels, before: PseudoLabels) -> float:
    """Return the share of images that both take for the same class; both are of the same ones."""
    return float((labels.classes == before.classes).mean())


def counts(labels: PseudoLabels, names: Sequence[str]) -> dict[str, int]:
    """Return how many images have each class as their likeliest, in the order of the classes."""
    numbers = np.bincount(labels.classes, minlength=len(names)).tolist()
    return dict(zip(names, numbers, strict=True))


def _write(folder: Path, number: int, labels: PseudoLabels, ids: Sequence[str], cost: Cost) -> None:
    """Write a part; the table comes last, and says that it is whole."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    if labels.shares is not None:
        content = io.BytesIO()
        np.save(content, labels.shares)
        write_whole(_shares(folder, number), content.getvalue())
    columns = {
        "row": labels.rows,
        # Names that come from file names need not be valid Unicode.
        "id": [name.encode("utf-8", "replace").decode() for name in ids],
        "class": labels.classes,
        "confidence": labels.confidence,
    }
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table(columns).replace_schema_metadata({"cost": json.dumps(cost.as_dict())}), sink)
    write_whole(_file(folder, number), sink.getvalue().to_pybytes())


def _read(folder: Path, number: int) -> tuple[PseudoLabels, Cost]:
    """Read a part, and what it cost."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    file = _file(folder, number)
    try:
        table = pq.read_table(pa.BufferReader(file.read_bytes()))
        rows, classes, confidence = (table[name].to_numpy() for name in ("row", "class", "confidence"))
        kept = _shares(folder, number)
        shares = np.load(io.BytesIO(kept.read_bytes())) if kept.exists() else None
        return PseudoLabels(rows, classes, confidence, shares), Cost(**json.loads(table.schema.metadata[b"cost"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(f"{file}: damaged ({error}); remove its folder and run the same command again") from error


def _together(parts: Sequence[PseudoLabels]) -> PseudoLabels:
    shares = [part.shares for part in parts if part.shares is not None]
    return PseudoLabels(
        np.concatenate([part.rows for part in parts]),
        np.concatenate([part.classes for part in parts]),
        np.concatenate([part.confidence for part in parts]),
        np.concatenate(shares) if shares else None,
    )


def _file(folder: Path, number: int) -> Path:
    return folder / f"labels-{number:05d}.parquet"


def _shares(folder: Path, number: int) -> Path:
    return folder / f"shares-{number:05d}.npy"
