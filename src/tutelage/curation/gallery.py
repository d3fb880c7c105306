"""A gallery in pieces: a few thousand samples at a time, in an order that stays, told apart by what they hold."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from tutelage.data.problems import Problem
from tutelage.data.readers.stream import stream_samples
from tutelage.data.samples import ImageSource, Samples
from tutelage.errors import DataError
from tutelage.models.preprocess import Modality

Content = ImageSource | str
"""An image, or a text."""


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


def pieces(
    where: str, count: int, *, modality: Modality = "image", shard: int = 0, shards: int = 1
) -> Iterator[Piece]:
    """Yield a gallery in pieces; nothing is decoded.

    Args:
        where: The gallery, as for :func:`tutelage.data.readers.read_samples`.
        count: Samples a piece, at least; but for the last, as many as whole chunks hold.
        modality: What the gallery holds: images, or texts.
        shard: Which share of the gallery (see :func:`tutelage.data.readers.stream.stream_samples`).
        shards: How many shares.

    Raises:
        DataError: The gallery is missing or damaged, or holds something else.
    """
    held: list[Samples] = []
    for chunk in stream_samples(where, shard=shard, shards=shards, modality=modality):
        if chunk.modality != modality:
            raise DataError(f"{where}: holds {chunk.modality}s; a gallery of {modality}s is wanted")
        held.append(chunk)
        if sum(map(len, held)) >= count:
            yield _piece(held)
            held = []
    if held:
        yield _piece(held)


def pieces_of(samples: Samples, count: int) -> Iterator[Piece]:
    """Yield samples that are at hand in pieces of so many; labels do not count."""
    bare = samples.without_targets()
    for start in range(0, len(bare), count):
        yield _piece([bare.subset(np.arange(start, min(start + count, len(bare))))])


def contents(samples: Samples) -> Sequence[Content]:
    """Return the images of samples, or their texts."""
    return (samples.images if samples.texts is None else samples.texts) or ()


def samples_from(ids: Sequence[str], found: Sequence[Content], where: str, modality: Modality) -> Samples:
    """Return images or texts as samples; what :func:`contents` gave."""
    if modality == "text":
        return Samples(tuple(ids), texts=[str(each) for each in found], origin=where)
    return Samples(tuple(ids), images=[each for each in found if not isinstance(each, str)], origin=where)


def chosen(where: str, ids: Collection[str], modality: Modality = "image") -> Samples:
    """Return those samples of a gallery that have one of some ids, the first of each, in the gallery's order.

    Raises:
        DataError: One is not there (any more), or the gallery cannot be read.
    """
    found = present(where, ids, modality)
    if lacking := sorted(set(ids) - found.keys()):
        raise DataError(
            f"{where}: lacks {len(lacking)} {modality}s that it had, such as {lacking[0]}; was it changed?"
        )
    return samples_from(tuple(found), list(found.values()), where, modality)


def present(where: str, ids: Collection[str], modality: Modality = "image") -> dict[str, Content]:
    """Return the images (or texts) of a gallery that have one of some ids, the first of each, in its order.

    It is read until all are found; those that are not there (any more) are left out.

    Raises:
        DataError: The gallery cannot be read.
    """
    wanted = set(ids)
    found: dict[str, Content] = {}
    for chunk in stream_samples(where, modality=modality):
        for name, content in zip(chunk.ids, contents(chunk), strict=True):
            if name in wanted:
                found.setdefault(name, content)
        if len(found) == len(wanted):
            break
    return found


def _piece(chunks: list[Samples]) -> Piece:
    digest = hashlib.sha256("".join(chunk.fingerprint for chunk in chunks).encode())
    return Piece(tuple(chunks), digest.hexdigest())
