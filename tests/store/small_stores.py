"""Small stores for tests: what a shard holds follows from its name."""

from __future__ import annotations

import os
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from tutelage.ledger import Cost
from tutelage.progress import Quiet, Update
from tutelage.store.budget import Budget
from tutelage.store.folder import Make, Store
from tutelage.store.shards import Array

GB = 10**9

NAMES = ("a", "b", "c")


class Heard(Quiet):
    """Keeps what is said."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.bars: list[list[int]] = []

    def say(self, text: str) -> None:
        self.said.append(text)

    @contextmanager
    def track(self, label: str, total: int) -> Iterator[Update]:
        self.bars.append(bar := [total])
        yield lambda done, numbers: bar.append(done)


def content(name: str, size: int = 600) -> dict[str, Array]:
    generator = np.random.default_rng(zlib.crc32(name.encode()))
    return {
        "pixels": generator.integers(0, 256, size, dtype=np.uint8),
        "logits": generator.normal(size=(4, 5)).astype(np.float16),
    }


class Maker:
    """Makes shards, and remembers which."""

    def __init__(self, size: int = 600, fails_at: str = "", error: BaseException | None = None) -> None:
        self.made: list[str] = []
        self._size = size
        self._fails_at, self._error = fails_at, error

    def __call__(self, name: str, cost: Cost) -> Mapping[str, Array]:
        if name == self._fails_at and self._error:
            raise self._error
        self.made.append(name)
        cost.images, cost.flops = 4, 100.0
        return content(name, self._size)


def build(
    store: Store,
    make: Make,
    *,
    names: Sequence[str] = NAMES,
    most: int = GB,
    heard: Heard | None = None,
    room: Callable[[str], int] = lambda name: 700,
) -> Cost:
    return store.build(
        names, make, budget=Budget(store.folder.parent, most), progress=heard or Heard(), label="make", room=room
    )


def opened(root: Path, **identity: object) -> Store:
    return Store(root, "targets", {"teacher": "t", **identity})


def finished(root: Path, size: int = 600, **identity: object) -> Store:
    store = opened(root, **identity)
    build(store, Maker(size))
    return store


def holds(store: Store, names: Sequence[str] = NAMES, size: int = 600) -> bool:
    """Whether each shard is there and holds what it should."""
    return all(
        name in store
        and all(np.array_equal(store.shard(name).arrays[key], array) for key, array in content(name, size).items())
        for name in names
    )


def python(script: str, *arguments: object) -> subprocess.Popen[str]:
    """Start a process that can import this module."""
    return subprocess.Popen(
        [sys.executable, "-c", script, *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent), "OMP_NUM_THREADS": "1"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
