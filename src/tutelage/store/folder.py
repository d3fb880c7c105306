"""A store: a folder of shards that belong to one identity, built once, by one process at a time.

    ROOT/KIND-FINGERPRINT/  store.json · store.journal · NAME.safetensors … · .building and .used (locks)

``store.json`` names the finished shards, and ``store.journal`` those that were added since it was written; whatever
else lies in the folder does not count, but for whole shards that other processes wrote for the builder, which may
have been killed before it could name them. A shard's size and time tell whether anything has touched it since; only
then is its checksum looked at, so that opening takes no time.
"""

from __future__ import annotations

import fcntl
import os
import time
import weakref
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

from tutelage.errors import RunError
from tutelage.ledger import Cost
from tutelage.progress import Progress
from tutelage.run import fingerprint_of
from tutelage.store.budget import MANIFEST, USED, Budget, lock
from tutelage.store.manifest import SCHEMA, Manifest, summed
from tutelage.store.shards import Content, Shard, ShardError, checksum, open_shard
from tutelage.store.shelf import Shelf

BUILDING = ".building"
"""Held by the one process that adds shards."""

ATTEMPTS = 100
"""How often a store's folder is made that others remove at the same time."""

Make = Callable[[str, Cost], Mapping[str, Content]]
"""Makes the arrays of the shard with this name, and adds what that took to the cost."""

MakeAll = Callable[[Iterator[str]], Generator[tuple[str, Cost], None, None]]
"""Writes the shards with these names, in any order, and yields the name of each that is written and what it took."""


