"""What is kept of a curation: its transfer set, and what reports show of it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tutelage.curation.calibration import EncoderThresholds
from tutelage.curation.curate import Curation, Curator
from tutelage.curation.quality import Quality
from tutelage.curation.settings import CurateSettings
from tutelage.curation.shown import WHOLE_IMAGE, cuts_of, histograms, write_pairs, write_vectors
from tutelage.curation.transfer_set import FILE, TransferSet, write_transfer_set
from tutelage.data.problems import summarize
from tutelage.data.samples import IntArray
from tutelage.errors import RunError

ABOUT = "curation.json"
"""What the page and the terminal show."""


@dataclass(frozen=True)
class CuratedSet:
    """A transfer set that was curated.

    Attributes:
        folder: The run folder; given as ``transfer`` it stands for the transfer set.
        data: The content of ``curation.json``: what was retrieved and left out, by which thresholds, and its cost.
        path: The transfer set, a Parquet file (see :mod:`tutelage.curation.transfer_set`).
        page: ``curation.html``.
    """

    folder: Path
    data: Mapping[str, Any]
    path: Path
    page: Path


def write_record(folder: Path, settings: CurateSettings, curator: Curator, found: Curation) -> None:
    """Write the transfer set, and what reports draw.

    Args:
        folder: The stage's.
        settings: What was asked for.
        curator: That curated.
        found: What it retrieved.

    Raises:
        RunError: A file cannot be written.
    """
    write_transfer_set(folder / FILE, transfer_set(settings, curator, found))
    rows, queries, seed = found.retrieved.selection.rows, curator.queries, curator.task.seed
    write_vectors(folder, curator.items, queries, rows, len(curator.thresholds), seed=seed)
    places = {"gallery": settings.gallery, "labeled": curator.task.where}
    of_texts = curator.used.texts is not None
    shown = (lambda rows: _texts(curator, rows)) if of_texts else None
    asked = dict(zip(curator.used.ids, curator.used.texts or (), strict=True)) if of_texts else {}
    write_pairs(folder, curator.items, queries, found.retrieved, texts=shown, asked=asked, **places)


def transfer_set(settings: CurateSettings, curator: Curator, found: Curation) -> TransferSet:
    """Return a curation as a table: the retrieved items, then the labeled images that join them."""
    selection, why, used = found.retrieved.selection, found.why, curator.used
    items, few = cuts_of(curator.items, selection.rows), len(used)
    texts = None if used.texts is None else (*_texts(curator, selection.rows), *used.texts)
    kept = suspect_rows(curator, found)
    asked = [None if query < 0 else curator.queries.ids[query] for query in why.query.tolist()]
    nothing = np.full(few, np.nan, np.float32)
    none = np.full(few, -1, np.int64)
    return TransferSet(
        ids=(*items.ids, *used.ids),
        sources=(*[settings.gallery] * len(items.ids), *[curator.task.where] * few),
        retrieved=np.arange(len(items.ids) + few) < len(items.ids),
        numbers=np.concatenate([items.numbers, none]),
        boxes=np.concatenate([items.boxes, np.tile(WHOLE_IMAGE, (few, 1))]),
        ranks=np.concatenate([why.rank, none]),
        queries=(*asked, *[None] * few),
        similarity=np.concatenate([why.similarity, nothing]),
        similarities={
            name: np.concatenate([why.of_encoders[number], nothing]) for number, name in enumerate(curator.thresholds)
        },
        suspect=np.concatenate([kept, np.zeros(few, dtype=bool)]),
        about={
            "gallery": settings.gallery,
            "encoders": list(curator.thresholds),
            "strategy": settings.strategy,
            "size": len(items.ids),
            "k": selection.k,
            "seed": curator.task.seed,
            "leaks": settings.leaks,
            "kept_suspects": int(kept.sum()),
            "image_level": not settings.crops,
        },
        texts=texts,
    )


def about_curation(
    settings: CurateSettings, curator: Curator, found: Curation, quality: Quality | None = None
) -> dict[str, Any]:
    """Return what a curation has found, as plain data.

    Args:
        settings: What was asked for.
        curator: That curated.
        found: What it retrieved.
        quality: How good other sizes are, if that was measured.
    """
    seed = curator.task.seed
    queries, cleaned = curator.queries, curator.decontamination
    asked = found.why.query[found.why.query >= 0]
    kept = suspect_rows(curator, found)
    policy = settings.leaks
    numbers = cleaned.found()
    undecided = [number for number in numbers if cleaned.decided(number) is None]
    return {
        "strategy": settings.strategy,
        "modality": curator.task.labeled.modality,
        "gallery": settings.gallery,
        "encoders": list(curator.thresholds),
        "crops": settings.crops,
        "gallery_images": curator.images,
        "gallery_items": len(curator.items),
        "queries": len(queries),
        "query_kind": queries.kind,
        "labeled": len(curator.used),
        "size": len(found.retrieved.selection.rows),
        "retrieved": len(found.retrieved.selection.rows),
        "k": found.retrieved.selection.k,
        "seed": seed,
        "dropped": cleaned.counts(),
        "thresholds": {name: _thresholds(each, settings) for name, each in curator.thresholds.items()},
        "duplicate_threshold": curator.duplicates,
        "suspects": {
            "found": len(numbers),
            "dropped": sum(cleaned.dropped(number) for number in numbers),
            "kept": int(kept.sum()),
            "undecided": len(undecided),
            "policy": policy,
        },
        "problems": summarize(curator.items.problems())["counts"],
        "per_query": np.bincount(asked, minlength=len(queries)).tolist(),
        "query_classes": list(queries.classes),
        "query_ids": list(queries.ids),
        "histograms": histograms(curator.items, queries, found.why, seed=seed),
        "quality": None if quality is None else quality.as_dict(settings.given),
    }


def _texts(curator: Curator, rows: IntArray) -> Sequence[str]:
    return curator.gallery.samples(curator.items.images(rows)).texts or ()


def read_about(folder: Path) -> dict[str, Any]:
    """Return what a finished curation has found.

    Raises:
        RunError: It is not there, or damaged.
    """
    try:
        found: dict[str, Any] = json.loads((folder / ABOUT).read_text())
    except (OSError, ValueError) as error:
        raise RunError(f"{folder / ABOUT}: cannot be read ({error}); remove {folder} to curate again") from error
    return found


def suspect_rows(curator: Curator, found: Curation) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Return which retrieved items are of suspects that were kept without anybody having decided, bool [N]."""
    cleaned = curator.decontamination
    images = found.retrieved.candidates.images(found.retrieved.selection.rows)
    return np.array([n in cleaned.suspects and cleaned.decided(n) is None for n in images.tolist()], dtype=bool)


def _thresholds(found: EncoderThresholds, settings: CurateSettings) -> dict[str, Any]:
    values = {"duplicates": found.values.duplicates, "leaks": found.values.leaks}
    origin: str = found.origin
    if settings.leak_threshold != "auto":
        values["leaks"], origin = settings.leak_threshold, "given"
    if settings.duplicates == "off":
        values["duplicates"] = None
    elif settings.duplicates != "auto":
        values["duplicates"] = settings.duplicates
    told = found.calibration
    return {
        **values,
        "source": origin,
        "recall": None if told is None else told.recall,
        "false_alarms": None if told is None else told.false_alarms,
    }
