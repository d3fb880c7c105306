"""A curation's folder as its stage leaves it, small pictures included, without embedding anything."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save_file

from tutelage.curation.transfer_set import FILE, TransferSet, write_transfer_set

ENCODER = "bundled:efficientnet-lite0"

QUALITY = {
    "sizes": [50, 100, 200, 400],
    "runs": [[0.61, 0.63], [0.68, 0.7], [0.741, 0.738], [0.742, 0.744]],
    "chosen": 200,
    "why": "the smallest within 0.5 points of the best",
    "metric": "accuracy",
}


def write_curated(
    folder: Path,
    *,
    classes: tuple[str, ...] = ("cat", "dog", "owl"),
    each: int = 3,
    retrieved: int = 40,
    name: str = "img #.png",
    lost: bool = False,
    kind: str = "images",
    encoders: tuple[str, ...] = (ENCODER,),
    kept: int = 0,
    crops: int = 0,
    points: bool = False,
    **changes: Any,
) -> Path:
    """Write it and return the stage's folder.

    Args:
        folder: Where all goes.
        classes: Of the task.
        each: Queries a class.
        retrieved: Items.
        name: File names of the gallery, with a ``#`` for the number.
        lost: Whether all images of the gallery have gone since.
        kind: What the queries are.
        encoders: Names.
        kept: Suspects that were kept.
        crops: Crops an image.
        points: Whether there are vectors.
        changes: What else ``curation.json`` says.
    """
    random = np.random.default_rng(0)
    gallery, labeled, stage = folder / "gallery", folder / "labeled", folder / "run" / "01-curate"
    for place in (gallery, stage, *(labeled / name for name in classes)):
        place.mkdir(parents=True)
    ids = [name.replace("#", str(number)) for number in range(retrieved)]
    for number, file in enumerate([] if lost else ids[:20]):
        size = (120, 90) if number % 2 else (40, 40)
        Image.fromarray(random.integers(0, 256, (*size[::-1], 3), np.uint8)).save(gallery / file)
    asked = [(f"{label}/{number}.png", label) for label in classes for number in range(each)]
    for file, _ in asked:
        Image.fromarray(random.integers(0, 256, (32, 32, 3), np.uint8)).save(labeled / file)
    if kind == "texts":
        asked = [(f"a photo of a {label}.", label) for label in classes]
    if kind == "nothing":
        asked = []
    nearest = random.integers(0, max(1, len(asked) - 1), retrieved)
    similarity = np.sort(random.uniform(0.5, 0.9, retrieved).astype(np.float32))[::-1] if asked else None
    write_transfer_set(stage / FILE, _table(ids, str(gallery), asked, nearest, similarity, encoders, kept))
    _write_pairs(stage, ids, str(gallery), str(labeled), asked, kind, crops)
    if points:
        _write_vectors(stage, random, len(asked), retrieved)
    counts = np.bincount(nearest, minlength=len(asked)).tolist() if asked else []
    thresholds = {"duplicates": 0.981, "leaks": 0.97, "source": "calibrated", "recall": 0.991, "false_alarms": 0.004}
    about = {
        "strategy": {"images": "query-balanced", "texts": "query-balanced-text", "nothing": "random"}[kind],
        "gallery": str(gallery),
        "encoders": list(encoders),
        "crops": crops,
        "gallery_images": 5000,
        "gallery_items": 5000 * max(1, crops),
        "queries": len(asked),
        "query_kind": kind,
        "size": retrieved,
        "retrieved": retrieved,
        "k": 7 if asked else None,
        "seed": 0,
        "dropped": {"exact_copies_of_task": 3, "exact_duplicates": 1, "duplicates": 12, "leaks": 2},
        "thresholds": dict.fromkeys(encoders, thresholds),
        "suspects": {"found": 2 + kept, "dropped": 2, "kept": kept, "undecided": 2 + kept, "policy": "drop"},
        "problems": {"truncated": 4, "wrong extension": 2},
        "per_query": counts,
        "query_classes": [label for _, label in asked],
        "query_ids": [query for query, _ in asked],
        "histograms": _histograms(random, similarity),
        "quality": None,
        "cost": {"seconds": 83.0, "images": 5000, "flops": 4.2e12, "device": "cpu"},
    }
    (stage / "curation.json").write_text(json.dumps({**about, **changes}))
    return stage


def _table(
    ids: list[str],
    gallery: str,
    asked: list[tuple[str, str]],
    nearest: np.ndarray,
    similarity: np.ndarray | None,
    encoders: tuple[str, ...],
    kept: int,
) -> TransferSet:
    known = np.full(len(ids), np.nan, np.float32) if similarity is None else similarity
    return TransferSet(
        ids=tuple(ids),
        sources=(gallery,) * len(ids),
        retrieved=np.ones(len(ids), dtype=bool),
        numbers=np.full(len(ids), -1),
        boxes=np.tile(np.array([0, 0, 1, 1], np.float32), (len(ids), 1)),
        ranks=np.arange(len(ids)),
        queries=tuple(asked[row][0] if asked else None for row in nearest),
        similarity=known,
        similarities=dict.fromkeys(encoders, known),
        suspect=np.arange(len(ids)) < kept,
        about={},
    )


def _write_pairs(
    stage: Path, ids: list[str], gallery: str, labeled: str, asked: list[tuple[str, str]], kind: str, crops: int
) -> None:
    box = [0.1, 0.2, 0.5, 0.5] if crops else [0.0, 0.0, 1.0, 1.0]
    pairs = [
        {
            **({"prompt": query} if kind == "texts" else {"query": {"source": labeled, "id": query}}),
            "retrieved": [
                {"source": gallery, "id": ids[(row + place) % len(ids)], "box": box, "similarity": 0.9 - place / 50}
                for place in range(min(6, len(ids)))
            ],
        }
        for row, (query, _) in enumerate(asked[:24])
    ]
    (stage / "pairs.json").write_text(json.dumps(pairs))


def _write_vectors(stage: Path, random: np.random.Generator, queries: int, retrieved: int) -> None:
    centers = random.normal(size=(3, 16))
    arrays = {}
    for kind, count in (("queries", queries), ("retrieved", retrieved), ("gallery", 60)):
        vectors = centers[np.arange(count) % 3] + 0.4 * random.normal(size=(count, 16))
        arrays[kind] = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float16)
    arrays["queries_rows"], arrays["retrieved_rows"] = np.arange(queries), np.arange(retrieved)
    save_file(arrays, stage / "vectors.safetensors")


def _histograms(random: np.random.Generator, similarity: np.ndarray | None) -> dict[str, list[float]]:
    if similarity is None:
        return {"edges": [], "retrieved": [], "gallery": []}
    edges = np.linspace(0, 1, 41)
    gallery = np.histogram(random.normal(0.35, 0.1, 1000), edges)[0]
    return {
        "edges": edges.tolist(),
        "retrieved": np.histogram(similarity, edges)[0].tolist(),
        "gallery": gallery.tolist(),
    }


@pytest.fixture
def make_curated(tmp_path: Path) -> Callable[..., Path]:
    def make(**form: Any) -> Path:
        return write_curated(tmp_path / f"curation {len(list(tmp_path.iterdir()))}", **form)

    return make


@pytest.fixture(scope="session")
def write_one() -> Callable[..., Path]:
    return write_curated


@pytest.fixture
def quality() -> dict[str, Any]:
    return QUALITY
