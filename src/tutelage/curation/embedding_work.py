"""What embedding a shard of a gallery takes, in whichever process it is done."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from typing import Protocol

import numpy as np
import torch

from tutelage.curation.crops import Cutting
from tutelage.curation.embed import Embedded, embed
from tutelage.curation.gallery import Piece
from tutelage.errors import RunError
from tutelage.ledger import Cost, measured
from tutelage.models.model import Encoder
from tutelage.store.shards import Array
from tutelage.store.shelf import Shelf
from tutelage.training.precision import precision


class Listing:
    """A gallery's pieces by name, asked for in the gallery's order: it is listed only as far as they are asked for.

    Args:
        where: The gallery, for messages.
        cut: Lists it.
    """

    def __init__(self, where: str, cut: Callable[[], Iterator[Piece]]) -> None:
        self._where = where
        self._cut = cut
        self._pieces: Iterator[Piece] | None = None

    def __reduce__(self) -> tuple[type[Listing], tuple[str, Callable[[], Iterator[Piece]]]]:
        return Listing, (self._where, self._cut)  # how far it is listed does not go to other processes

    def piece(self, name: str) -> Piece:
        """Return a piece; one that came before is listed anew, as after a crash.

        Raises:
            RunError: There is no such piece any more.
            DataError: The gallery cannot be read any more.
        """
        for _ in range(2):
            if self._pieces is None:
                self._pieces = self._cut()
            for piece in self._pieces:
                if name_of(piece) == name:
                    return piece
            self._pieces = None
        raise RunError(f"{self._where}: was changed while it was embedded; the same command goes on")


@dataclass(frozen=True)
class Work:
    """What is embedded, with what, and where to.

    Attributes:
        shelf: Of the store.
        listing: Of the gallery.
        encoders: In eval mode, on one device.
        cutting: What of each image is an item.
    """

    shelf: Shelf
    listing: Listing
    encoders: Sequence[Encoder]
    cutting: Cutting

    def here(self, names: Iterator[str]) -> Generator[tuple[str, Cost], None, None]:
        """Embed shards in this process; see :data:`tutelage.store.folder.MakeAll`."""
        for name in names:
            began, cost = time.perf_counter(), Cost()
            self.shelf.write(name, shard_of(self.listing.piece(name), self.encoders, self.cutting, cost))
            cost.seconds = time.perf_counter() - began
            yield name, cost


class Engine(Protocol):
    """Embeds in other processes."""

    def connected(self) -> AbstractContextManager[str]:
        """Hold the connection to them; gives what they compute in (see :func:`computes_in`)."""
        ...

    def embed(self, work: Work, names: Iterator[str]) -> Generator[tuple[str, Cost], None, None]:
        """Embed shards; see :data:`tutelage.store.folder.MakeAll`."""
        ...


def shard_of(piece: Piece, encoders: Sequence[Encoder], cutting: Cutting, cost: Cost) -> dict[str, Array]:
    """Return the arrays of a piece's shard, and add what they took to the cost.

    Raises:
        ModelError: An encoder gives values that are not finite.
    """
    with measured(cost, next(encoders[0].parameters()).device):
        return arrays_of(embed(piece.chunks, encoders, cutting, cost=cost), cutting)


def arrays_of(found: Embedded, cutting: Cutting) -> dict[str, Array]:
    """Return what a shard holds of some embedded samples."""
    ids = [name.encode("utf-8", "surrogateescape") for name in found.ids]
    image, number = np.divmod(np.arange(len(ids) * cutting.count, dtype=np.int32), np.int32(cutting.count))
    return {
        **{f"vectors.{encoder}": values for encoder, values in enumerate(found.vectors)},
        "image": image,
        "number": number,
        "box": found.boxes,
        "ids": np.frombuffer(b"".join(ids), np.uint8),
        "ends": np.cumsum([len(name) for name in ids], dtype=np.int64),
        "problems": np.frombuffer(json.dumps([asdict(each) for each in found.problems]).encode(), np.uint8),
    }


def computes_in(device: torch.device) -> str:
    """Return the number type that encoders compute in on a device."""
    with precision(device):
        narrow = torch.is_autocast_enabled(device.type)
    return str(torch.get_autocast_dtype(device.type) if narrow else torch.float32)


def name_of(piece: Piece) -> str:
    """Return the name of a piece's shard."""
    return piece.fingerprint[:32]
