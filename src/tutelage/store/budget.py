"""How much all stores together may take, and who makes room."""

from __future__ import annotations

import fcntl
import shutil
from pathlib import Path

MANIFEST = "store.json"
"""Names a store's finished shards."""

USED = ".used"
"""Held shared by whoever has a store open, so that nobody removes it; its time is that of the last use."""

LEFT_FREE = 1 << 28
"""Bytes that stores leave free on the disk: runs must still be able to write their weights."""


class Budget:
    """The room that stores may take in a folder.

    Args:
        root: Folder of all stores.
        most: Bytes that it may hold.
    """

    def __init__(self, root: Path, most: int) -> None:
        self._root = root
        self._most = most
        self._held: int | None = None

    def allows(self, size: int, *, keep: Path) -> bool:
        """Return whether so many more bytes may be written, after removing unused stores if need be.

        Args:
            size: In bytes.
            keep: The store that they are for.
        """
        if self._held is None:
            self._held = sum(_size(store) for store in _stores(self._root))
        if size <= self._most:
            for store in sorted(_stores(self._root), key=_last_used):
                if self._fits(size):
                    break
                if store != keep:
                    self._held -= _removed(store)
        return self._fits(size)

    def took(self, size: int) -> None:
        """Count bytes that were written."""
        self._held = (self._held or 0) + size

    def _fits(self, size: int) -> bool:
        assert self._held is not None
        return self._held + size <= self._most and size + LEFT_FREE <= shutil.disk_usage(self._root).free


def _stores(root: Path) -> list[Path]:
    return [folder for folder in root.iterdir() if (folder / USED).is_file()]


def _size(store: Path) -> int:
    try:
        return sum(file.stat().st_size for file in store.iterdir())
    except FileNotFoundError:
        return 0  # removed by another process meanwhile


def _last_used(store: Path) -> float:
    try:
        return (store / USED).stat().st_mtime
    except FileNotFoundError:
        return 0.0


def _removed(store: Path) -> int:
    """Remove a store, unless somebody has it open; return how many bytes that gave."""
    try:
        with (store / USED).open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            size = _size(store)
            # First what says that shards are finished: a removal that is cut short leaves nothing that looks whole.
            (store / MANIFEST).unlink(missing_ok=True)
            shutil.rmtree(store, ignore_errors=True)
            return size
    except OSError:
        return 0
