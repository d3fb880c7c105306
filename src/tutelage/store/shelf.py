"""Where a store's shards lie, for any process that writes or reads them; only the builder says which are finished."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tutelage.errors import RunError
from tutelage.ledger import Cost
from tutelage.store.shards import Content, Shard, ShardError, checksum, open_shard, write_shard


@dataclass(frozen=True)
class Shelf:
    """What a process must know to write and read a store's shards.

    Attributes:
        folder: The store's.
        fingerprint: The store's; it is in each of its shards.
    """

    folder: Path
    fingerprint: str

    def path(self, name: str) -> Path:
        """Return where a shard lies."""
        return self.folder / f"{name}.safetensors"

    def shard(self, name: str) -> Shard:
        """Map a finished shard.

        Raises:
            RunError: It has been removed or damaged since it was finished.
        """
        try:
            return open_shard(self.path(name))
        except ShardError as error:
            raise RunError(f"{error}; it was whole before. The same command makes it again") from error

    def write(self, name: str, arrays: Mapping[str, Content], cost: Cost | None = None) -> None:
        """Write a shard whole or not at all.

        Args:
            name: The shard's.
            arrays: What it holds.
            cost: What it took, where the builder is another process: should that be killed, the next one takes the
                shard as it is.

        Raises:
            RunError: It cannot be written.
        """
        about = {"store": self.fingerprint, "name": name}
        if cost is not None:
            about["cost"] = json.dumps(cost.as_dict())
        write_shard(self.path(name), arrays, about)

    def written(self, name: str) -> Cost | None:
        """Return what a shard took that lies here whole, written for a builder elsewhere, or else ``None``."""
        try:
            shard = open_shard(self.path(name))
            about = shard.about
            if "cost" not in about or (about["store"], about["name"]) != (self.fingerprint, name):
                return None
            return Cost(**json.loads(about["cost"])) if about["checksum"] == checksum(shard.arrays) else None
        except (ShardError, KeyError, TypeError, ValueError):
            return None
