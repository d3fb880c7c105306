from __future__ import annotations

import math

import numpy as np
import pytest

from tutelage.runtime.letterbox import fitted, restored, source_rows

SHAPES = [(1, 1), (1, 9), (9, 1), (64, 64), (683, 512), (512, 683), (5, 4), (3, 5000), (1000, 999)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("size", [1, 7, 64, 512])
def test_the_long_side_fills_the_square_and_the_short_one_is_rounded_half_up(
    shape: tuple[int, int], size: int
) -> None:
    short = max(1, math.floor(min(shape) * size / max(shape) + 0.5))
    assert fitted(*shape, size) == ((short, size) if shape[0] < shape[1] else (size, short))


def test_a_tie_is_rounded_up() -> None:
    assert fitted(1, 4, 2) == (1, 2)
    assert fitted(3, 4, 2) == (2, 2)
    assert fitted(5, 4, 10) == (10, 8)
    assert fitted(4, 8, 5) == (3, 5)


@pytest.mark.parametrize(("out", "inside"), [(1, 1), (1, 5), (5, 1), (4, 4), (7, 3), (3, 7), (1000, 512)])
def test_every_row_takes_the_one_under_its_center(out: int, inside: int) -> None:
    expected = [math.floor((row + 0.5) * inside / out) for row in range(out)]
    assert source_rows(out, inside).tolist() == expected


def test_a_mask_of_the_squares_size_comes_back_as_it_is() -> None:
    square = np.arange(36, dtype=np.uint8).reshape(6, 6)
    assert np.array_equal(restored(square, 6, 6), square)


def test_the_padding_is_never_read() -> None:
    square = np.full((8, 8), 9, np.uint8)
    square[:4] = 1
    assert set(restored(square, 21, 42).flat) == {1}
    assert set(restored(square.T.copy(), 42, 21).flat) == {1}


def test_a_mask_is_brought_to_the_images_size() -> None:
    square = np.zeros((4, 4), np.uint8)
    square[0, 2:] = 5
    found = restored(square, 4, 8)
    assert found.shape == (4, 8)
    assert found.dtype == np.uint8
    assert np.array_equal(found[:2], np.repeat([[0, 0, 0, 0, 5, 5, 5, 5]], 2, axis=0))
