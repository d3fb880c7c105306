"""A finished curation as its folder keeps it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tutelage.curation.record import read_about
from tutelage.curation.shown import PAIRS
from tutelage.curation.transfer_set import FILE, read_transfer_set
from tutelage.errors import RunError


@dataclass(frozen=True)
class Curated:
    """What a curation left behind.

    Attributes:
        folder: Its folder.
        data: The content of ``curation.json``.
        pairs: Queries with items that were retrieved for them.
        suspects: Data and ids of images that may be the task's and were kept.
        medians: Median similarity of retrieved items to their nearest query, of each encoder that has one.
    """

    folder: Path
    data: Mapping[str, Any]
    pairs: Sequence[Mapping[str, Any]]
    suspects: frozenset[tuple[str, str]]
    medians: Mapping[str, float]


def read_curated(folder: Path) -> Curated:
    """Read a finished curation.

    Raises:
        RunError: There is none, or its files are damaged.
        DataError: The transfer set is missing or damaged.
    """
    data, pairs = read_about(folder), _pairs(folder / PAIRS)
    found = read_transfer_set(folder / FILE)
    suspects = frozenset((found.sources[row], found.ids[row]) for row in np.flatnonzero(found.suspect))
    known = {name: values[~np.isnan(values)] for name, values in found.similarities.items()}
    medians = {name: float(np.median(values)) for name, values in known.items() if len(values)}
    return Curated(folder, data, pairs, suspects, medians)


def _pairs(path: Path) -> list[dict[str, Any]]:
    try:
        pairs: list[dict[str, Any]] = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise RunError(f"{path}: cannot be read ({error}); remove {path.parent} to curate again") from error
    return pairs
