"""What runs in the processes of a Ray cluster: one lists a gallery, many embed its pieces and write their shards."""

from __future__ import annotations

import json
import os
import pickle
import platform
import uuid
from contextlib import suppress
from dataclasses import asdict
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from tutelage.curation.embedding_work import Listing, Work, shard_of
from tutelage.curation.gallery import Piece
from tutelage.errors import DataError, ModelError, RecipeError, RunError, TutelageError
from tutelage.ledger import Cost

ATTEMPTS = 4
"""How many processes may die over one shard: Ray Data itself would start another for ever."""

UNSEEN = ("vanished", "unreadable")
"""Kinds of problems that say nothing of an image, but that it was not reached."""

Batch = dict[str, npt.NDArray[Any]]
"""Rows of Ray Data; one here."""

_MARK = ".attempt-"
"""Begins the names of files that say that a shard was begun."""

_KINDS: dict[str, type[TutelageError]] = {each.__name__: each for each in (DataError, ModelError, RecipeError)}


class Lister:
    """Finds the pieces of a gallery, in its order: descriptions of images, not the images.

    Args:
        listing: Of the gallery.
        home: The folder that relative paths start from.
    """

    def __init__(self, listing: Listing, home: str) -> None:
        _enter(home)
        self._listing = listing

    def __call__(self, batch: Batch) -> Batch:
        """Return the name with the piece, or with what went wrong."""
        found: Piece | tuple[str, str]
        try:
            found = self._listing.piece(str(batch["name"][0]))
        except TutelageError as error:
            found = told(error)
        return {"name": batch["name"], "piece": np.array([pickle.dumps(found)], dtype=object)}


class Embedder:
    """Encoders at work in a process of their own.

    Args:
        work: Ray's reference to a :class:`Work` whose encoders are on the CPU.
        cpus: Cores that it has.
        gpus: GPUs that it has.
        home: The folder that relative paths start from.
    """

    def __init__(self, work: Any, cpus: int, gpus: float, home: str) -> None:
        import ray

        _enter(home)
        torch.set_num_threads(cpus)
        self._work: Work = ray.get(work)
        for encoder in self._work.encoders:
            encoder.to("cuda" if gpus else "cpu")
        self._node = platform.node()

    def __call__(self, batch: Batch) -> Batch:
        """Write a shard, and return the receipt: JSON with its name and cost, or with what went wrong."""
        name = str(batch["name"][0])
        receipt: dict[str, Any] = {"name": name, "node": self._node}
        try:
            piece = pickle.loads(batch["piece"][0])
            receipt["cost"] = asdict(self._shard(name, piece))
        except TutelageError as error:
            receipt["error"] = told(error)
        return {"receipt": np.array([json.dumps(receipt)])}

    def _shard(self, name: str, piece: Piece | tuple[str, str]) -> Cost:
        work = self._work
        if isinstance(piece, tuple):
            raise received_error(*piece)
        if not work.shelf.folder.is_dir():
            raise RunError(
                f"{work.shelf.folder}: is not seen from {self._node}; set store.folder to a folder that all machines "
                "of the cluster share"
            )
        if finished := work.shelf.written(name):
            return finished  # by a process that died before it could say so
        marks = f"{_MARK}{name}."
        if len(list(work.shelf.folder.glob(f"{marks}*"))) >= ATTEMPTS:
            raise RunError(
                f"{work.shelf.path(name)}: {ATTEMPTS} processes died while they made it, the last on {self._node}; "
                "where they ran out of memory, ask for fewer with more cores each"
            )
        (work.shelf.folder / f"{marks}{uuid.uuid4().hex}").touch()
        cost = Cost()
        arrays = shard_of(piece, work.encoders, work.cutting, cost)
        if not len(arrays["ends"]):
            problems = json.loads(arrays["problems"].tobytes())
            if problems and all(each["kind"] in UNSEEN for each in problems):
                raise DataError(
                    f"{problems[0]['where']}: {problems[0]['detail'] or problems[0]['kind']}, and the same of "
                    f"{len(problems)} images in all, as seen from {self._node}; all machines must see the gallery"
                )
        work.shelf.write(name, arrays, cost)
        forget_attempts(work, name)
        return cost


def forget_attempts(work: Work, name: str = "") -> None:
    """Forget that a shard was begun; all shards if none is named."""
    for mark in work.shelf.folder.glob(f"{_MARK}{name}*"):
        mark.unlink(missing_ok=True)


def told(error: TutelageError) -> tuple[str, str]:
    """Return what :func:`received_error` makes the error of again, in another process."""
    return type(error).__name__, str(error)


def received_error(kind: str, message: str) -> TutelageError:
    """Return an error that :func:`told` of."""
    return _KINDS.get(kind, RunError)(message)


def _enter(home: str) -> None:
    with suppress(OSError):  # where it is missing, relative paths lead nowhere, and what is not found there is named
        os.chdir(home)
