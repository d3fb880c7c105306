from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tutelage.curation.cells import near_pairs
from tutelage.curation.duplicates import duplicates, same_images, together
from tutelage.curation.neighbors import FloatArray
from tutelage.curation.sketches import sketch, sketches
from tutelage.curation.unit_vectors import unit_vectors
from tutelage.data.samples import ImageSource
from tutelage.errors import DataError, RecipeError

Kind = Callable[[int], FloatArray]

MANY = 2300
"""Items of which short sketches are made, and that several cells have."""


def normal(seed: int, *shape: int) -> FloatArray:
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)


def unrelated(width: int) -> FloatArray:
    """Return random directions, some of them twice with a little noise."""
    features = normal(0, MANY, width)
    features[1000:1200] = features[:200] + np.linspace(0, 0.3, 200, dtype=np.float32)[:, None] * normal(1, 200, width)
    return features


def clustered(width: int) -> FloatArray:
    """Return tight groups, in which chains and many pairs are above a threshold."""
    rng = np.random.default_rng(2)
    return normal(3, 300, width)[rng.integers(0, 300, MANY)] + rng.uniform(0, 0.3, (MANY, 1)).astype(
        np.float32
    ) * normal(4, MANY, width)


def alike(width: int) -> FloatArray:
    """Return directions that are all near to one, as many encoders' are."""
    return normal(5, 1, width) + unrelated(width)


def slow(features: list[FloatArray], threshold: float) -> list[int]:
    units = [each.astype(np.float64) / np.linalg.norm(each.astype(np.float64), axis=1)[:, None] for each in features]
    similarity = np.mean([each @ each.T for each in units], axis=0)
    assert abs(similarity - threshold).min() > 1e-6, "too near to tell"
    leader = [-1] * len(similarity)
    for row in range(len(similarity)):
        if leader[row] < 0:
            waiting = [row]
            while waiting:
                here = waiting.pop()
                if leader[here] < 0:
                    leader[here] = row
                    waiting += np.flatnonzero(similarity[here] > threshold).tolist()
    return leader


@pytest.mark.parametrize("threshold", [0.99, 0.9])
@pytest.mark.parametrize("kind", [unrelated, clustered, alike])
def test_all_duplicates_are_found_and_nothing_else(kind: Kind, threshold: float) -> None:
    features = kind(96)
    expected = slow([features], threshold)
    assert len(set(expected)) < MANY
    assert duplicates([features], threshold, block=200).tolist() == expected


def test_small_sets_by_several_encoders_have_the_duplicates_of_all_pairs() -> None:
    found = 0
    for case in range(40):
        rng = np.random.default_rng(case)
        count, threshold = int(rng.integers(1, 40)), float(rng.uniform(0.5, 0.95))
        features = [normal(case * 3 + encoder, count, int(rng.integers(2, 5))) for encoder in range(case % 3 + 1)]
        expected = slow(features, threshold)
        assert duplicates(features, threshold, block=int(rng.integers(1, 50))).tolist() == expected
        found += count - len(set(expected))
    assert found > 100


def test_a_chain_is_one_component_that_its_most_relevant_image_stands_for() -> None:
    angle = np.radians([40.0, 0.0, 30.0, 10.0, 20.0, 90.0])
    features = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    assert duplicates([features], float(np.cos(np.radians(11)))).tolist() == [0, 0, 0, 0, 0, 5]


def test_the_mean_over_encoders_decides() -> None:
    first, second = np.eye(2), np.array([[1.0, 0.0], [1.0, 0.0]])
    assert duplicates([first, second], 0.51).tolist() == [0, 1]
    assert duplicates([first, second], 0.49).tolist() == [0, 0]


def test_as_many_copies_as_there_are_images_are_one() -> None:
    features = np.repeat(normal(0, 3, 16), 5000, axis=0)
    assert np.unique(duplicates([features], 0.99)).tolist() == [0, 5000, 10000]


def test_embeddings_are_read_from_files_and_lengths_do_not_count(tmp_path: Path) -> None:
    features = clustered(48).astype(np.float16)
    np.save(tmp_path / "features.npy", features)
    mapped = np.load(tmp_path / "features.npy", mmap_mode="r")
    longer = features.astype(np.float32) * np.linspace(1, 3, MANY, dtype=np.float32)[:, None]
    assert duplicates([mapped], 0.97).tolist() == duplicates([longer], 0.97).tolist()


def test_of_no_images_there_are_no_duplicates() -> None:
    assert duplicates([np.empty((0, 4))], 0.9).tolist() == []


@pytest.mark.parametrize("threshold", [0.0, 1.0, 99.0])
def test_thresholds_are_between_0_and_1(threshold: float) -> None:
    with pytest.raises(RecipeError, match="between 0 and 1"):
        duplicates([np.eye(2)], threshold)


def test_encoders_that_disagree_on_the_images_are_refused() -> None:
    with pytest.raises(DataError, match="embedded 3 and 2"):
        duplicates([np.eye(3), np.eye(2)], 0.9)


@pytest.mark.parametrize("bad", [0.0, np.nan, np.inf])
def test_embeddings_that_are_zero_or_not_finite_are_refused(bad: float) -> None:
    features = np.ones((4, 2))
    features[2:] = bad
    with pytest.raises(DataError, match=r"encoder 2 of 2 gives item 2 .* 2 items in all"):
        duplicates([np.ones((4, 2)), features], 0.9)


@pytest.mark.parametrize("count", [1, 4, 24])
def test_products_of_sketches_are_never_below_those_of_vectors(count: int) -> None:
    vectors = unit_vectors([unrelated(24)[900:1300], alike(24)[900:1300]]).joint(slice(None))
    short = sketch(vectors, np.linalg.qr(normal(1, 48, count))[0].T)
    assert short.shape == (400, count + 1)
    assert (short @ short.T - vectors.astype(np.float64) @ vectors.T).min() > -1e-6


@pytest.mark.parametrize("kind", [unrelated, clustered, alike])
def test_sketches_are_much_shorter_than_vectors_where_those_are_long(kind: Kind) -> None:
    assert sketches(unit_vectors([kind(384)]), 0.99).shape[1] <= 65


def test_no_pair_within_the_distance_is_left_out_and_most_others_are() -> None:
    points = clustered(16)
    points /= np.linalg.norm(points, axis=1)[:, None]
    points = np.concatenate([points, points + np.float32(1e-3)])
    seen = np.zeros((len(points), len(points)), dtype=np.int64)
    for first, second in near_pairs(points, 0.1):
        seen[np.ix_(first, second)] += 1
        if second is not first:
            seen[np.ix_(second, first)] += 1
    near = points.astype(np.float64) @ points.T > 1 - 0.1**2 / 2
    assert near.sum() > 3 * len(points)
    assert seen[near].min() == 1
    assert seen.max() == 1
    assert seen.mean() < 0.5


def test_images_with_the_very_same_bytes_are_the_same(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"one")
    (tmp_path / "b").write_bytes(b"two")
    images: list[ImageSource] = [tmp_path / "b", tmp_path / "a", b"three", b"two", b"one", b"two"]
    assert same_images(images).tolist() == [0, 1, 2, 0, 1, 0]


def test_findings_are_put_together() -> None:
    first, second = np.array([0, 1, 1, 3, 4]), np.array([0, 1, 2, 2, 0])
    assert together(first, second).tolist() == [0, 1, 1, 1, 0]
