"""What says which shards of a store are finished: its manifest, and while shards are added a journal beside it.

The manifest is written whole, which with many shards takes long. So while shards are made, each that is finished is
one line more of the journal, and the manifest takes the lines in once at the end. A line names the manifest that it
goes on from: what an interruption leaves of a journal that was taken in, or that another manifest has followed,
counts for nothing. Lines and manifest carry a digest of themselves, so that nothing that was cut short is believed.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from tutelage.errors import RunError
from tutelage.ledger import Cost
from tutelage.run import fingerprint_of, write_json
from tutelage.store.budget import MANIFEST

SCHEMA = 1
"""Version of a store's form."""

JOURNAL = "store.journal"
"""Beside a manifest: what was finished since it was written, one JSON object a line."""


class Manifest:
    """The finished shards of one store.

    Args:
        folder: The store's.
        fingerprint: The store's.
        about: What else there is to say of it, plain data.

    Attributes:
        shards: What is kept of each finished shard, by name, plain data.
        cost: What they took.
    """

    def __init__(self, folder: Path, fingerprint: str, about: Mapping[str, Any]) -> None:
        self.shards: dict[str, dict[str, Any]] = {}
        self.cost = Cost()
        self._folder = folder
        self._own = {"schema": SCHEMA, **about, "fingerprint": fingerprint}
        self._digest = ""
        self._journal: BinaryIO | None = None
        self._grown = False

    def read(self) -> bool:
        """Learn what is finished.

        Returns:
            Whether what was found can be trusted; if not, nothing counts as finished.

        Raises:
            RunError: It was written by a newer version.
        """
        self.shards, self.cost, self._digest = {}, Cost(), ""
        found = self._found()
        if found:
            self._digest = str(found["digest"])
            self.shards, self.cost = dict(found["shards"]), Cost(**found["cost"])
            for line in self._lines():
                self._take(line["name"], line["shard"], Cost(**line["cost"]))
        return found is not None

    @contextmanager
    def growing(self) -> Iterator[None]:
        """Hold the journal open, so that shards may be added; the manifest takes them in at the end.

        Raises:
            RunError: They cannot be written.
        """
        path = self._folder / JOURNAL
        if not self._digest or path.exists():
            self._write()
        try:
            self._journal, self._grown = path.open("ab"), False
        except OSError as error:
            raise _unwritable(path, error) from error
        try:
            with self._journal:
                yield
        except BaseException:
            with suppress(RunError):  # what went wrong first is told; the journal holds what was finished
                self._take_in(path)
            raise
        else:
            self._take_in(path)
        finally:
            self._journal = None

    def add(self, name: str, shard: Mapping[str, Any], cost: Cost) -> None:
        """Add a finished shard, while :meth:`growing`.

        Args:
            name: Its name.
            shard: What is kept of it, plain data.
            cost: What it took.

        Raises:
            RunError: It cannot be written.
        """
        assert self._journal is not None
        self._grown = True
        line = {"after": self._digest, "name": name, "shard": dict(shard), "cost": cost.as_dict()}
        try:
            self._journal.write(json.dumps({**line, "digest": fingerprint_of(line)}).encode() + b"\n")
            self._journal.flush()
            os.fsync(self._journal.fileno())
        except OSError as error:
            raise _unwritable(self._folder / JOURNAL, error) from error
        self._take(name, shard, cost)

    def _take(self, name: str, shard: Mapping[str, Any], cost: Cost) -> None:
        self.shards[name] = dict(shard)
        self.cost = summed(self.cost, cost)

    def _take_in(self, journal: Path) -> None:
        if self._grown:
            self._write()
        else:
            journal.unlink(missing_ok=True)

    def _write(self) -> None:
        data = {**self._own, "cost": self.cost.as_dict(), "shards": self.shards}
        self._digest = fingerprint_of(data)
        write_json(self._folder / MANIFEST, {**data, "digest": self._digest})
        with suppress(OSError):  # its lines go on from another manifest
            (self._folder / JOURNAL).unlink(missing_ok=True)

    def _found(self) -> dict[str, Any] | None:
        """Return the manifest, an empty one if there is none, or ``None`` if it is damaged, or another store's."""
        path = self._folder / MANIFEST
        try:
            manifest = json.loads(path.read_bytes())
            schema, newer = manifest["schema"], manifest["schema"] > SCHEMA
            content = {key: value for key, value in manifest.items() if key != "digest"}
            whole = manifest.get("digest") == fingerprint_of(content)
            whole = whole and manifest["fingerprint"] == self._own["fingerprint"]
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return None
        if newer:
            raise RunError(
                f"{path}: written by a newer version of tutelage (schema {schema}, known {SCHEMA}); update, "
                "or set store.folder to another place"
            )
        return manifest if whole else None

    def _lines(self) -> Iterator[dict[str, Any]]:
        """Yield what the journal holds, up to what is damaged or goes on from another manifest."""
        try:
            with (self._folder / JOURNAL).open("rb") as file:
                for text in file:
                    line = json.loads(text)
                    if line.pop("digest") != fingerprint_of(line) or line["after"] != self._digest:
                        return
                    yield line
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return


def summed(one: Cost, other: Cost) -> Cost:
    """Return what two pieces of work cost together, one after the other."""
    return Cost(
        seconds=one.seconds + other.seconds,
        images=one.images + other.images,
        flops=one.flops + other.flops,
        waiting=one.waiting + other.waiting,
        peak_memory=max(one.peak_memory, other.peak_memory),
        device=other.device or one.device,
    )


def _unwritable(path: Path, error: OSError) -> RunError:
    return RunError(f"{path}: cannot be written ({error.strerror}); free space, or set store.folder to another place")
