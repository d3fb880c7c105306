"""Colors of classes: what a mask is shown in."""

from __future__ import annotations

import functools

import numpy as np

Color = tuple[int, int, int]
"""Red, green and blue, 0..255."""

LEVELS = np.linspace(25, 250, 8).round()
"""What each channel of a color may be; 512 colors in all, neither black nor white."""

FIRST = (57, 121, 218)

WEIGHTS = np.array([2.0, 4.0, 3.0])
"""How much a difference in red, green or blue is seen."""


def default_palette(classes: int) -> list[Color]:
    """Return a color for each class, the same at every time: each as far as can be from those before it.

    From the 513th on they come again.
    """
    colors = _colors()
    return [colors[number % len(colors)] for number in range(classes)]


@functools.cache
def _colors() -> tuple[Color, ...]:
    grid = np.stack(np.meshgrid(LEVELS, LEVELS, LEVELS, indexing="ij"), axis=-1).reshape(-1, 3)
    found: list[Color] = []
    apart = _distance(grid, np.array(FIRST))
    row = int(apart.argmin())
    apart[:] = np.inf
    for _ in range(len(grid)):
        found.append((int(grid[row, 0]), int(grid[row, 1]), int(grid[row, 2])))
        apart = np.minimum(apart, _distance(grid, grid[row]))
        row = int(apart.argmax())
    return tuple(found)


def _distance(colors: np.ndarray, other: np.ndarray) -> np.ndarray:
    distance: np.ndarray = ((colors - other) ** 2 * WEIGHTS).sum(axis=-1)
    return distance
