"""A gallery in pieces: a few thousand images at a time, in an order that stays, told apart by what they hold."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator
from dataclasses import dataclass

import numpy as np

from tutelage.data.problems import Problem
from tutelage.data.readers.stream import stream_samples
from tutelage.data.samples import ImageSource, Samples
from tutelage.errors import DataError


@dataclass(frozen=True)
class Piece:
    """Some samples of a gallery that follow each other.

    Attributes:
        chunks: The samples, as the readers give them.
        fingerprint: Of their ids and of what identifies the content of each.
    """

    chunks: tuple[Samples, ...]
    fingerprint: str

    def __len__(self) -> int:
        return sum(len(chunk) for chunk in self.chunks)

    @property
    def problems(self) -> tuple[Problem, ...]:
        """What reading them left out."""
        return tuple(problem for chunk in self.chunks for problem in chunk.problems)


def pieces(where: str, images: int, *, shard: int = 0, shards: int = 1) -> Iterator[Piece]:
    """Yield a gallery in pieces; nothing is decoded.

    Args:
        where: The gallery, as for :func:`tutelage.data.readers.read_samples`.
        images: How many a piece, at least; but for the last, as many as whole chunks hold.
        shard: Which share of the gallery (see :func:`tutelage.data.readers.stream.stream_samples`).
        shards: How many shares.

    Raises:
        DataError: The gallery is missing or damaged, or holds no images.
    """
    held: list[Samples] = []
    for chunk in stream_samples(where, shard=shard, shards=shards):
        if chunk.images is None:
            raise DataError(f"{where}: holds texts alone; a gallery has images")
        held.append(chunk)
        if sum(map(len, held)) >= images:
            yield _piece(held)
            held = []
    if held:
        yield _piece(held)


def pieces_of(samples: Samples, images: int) -> Iterator[Piece]:
    """Yield samples that are at hand in pieces of so many images; labels do not count."""
    bare = samples.without_targets()
    for start in range(0, len(bare), images):
        yield _piece([bare.subset(np.arange(start, min(start + images, len(bare))))])


def chosen(where: str, ids: Collection[str]) -> Samples:
    """Return those samples of a gallery that have one of some ids, the first of each, in the gallery's order.

    Raises:
        DataError: One is not there (any more), or the gallery cannot be read.
    """
    images = present(where, ids)
    if lacking := sorted(set(ids) - images.keys()):
        raise DataError(f"{where}: lacks {len(lacking)} images that it had, such as {lacking[0]}; was it changed?")
    return Samples(tuple(images), images=list(images.values()), origin=where)


def present(where: str, ids: Collection[str]) -> dict[str, ImageSource]:
    """Return the images of a gallery that have one of some ids, the first of each, in the gallery's order.

    It is read until all are found; those that are not there (any more) are left out.

    Raises:
        DataError: The gallery cannot be read.
    """
    wanted = set(ids)
    images: dict[str, ImageSource] = {}
    for chunk in stream_samples(where):
        for name, image in zip(chunk.ids, chunk.images or (), strict=True):
            if name in wanted:
                images.setdefault(name, image)
        if len(images) == len(wanted):
            break
    return images


def _piece(chunks: list[Samples]) -> Piece:
    digest = hashlib.sha256("".join(chunk.fingerprint for chunk in chunks).encode())
    return Piece(tuple(chunks), digest.hexdigest())
