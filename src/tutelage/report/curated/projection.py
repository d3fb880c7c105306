"""Queries, retrieved items and items of the gallery on one map, computed once."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tutelage.curation.shown import VECTORS
from tutelage.errors import RunError
from tutelage.run import write_json

MAP = "map.json"

KINDS = ("queries", "retrieved", "gallery")

LEAST = 8
"""Points, and dimensions, that make a map; 2,500 points, which a curation keeps at most, take one core about 10 s."""

COMPONENTS, PERPLEXITY = 50, 30.0

VERSION = 1
"""Of what a map is."""

Points = Mapping[str, list[tuple[float, float]]]
"""Where the points of each kind are."""


def read_map(folder: Path) -> Points | None:
    """Return the map of a curation, which is made and kept if it is not there; ``None`` where there is none to make.

    Args:
        folder: The curation's.

    Raises:
        RunError: The vectors are damaged, or the map cannot be written.
    """
    path = folder / VECTORS
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise RunError(f"{path}: cannot be read ({error.strerror}); remove {path.parent} to curate again") from error
    digest = hashlib.sha256(content).hexdigest()
    kept = _kept(folder / MAP, digest)
    if kept is None:
        kept = projected(_vectors(path, content))
        write_json(folder / MAP, {"version": VERSION, "vectors": digest, "points": kept})
    return kept or None


def projected(vectors: Mapping[str, npt.NDArray[Any]]) -> dict[str, list[tuple[float, float]]]:
    """Return where t-SNE (van der Maaten and Hinton, 2008) puts vectors that PCA has made shorter.

    Args:
        vectors: Of each kind, [n, D].

    Returns:
        The points of each kind; nothing where they are too few, or all the same.
    """
    counts = [len(vectors[kind]) for kind in KINDS]
    every = np.concatenate([vectors[kind] for kind in KINDS]).astype(np.float32)
    if min(every.shape) < LEAST or not np.ptp(every, axis=0).any():
        return {}
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE

    short = PCA(min(COMPONENTS, *every.shape), svd_solver="randomized", random_state=0).fit_transform(every)
    perplexity = min(PERPLEXITY, (len(every) - 1) / 3)
    places = TSNE(perplexity=perplexity, init="pca", random_state=0).fit_transform(short)
    split = np.split(np.round(places.astype(np.float64), 3), np.cumsum(counts)[:-1])
    return {kind: [(x, y) for x, y in part.tolist()] for kind, part in zip(KINDS, split, strict=True)}


def _kept(path: Path, digest: str) -> dict[str, list[tuple[float, float]]] | None:
    """Return the map of these vectors that was made before; ``None`` if there is none."""
    try:
        data = json.loads(path.read_bytes())
        if (data["version"], data["vectors"]) != (VERSION, digest):
            return None
        points = data["points"]
        return {kind: [(float(x), float(y)) for x, y in points[kind]] for kind in KINDS} if points else {}
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _vectors(path: Path, content: bytes) -> dict[str, npt.NDArray[Any]]:
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        found = load(content)
        vectors = {kind: found[kind] for kind in KINDS}
        np.concatenate(list(vectors.values()))
    except (SafetensorError, KeyError, ValueError) as error:
        raise RunError(f"{path}: damaged ({error}); remove {path.parent} to curate again") from error
    return vectors
