"""How much all stores together may take, and who makes room."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
from contextlib import suppress
from pathlib import Path

MANIFEST = "store.json"
"""Names a store's finished shards."""

USED = ".used"
"""Held shared by whoever has a store open, so that nobody removes it; its time is that of the last use."""

LEFT_FREE = 1 << 28
"""Bytes that stores leave free on the disk: runs must still be able to write their weights."""


SHARE = 8
"""Part of what is left that is given away before all is counted again: others write and remove stores as well."""


class Budget:
    """The room that stores may take in a folder.

    Counting takes a look at each file, so it is done again only when a share of what was left may be used up.

    Args:
        root: Folder of all stores.
        most: Bytes that it may hold.
    """

    def __init__(self, root: Path, most: int) -> None:
        self._root = root
        self._most = most
        self._granted = 0

    def allows(self, size: int, *, keep: Path) -> bool:
        """Return whether so many more bytes may be written, after removing unused stores if need be.

        Args:
            size: In bytes.
            keep: The store that they are for.
        """
        if size <= self._granted and self._on_disk(size):
            self._granted -= size
            return True
        if _size(keep) + size > self._most:
            return False  # no removal would help
        stores = _stores(self._root)
        for store in sorted(stores, key=lambda store: stores[store]):
            if self._fits(size):
                break
            if store != keep:
                _remove(store)
        return self._fits(size)

    def _fits(self, size: int) -> bool:
        left = self._most - sum(_size(store) for store in _stores(self._root)) - size
        self._granted = max(0, left // SHARE)
        return left >= 0 and self._on_disk(size)

    def _on_disk(self, size: int) -> bool:
        return size + LEFT_FREE <= shutil.disk_usage(self._root).free


def lock(file: int, path: Path, how: int) -> None:
    """Lock an open file.

    Raises:
        FileNotFoundError: It no longer lies at its path: its store was removed meanwhile, perhaps made again.
        OSError: It cannot be locked.
    """
    fcntl.flock(file, how)
    if not os.path.samestat(os.fstat(file), path.stat()):
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))


def _stores(root: Path) -> dict[Path, float]:
    """Return all stores, and when each was last used."""
    found = {}
    for folder in root.iterdir():
        with suppress(OSError):  # no store, removed meanwhile, or another user's
            found[folder] = (folder / USED).stat().st_mtime
    return found


def _size(store: Path) -> int:
    size = 0
    with suppress(OSError):
        for file in store.iterdir():
            with suppress(FileNotFoundError):  # a temporary file, renamed meanwhile
                size += file.stat().st_size
    return size


def _remove(store: Path) -> None:
    """Remove a store, unless somebody has it open."""
    with suppress(OSError), (store / USED).open("a") as used:
        lock(used.fileno(), store / USED, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # First what says that shards are finished: a removal that is cut short leaves nothing that looks whole. Last
        # what is locked: whoever opens the store meanwhile waits, and then makes it again.
        (store / MANIFEST).unlink(missing_ok=True)
        for file in store.iterdir():
            if file.name != USED:
                file.unlink()
        (store / USED).unlink()
        store.rmdir()
