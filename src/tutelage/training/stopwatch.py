"""Taking the time of pieces of work: the median of a few turns, after some that are not counted."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from tutelage.progress import Quiet, Update

WARM = 2
"""Turns that are not counted: the first ones allocate, and choose kernels."""

TURNS = 30
"""Most turns that are counted."""


class EnoughError(Exception):
    """Measured long enough."""


class Stopwatch(Quiet):
    """Takes the time of every step of a training; the loop's reading of the loss makes a GPU finish it.

    Args:
        seconds: Ends the training with :class:`EnoughError` after so long, besides the first steps.

    Attributes:
        taken: Seconds of each step.
    """

    def __init__(self, seconds: float) -> None:
        self.taken: list[float] = []
        self._seconds = seconds

    @property
    def median(self) -> float:
        """Seconds of a step."""
        return statistics.median(self.taken[WARM:] or self.taken)

    @contextmanager
    def track(self, label: str, total: int) -> Iterator[Update]:
        """Take the time between updates."""
        last = time.perf_counter()

        def update(done: int, numbers: Mapping[str, float]) -> None:
            nonlocal last
            now = time.perf_counter()
            self.taken.append(now - last)
            last = now
            if len(self.taken) > WARM and sum(self.taken[WARM:]) > self._seconds:
                raise EnoughError

        yield update


def median_seconds(work: Callable[[], Any], seconds: float) -> float:
    """Return the median time of a turn, after a few that are not counted.

    Args:
        work: One turn.
        seconds: About how long all turns may take.
    """
    for _ in range(WARM):
        work()
    taken: list[float] = []
    while len(taken) < TURNS and sum(taken) < seconds:
        began = time.perf_counter()
        work()
        taken.append(time.perf_counter() - began)
    return statistics.median(taken)
