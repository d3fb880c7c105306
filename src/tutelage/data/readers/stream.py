"""Unlabeled collections a chunk at a time: for those whose list of samples alone does not fit in memory."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from tutelage.data.problems import Problem
from tutelage.data.readers.folders import check_folder, folder_rows, remote_rows, unlabeled_root
from tutelage.data.readers.kinds import check_modality, find_kind, read_samples
from tutelage.data.readers.rows import Found, Row, Wanted, chunks, cleaned
from tutelage.data.readers.shards import expand, shard_rows
from tutelage.data.samples import Samples
from tutelage.errors import DataError

if TYPE_CHECKING:  # which needs torch
    from tutelage.models.preprocess import Modality

CHUNK = 1000
"""Samples in a chunk, at most."""


def stream_samples(
    where: str,
    *,
    shard: int = 0,
    shards: int = 1,
    modality: Modality = "image",
    columns: Mapping[str, str] | None = None,
) -> Iterator[Samples]:
    """Yield the samples of one of ``shards`` equal shares of the data, unlabeled, at most :data:`CHUNK` at a time.

    The shares have no sample in common, together hold all, and stay the same from one reading to the next. Archives
    go to the shares whole; samples of all else by a hash of their ids, which does not change when data are added.
    Tar shards and folders are indexed on the way, so that memory does not grow with them; other kinds are read first.

    Args:
        where: The data, as for :func:`tutelage.data.readers.read_samples`.
        shard: Which share, from 0 on.
        shards: How many shares.
        modality: What is wanted, as for :func:`tutelage.data.readers.read_samples`.
        columns: What our columns are called in tables, likewise.

    Raises:
        DataError: The data are missing or damaged, or there is no such share.
        UnknownNameError: No reader has that name.
    """
    if not 0 <= shard < shards:
        raise DataError(f"{where}: there is no share {shard} of {shards}; they are numbered from 0 on")
    kind, rest = find_kind(where)
    check_modality(kind, where, modality)
    wanted = Wanted(labeled=False, modality=modality, columns=columns or {})
    return chunks(_share(kind, rest, where, wanted, shard, shards), where, CHUNK)


def _share(kind: str, rest: str, where: str, wanted: Wanted, shard: int, shards: int) -> Iterator[Found]:
    if kind == "tar":
        yield from cleaned(shard_rows(expand(rest), wanted, shard=shard, shards=shards))
        return
    for each in _everything(kind, rest, where, wanted):
        name = each.where if isinstance(each, Problem) else each.id
        if int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "big") % shards == shard:
            yield each


def _everything(kind: str, rest: str, where: str, wanted: Wanted) -> Iterator[Found]:
    root = unlabeled_root(rest) if wanted.images and kind in ("folder", "url") else rest
    if kind == "folder":
        check_folder(rest)
        yield from cleaned(folder_rows(root, wanted.modality))
    elif kind == "url":
        yield from cleaned(remote_rows(root, wanted.modality))
    else:
        samples = read_samples(where, labeled=False, modality=wanted.modality, columns=wanted.columns)
        yield from samples.problems
        for row, name in enumerate(samples.ids):
            image = None if samples.images is None else samples.images[row]
            yield Row(name, image, None, None if samples.texts is None else samples.texts[row])