class Store:
    """An open store.

    Args:
        root: Folder of all stores.
        kind: What is kept, such as ``packs`` or ``targets``.
        identity: All that decides the content, plain data.

    Attributes:
        folder: Where it is.
        shelf: The same for other processes.
        identity: As given.
        found_damaged: Names of the shards that were finished and are not what was written, or may not be: with a
            damaged manifest, or another store's, none counts.
        close: Lets others remove the store; at the latest when nobody refers to it any more.

    Raises:
        RunError: The folder cannot be written, or was made by a newer version.
    """

    def __init__(self, root: Path, kind: str, identity: Mapping[str, Any]) -> None:
        self.identity = dict(identity)
        self._fingerprint, self.folder = _place(root, kind, self.identity)
        self.shelf = Shelf(self.folder.absolute(), self._fingerprint)
        self.found_damaged: list[str] = []
        self._manifest = Manifest(self.folder, self._fingerprint, {"kind": kind, "identity": self.identity})
        self.close = weakref.finalize(self, os.close, _hold(self.folder))
        self._read()

    def __contains__(self, name: str) -> bool:
        return name in self._manifest.shards

    @property
    def names(self) -> Sequence[str]:
        """Names of all finished shards."""
        return list(self._manifest.shards)

    @property
    def cost(self) -> Cost:
        """What building its shards has cost so far, whoever built them."""
        return self._manifest.cost

    @property
    def nbytes(self) -> int:
        """Bytes of all finished shards."""
        return sum(entry["bytes"] for entry in self._manifest.shards.values())

    def shard(self, name: str) -> Shard:
        """Map a finished shard.

        Raises:
            RunError: It has been removed or damaged since the store was opened.
        """
        return self.shelf.shard(name)

    def build(
        self,
        names: Sequence[str],
        make: Make,
        *,
        budget: Budget,
        progress: Progress,
        label: str,
        room: Callable[[str], int],
    ) -> Cost:
        """Make the shards that are missing, in order, until all are there or the budget is spent.

        Another process that builds the same store is waited for, and what it made is taken.

        Args:
            names: The shards wanted.
            make: Makes one.
            budget: Says whether there is room for another.
            progress: Shows how many are done.
            label: What is being made.
            room: About how many bytes a shard will take.

        Returns:
            What this call cost.

        Raises:
            RunError: A shard cannot be written. Finished ones stay.
        """

        def here(wanted: Iterator[str]) -> Generator[tuple[str, Cost], None, None]:
            for name in wanted:
                began, part = time.perf_counter(), Cost()
                self.shelf.write(name, make(name, part))
                part.seconds = time.perf_counter() - began
                yield name, part

        return self.collect(names, here, budget=budget, progress=progress, label=label, room=room)

    def collect(
        self,
        names: Sequence[str],
        make: MakeAll,
        *,
        budget: Budget,
        progress: Progress,
        label: str,
        room: Callable[[str], int],
    ) -> Cost:
        """Have other processes write the shards that are missing, as :meth:`build` does here, and take them.

        Whole shards that were written for a builder that has been killed are taken as well.

        Args:
            names: The shards wanted.
            make: Has them written to the store's :class:`Shelf`, with their cost.
            budget: Says whether there is room for another beside those that are being written.
            progress: Shows how many are done.
            label: What is being made.
            room: About how many bytes a shard will take.

        Returns:
            What this call cost: seconds are the sum over all processes.

        Raises:
            RunError: A shard cannot be written. Finished ones stay.
        """
        spent = Cost()
        if all(name in self for name in names):
            return spent
        with self._building(progress):
            self._read()
            if all(name in self for name in names):
                return spent
            with self._manifest.growing():
                for name in names:
                    if name not in self and (part := self.shelf.written(name)):
                        self._finish(name, part)
                missing = [name for name in names if name not in self]
                if damaged := set(missing) & set(self.found_damaged):
                    progress.say(f"{self.folder}: {len(damaged)} damaged shards are made again")
                with (
                    progress.track(label, len(names)) as update,
                    closing(make(self._allowed(missing, budget, room))) as finished,
                ):
                    for done, (name, part) in enumerate(finished, len(names) - len(missing) + 1):
                        self._finish(name, part)
                        spent = summed(spent, part)
                        update(done, {})
        return spent

    def _allowed(self, missing: Sequence[str], budget: Budget, room: Callable[[str], int]) -> Iterator[str]:
        """Yield the shards that there is room for beside those that were yielded before and are not finished."""
        begun: deque[str] = deque()
        held = 0
        for name in missing:
            while begun and begun[0] in self:
                held -= room(begun.popleft())
            if not budget.allows(held + room(name), keep=self.folder):
                return
            begun.append(name)
            held += room(name)
            yield name

    def _read(self) -> None:
        """Learn which shards are finished, and whole."""
        self.found_damaged = []
        if not self._manifest.read():
            self.found_damaged = sorted(file.stem for file in self.folder.glob("*.safetensors"))
        for name, entry in list(self._manifest.shards.items()):
            if not self._whole(name, entry):
                del self._manifest.shards[name]
                self.found_damaged.append(name)

    def _whole(self, name: str, entry: Mapping[str, Any]) -> bool:
        try:
            status = self.shelf.path(name).stat()
            if (status.st_size, status.st_mtime_ns) == (entry["bytes"], entry["mtime_ns"]):
                return True
            shard = open_shard(self.shelf.path(name))
        except (OSError, ShardError):
            return False
        # Copied or touched, or damaged: reading it all tells.
        found = (shard.about.get("store"), shard.about.get("name"), checksum(shard.arrays))
        if found != (self._fingerprint, name, entry["checksum"]):
            return False
        with suppress(OSError):  # its time is set right, so that it is not read again each time
            os.utime(self.shelf.path(name), ns=(status.st_atime_ns, entry["mtime_ns"]))
        return True

    def _finish(self, name: str, cost: Cost) -> None:
        status = self.shelf.path(name).stat()
        entry = {
            "bytes": status.st_size,
            "mtime_ns": status.st_mtime_ns,
            "checksum": open_shard(self.shelf.path(name)).about["checksum"],
        }
        self._manifest.add(name, entry, cost)

    @contextmanager
    def _building(self, progress: Progress) -> Iterator[None]:
        try:
            building = (self.folder / BUILDING).open("a")
        except OSError as error:
            raise _unwritable(self.folder, error) from error
        with building:
            try:
                fcntl.flock(building, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                progress.say(f"{self.folder}: another process is building this; waiting for it")
                fcntl.flock(building, fcntl.LOCK_EX)
            yield


def finished_shards(root: Path, kind: str, identity: Mapping[str, Any]) -> frozenset[str]:
    """Return the names of a store's finished shards; where there is no such store, none is made.

    Raises:
        RunError: It cannot be opened, or was made by a newer version.
    """
    if not (_place(root, kind, identity)[1] / MANIFEST).exists():
        return frozenset()
    store = Store(root, kind, identity)
    return frozenset(store.names)


def _place(root: Path, kind: str, identity: Mapping[str, Any]) -> tuple[str, Path]:
    """Return a store's fingerprint and folder."""
    fingerprint = fingerprint_of({"schema": SCHEMA, "kind": kind, "identity": dict(identity)})
    return fingerprint, root / f"{kind}-{fingerprint[:24]}"


def _hold(folder: Path) -> int:
    """Make a store's folder, and say that it is in use as long as the returned descriptor is open."""
    for _ in range(ATTEMPTS):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            handle = os.open(folder / USED, os.O_RDWR | os.O_CREAT, 0o644)
            try:
                lock(handle, folder / USED, fcntl.LOCK_SH)
                os.utime(handle)
            except OSError:
                os.close(handle)
                raise
            return handle
        except (FileNotFoundError, FileExistsError) as error:
            problem = error  # as a rule: removed at the same time, to make room
        except OSError as error:
            raise _unwritable(folder, error) from error
    raise _unwritable(folder, problem)


def _unwritable(folder: Path, error: OSError) -> RunError:
    return RunError(f"{folder}: cannot be written ({error.strerror}); set store.folder to another place")
