"""What a report shows of a curation beside its counts: vectors for a map, histograms, and pairs for pictures."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors.numpy import save

from tutelage.curation.embeddings import Embeddings, Items
from tutelage.curation.neighbors import FloatArray
from tutelage.curation.provenance import Provenance, best_similarity
from tutelage.curation.queries import Queries
from tutelage.curation.retrieval import Retrieved
from tutelage.data.samples import IntArray
from tutelage.run import write_whole

QUERIES, RETRIEVED, GALLERY = 500, 1000, 1000
"""Points of a map, at most, of each kind."""

PICTURED, BESIDE = 24, 6
"""Queries that are shown, and retrieved items beside each, at most."""

BINS = 40

WHOLE_IMAGE: FloatArray = np.array([0, 0, 1, 1], np.float32)
"""Top, left, height and width of what is no crop."""

VECTORS, PAIRS = "vectors.safetensors", "pairs.json"


def histograms(items: Embeddings, queries: Queries, found: Provenance, *, seed: int) -> dict[str, list[float]]:
    """Return how similar retrieved items are to their nearest query, beside items of the gallery at random.

    Returns:
        ``edges`` of the bins, and the counts of ``retrieved`` and ``gallery`` items in each; empty without queries.
    """
    if not len(queries):
        return {"edges": [], "retrieved": [], "gallery": []}
    sample = best_similarity(items, _some(len(items), GALLERY, seed), queries.vectors)
    every = np.concatenate([found.similarity, sample]).astype(np.float64)
    edges = np.linspace(every.min(), max(every.max(), every.min() + 1e-3), BINS + 1)
    counts = {
        name: np.histogram(each, edges)[0] for name, each in (("retrieved", found.similarity), ("gallery", sample))
    }
    return {"edges": edges.tolist(), **{name: each.tolist() for name, each in counts.items()}}


def write_vectors(
    folder: Path, items: Embeddings, queries: Queries, rows: IntArray, encoders: int, *, seed: int
) -> None:
    """Write the vectors of some queries, retrieved items, and items of the gallery, for a map.

    Args:
        folder: Where.
        items: The gallery's.
        queries: All of them.
        rows: Of the retrieved items.
        encoders: How many there are.
        seed: Of what is taken.
    """
    asked, shown = _some(len(queries), QUERIES, seed), _some(len(rows), RETRIEVED, seed)
    gallery = _some(len(items), GALLERY, seed)

    def of_gallery(which: IntArray) -> FloatArray:
        return np.concatenate([items.take(which, each).astype(np.float32) for each in range(encoders)], axis=1)

    points = of_gallery(gallery)
    of_queries = (
        np.concatenate([each[asked] for each in queries.vectors], axis=1)
        if len(queries)
        else np.empty((0, points.shape[1]), np.float32)
    )
    scale = np.float32(np.sqrt(encoders))
    arrays: dict[str, npt.NDArray[Any]] = {
        "queries": (of_queries / scale).astype(np.float16),
        "retrieved": (of_gallery(rows[shown]) / scale).astype(np.float16),
        "gallery": (points / scale).astype(np.float16),
        "queries_rows": asked,
        "retrieved_rows": shown,
    }
    write_whole(folder / VECTORS, save(arrays))


def write_pairs(
    folder: Path,
    items: Embeddings,
    queries: Queries,
    found: Retrieved,
    *,
    gallery: str,
    labeled: str,
    texts: Callable[[IntArray], Sequence[str]] | None = None,
    asked: Mapping[str, str] | None = None,
) -> None:
    """Write some queries, of all classes in turn, each with the retrieved items nearest to it.

    Args:
        folder: Where.
        items: The gallery's.
        queries: All of them.
        found: What was retrieved.
        gallery: Where it is.
        labeled: Where labeled images are.
        texts: Gives the texts of items, where they are texts.
        asked: The queries' texts then, by their ids.
    """
    pairs = []
    neighbors = found.candidates.neighbors
    for query in _in_turn(queries.classes)[:PICTURED] if neighbors is not None else []:
        assert neighbors is not None
        near = np.isin(neighbors.rows[query], found.selection.rows)
        rows, similarity = neighbors.rows[query][near][:BESIDE], neighbors.similarity[query][near][:BESIDE]
        cuts = cuts_of(items, rows)
        retrieved = [
            {"source": gallery, "id": name, "box": box, "similarity": value}
            for name, box, value in zip(cuts.ids, cuts.boxes.tolist(), similarity.tolist(), strict=True)
        ]
        if texts is not None:
            retrieved = [{**each, "text": text} for each, text in zip(retrieved, texts(rows), strict=True)]
        name = queries.ids[query]
        entry: dict[str, Any] = {"source": labeled, "id": name}
        if asked and name in asked:
            entry["text"] = asked[name]
        pairs.append({**({"prompt": name} if queries.kind == "texts" else {"query": entry}), "retrieved": retrieved})
    write_whole(folder / PAIRS, json.dumps(pairs, indent=2, allow_nan=False) + "\n")


def cuts_of(items: Embeddings, rows: IntArray) -> Items:
    """Return which crops of which images some items are; whole images are no crops, whatever part encoders see."""
    found = items.items(rows)
    if items.cutting.policy is not None:
        return found
    return Items(found.ids, np.full(len(rows), -1), np.tile(WHOLE_IMAGE, (len(rows), 1)))


def _some(count: int, most: int, seed: int) -> IntArray:
    rows: IntArray = np.sort(np.random.default_rng(seed).choice(count, min(count, most), replace=False))
    return rows.astype(np.int64)


def _in_turn(classes: tuple[str, ...]) -> list[int]:
    """Return rows so that classes take turns."""
    seen: dict[str, int] = {}
    turns = []
    for row, name in enumerate(classes):
        turns.append((seen.setdefault(name, 0), row))
        seen[name] += 1
    return [row for _, row in sorted(turns)]
