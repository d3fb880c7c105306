from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from tutelage.curation.leaks import suspects
from tutelage.curation.neighbors import FloatArray
from tutelage.errors import DataError, RecipeError


def normal(seed: int, *shape: int) -> FloatArray:
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)


def cosines(first: FloatArray, second: FloatArray) -> npt.NDArray[np.float64]:
    a, b = (each / np.linalg.norm(each.astype(np.float64), axis=1)[:, None] for each in (first, second))
    found: npt.NDArray[np.float64] = a @ b.T
    return found


@pytest.mark.parametrize("block", [1, 7, 100])
@pytest.mark.parametrize("encoders", [1, 2])
def test_suspects_are_above_the_threshold_of_any_encoder_with_the_nearest_images_of_the_task(
    encoders: int, block: int
) -> None:
    retrieved = [normal(encoder, 40, 3 + encoder) for encoder in range(encoders)]
    task = [normal(9 + encoder, 31, 3 + encoder) for encoder in range(encoders)]
    similarity = np.max([cosines(a, b) for a, b in zip(retrieved, task, strict=True)], axis=0)
    found = suspects(retrieved, task, [0.9] * encoders, block=block)
    expected = np.flatnonzero(similarity.max(axis=1) > 0.9)
    assert 0 < len(expected) < 40
    assert found.rows.tolist() == expected.tolist()
    assert found.nearest.tolist() == np.argsort(-similarity[expected], axis=1)[:, :5].tolist()
    np.testing.assert_allclose(found.similarity, np.sort(-similarity[expected])[:, :5] * -1, atol=1e-5)


def test_planted_images_of_the_task_are_all_found_as_their_own_nearest() -> None:
    task, retrieved = normal(0, 50, 64), normal(1, 200, 64)
    retrieved[30:40] = task[5:15] * 3
    found = suspects([retrieved.astype(np.float16)], [task.astype(np.float16)], [0.95], block=16)
    assert found.rows.tolist() == [*range(30, 40)]
    assert found.nearest[:, 0].tolist() == [*range(5, 15)]


def test_each_encoder_has_its_threshold() -> None:
    angle = np.radians(20)
    turned = np.array([[np.cos(angle), np.sin(angle)]])
    straight = np.array([[1.0, 0.0]])
    assert suspects([turned, straight[:, ::-1]], [straight, straight], [0.95, 0.9]).rows.tolist() == []
    assert suspects([turned, straight[:, ::-1]], [straight, straight], [0.9, 0.95]).rows.tolist() == [0]


def test_distances_of_encoders_count_in_units_of_those_at_their_thresholds() -> None:
    first = [np.array([[1.0, 0.0]]), np.array([[1.0, 0.0]])]
    angles = [np.radians([50.0, 20.0]), np.radians([90.0, 90.0])]
    angles[1][0] = np.radians(5.0)
    task = [np.stack([np.cos(each), np.sin(each)], axis=1) for each in angles]
    loose, strict = float(np.cos(np.radians(40))), float(np.cos(np.radians(6)))
    # 20 of 40 degrees are nearer than 5 of 6, though less similar.
    found = suspects(first, task, [loose, strict])
    assert found.nearest.tolist() == [[1, 0]]
    assert found.similarity[0, 0] < found.similarity[0, 1]


def test_equally_near_images_come_in_the_order_of_their_rows() -> None:
    found = suspects([np.eye(2)[:1]], [np.tile([[1.0, 0.0]], (9, 1))], [0.9], block=2)
    assert found.nearest.tolist() == [[0, 1, 2, 3, 4]]


def test_a_small_task_has_all_its_images_shown() -> None:
    assert suspects([np.eye(2)], [np.eye(2)], [0.9]).nearest.tolist() == [[0, 1], [1, 0]]


def test_where_nothing_is_suspect_nothing_is_shown() -> None:
    found = suspects([np.eye(3)[:1]], [np.eye(3)[1:]], [0.9])
    assert (found.rows.shape, found.nearest.shape, found.similarity.shape) == ((0,), (0, 2), (0, 2))


def test_embeddings_by_other_encoders_are_refused() -> None:
    with pytest.raises(DataError, match="the same encoders"):
        suspects([np.eye(3)], [np.eye(2)], [0.9])


@pytest.mark.parametrize("thresholds", [[], [0.9, 0.9], [1.0]])
def test_each_encoder_needs_a_threshold(thresholds: list[float]) -> None:
    with pytest.raises(RecipeError, match="one threshold"):
        suspects([np.eye(3)], [np.eye(3)], thresholds)
