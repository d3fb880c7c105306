from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from tutelage.report.curated.projection import MAP, projected, read_map

Make = Callable[..., Path]


def clouds(count: int = 20, dimensions: int = 16) -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    centers = 5 * random.normal(size=(3, dimensions))
    return {
        kind: (center + random.normal(size=(count, dimensions))).astype(np.float16)
        for kind, center in zip(("queries", "retrieved", "gallery"), centers, strict=True)
    }


def test_what_is_alike_lies_together() -> None:
    points = projected(clouds())
    means = {kind: np.mean(each, axis=0) for kind, each in points.items()}
    for kind, each in points.items():
        own = np.linalg.norm(np.array(each) - means[kind], axis=1)
        others = [np.linalg.norm(np.array(each) - means[other], axis=1) for other in means if other != kind]
        assert (own < np.min(others, axis=0)).all()


def test_each_vector_has_its_place() -> None:
    found = clouds() | {"queries": clouds()["queries"][:0], "gallery": clouds()["gallery"][:9]}
    assert {kind: len(each) for kind, each in projected(found).items()} == {
        "queries": 0,
        "retrieved": 20,
        "gallery": 9,
    }


@pytest.mark.parametrize("count", [1, 2])
def test_too_few_points_are_no_map(count: int) -> None:
    assert projected(clouds(count)) == {}


def test_points_that_are_all_the_same_are_no_map() -> None:
    assert projected({kind: np.ones((9, 16), np.float16) for kind in ("queries", "retrieved", "gallery")}) == {}


def test_it_is_computed_once(make_curated: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make_curated(points=True)
    first = read_map(folder)
    monkeypatch.setattr("tutelage.report.curated.projection.projected", pytest.fail)
    assert read_map(folder) == first


def test_other_vectors_have_another_map(make_curated: Make) -> None:
    folder = make_curated(points=True)
    first = read_map(folder)
    save_file(clouds(), folder / "vectors.safetensors")
    assert read_map(folder) != first


@pytest.mark.parametrize("content", ["{", "[]", json.dumps({"version": 1, "vectors": "0", "points": {}})])
def test_a_map_that_cannot_be_used_is_made_anew(make_curated: Make, content: str) -> None:
    folder = make_curated(points=True)
    first = read_map(folder)
    (folder / MAP).write_text(content)
    assert read_map(folder) == first


def test_without_vectors_there_is_no_map(make_curated: Make) -> None:
    assert read_map(make_curated()) is None
