"""Galleries that one machine cannot hold: embedded and searched by the processes of a Ray cluster.

A cluster is the one that ``RAY_ADDRESS`` names or that the program has connected to, or else one of this machine's
own, which ends with the work. One process lists the gallery; what reaches the others are descriptions of images, and
what comes back are receipts: images are decoded where they are embedded, and shards are written by whoever made them,
whole, so that nothing finished is lost with a process, this one included.
"""

from __future__ import annotations

import copy
import json
import logging
import os
import socket
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import torch

from tutelage.curation.embedding_work import Work, computes_in
from tutelage.curation.embeddings import Embeddings
from tutelage.curation.neighbors import Neighbors
from tutelage.curation.ray_workers import ATTEMPTS, Embedder, Lister, forget_attempts, received_error
from tutelage.curation.search import Vectors, merged, search
from tutelage.errors import RunError, TutelageError
from tutelage.ledger import Cost

CPUS = 4
"""Cores of a process without a GPU: more of them share one copy of the encoders, fewer keep the encoders busier."""

APPEARS = 30.0
"""Seconds until a file that another machine wrote must be seen here: shared folders show them late."""

QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    # Or else every program is told on stderr that Ray Data's own actors keep arguments in the object store.
    "RAY_BACKEND_LOG_LEVEL": "fatal",
}
"""What Ray reads from the environment when it starts; what is set already stays."""


@dataclass(frozen=True)
class RayEngine:
    """Embeds shards on Ray Data (see :class:`tutelage.curation.embedding_work.Engine`).

    Attributes:
        actors: Processes that embed; as many as the cluster has room for if not given.
        cpus: Cores of each; :data:`CPUS` if not given, or with GPUs an equal share of all cores.
        gpus: GPUs of each; one where the cluster has any if not given.
    """

    actors: int | None = None
    cpus: int | None = None
    gpus: float | None = None

    @contextmanager
    def connected(self) -> Iterator[str]:
        """Hold the connection to the cluster; gives what its processes compute in.

        Raises:
            RunError: Ray is not installed, or the cluster cannot be reached or has no room.
        """
        with connected() as ray:
            size = self._sized(ray)
            task = ray.remote(_computes_in).options(num_cpus=size.cpus, num_gpus=size.gpus)
            yield ray.get(task.remote(size.gpus)) if size.gpus else computes_in(torch.device("cpu"))

    def embed(self, work: Work, names: Iterator[str]) -> Generator[tuple[str, Cost], None, None]:
        """Embed shards; see :data:`tutelage.store.folder.MakeAll`.

        Raises:
            DataError: The gallery cannot be read any more, or not by all machines.
            ModelError: An encoder gives values that are not finite.
            RunError: The gallery has changed, a shard cannot be written or is not seen here, or processes die again
                and again.
        """
        wanted = list(names)
        if not wanted:
            return
        with connected() as ray:
            size = self._sized(ray)
            held = replace(work, encoders=[copy.deepcopy(each).cpu() for each in work.encoders])
            forget_attempts(work)
            home = str(Path.cwd())
            pool = ray.data.ActorPoolStrategy
            one = pool(size=1, max_tasks_in_flight_per_actor=1)  # a gallery is listed in order
            receipts = (
                ray.data.from_items([{"name": name} for name in wanted], override_num_blocks=len(wanted))
                .map_batches(Lister, fn_constructor_args=[work.listing, home], compute=one, num_cpus=0, batch_size=1)
                .map_batches(
                    Embedder,
                    fn_constructor_args=[ray.put(held), size.cpus, size.gpus, home],
                    compute=pool(size=min(size.actors, len(wanted))),
                    num_cpus=size.cpus,
                    num_gpus=size.gpus,
                    batch_size=1,
                )
            )
            receipts.context.enable_progress_bars = receipts.context.print_on_execution_start = False
            with _problems(ray):
                for batch in receipts.iter_batches(batch_size=None, prefetch_batches=0):
                    for text in batch["receipt"]:
                        yield _received(work, json.loads(str(text)))

    def _sized(self, ray: Any) -> _Size:
        has = ray.cluster_resources()
        cores, cards = int(has.get("CPU", 0)), float(has.get("GPU", 0))
        gpus = (1.0 if cards else 0.0) if self.gpus is None else self.gpus
        places = int(cards // gpus) if gpus else cores
        cpus = self.cpus or (max(1, cores // max(1, places)) if gpus else min(CPUS, max(1, cores)))
        actors = self.actors or min(places, cores // cpus)
        if actors < 1:
            raise RunError(
                f"Ray: a process of {cpus} cores and {gpus:g} GPUs finds no room in a cluster of {cores} cores and "
                f"{cards:g} GPUs; ask for less, or for a number of processes if it grows"
            )
        return _Size(actors, cpus, gpus)


@dataclass(frozen=True)
class _Size:
    """How many processes embed, and what each has."""

    actors: int
    cpus: int
    gpus: float


def search_with_ray(queries: Sequence[Vectors], embeddings: Embeddings, k: int) -> Neighbors:
    """Find the nearest items of a gallery for each query; what :func:`tutelage.curation.search.search` finds.

    Args:
        queries: Unit vectors of each encoder, float32 [Q, D_e].
        embeddings: Of the gallery, by the same encoders, in a folder that all machines share.
        k: How many neighbors; all items where there are no more.

    Raises:
        DataError: A vector is not finite or not of length 1, encoders differ, or k is not positive.
        RunError: Ray is not installed, the cluster cannot be reached, or a shard is not seen by all machines.
    """
    gallery = [embeddings.vectors(encoder) for encoder in range(len(queries))]
    shards = len(embeddings.starts) - 1
    with connected() as ray:
        parts = min(shards, max(1, int(ray.cluster_resources().get("CPU", 1))))
        edges = np.linspace(0, shards, parts + 1).astype(int).tolist()
        given, task = ray.put(list(queries)), ray.remote(search).options(max_retries=ATTEMPTS - 1)
        waiting = [
            task.remote(given, [each[start:end] for each in gallery], k, first=int(embeddings.starts[start]))
            for start, end in pairwise(edges)
        ]
        best: Neighbors | None = None
        with _problems(ray):
            while waiting:
                done, waiting = ray.wait(waiting)
                found = ray.get(done[0])
                best = merged([found] if best is None else [best, found], k)  # copied out of Ray's memory as well
    return best if best is not None else search(queries, gallery, k)


@contextmanager
def connected() -> Iterator[Any]:
    """Hold a connection to a cluster, and give the library; what was connected before stays so.

    Raises:
        RunError: Ray is not installed, or the cluster cannot be reached.
    """
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise RunError('Ray is not installed; pip install "tutelage[ray]", or leave out --engine ray') from error
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    if ray.is_initialized():
        yield ray
        return
    address = os.environ.get("RAY_ADDRESS")
    try:
        _knock(address or "local")
        with _muted():
            ray.init(address or "local", include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    except Exception as error:  # what a cluster that is not there raises depends on the address
        where = f"RAY_ADDRESS={address}" if address else "Ray"
        raise RunError(f"{where}: no connection ({_first_line(error)}); is the cluster up?") from error
    try:
        yield ray
    finally:
        ray.shutdown()


def _knock(address: str) -> None:
    """Raise OSError where nobody listens: Ray itself would try for minutes."""
    place = urlsplit(address if "://" in address else f"//{address}")
    if place.hostname and place.port:
        socket.create_connection((place.hostname, place.port), timeout=10).close()


@contextmanager
def _muted() -> Iterator[None]:
    """Send what is written to stderr nowhere: connecting, Ray writes there past all settings; errors are raised."""
    kept = os.dup(2)
    try:
        with Path(os.devnull).open("wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def _received(work: Work, receipt: dict[str, Any]) -> tuple[str, Cost]:
    """Return the name and the cost of a shard, once it is seen here."""
    if "error" in receipt:
        raise received_error(*receipt["error"])
    name, deadline = str(receipt["name"]), time.monotonic() + APPEARS
    while not work.shelf.path(name).exists():
        if time.monotonic() > deadline:
            raise RunError(
                f"{work.shelf.path(name)}: was written on {receipt['node']}, and is not seen here; set store.folder "
                "to a folder that all machines of the cluster share"
            )
        time.sleep(0.2)
    return name, Cost(**receipt["cost"])


def _computes_in(gpus: float) -> str:
    return computes_in(torch.device("cuda" if gpus else "cpu"))


@contextmanager
def _problems(ray: Any) -> Iterator[None]:
    """Turn what Ray raises into our own errors, but for mistakes in the program."""
    try:
        yield
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, TutelageError):
            raise error.cause from None
        raise
    except ray.exceptions.RayError as error:
        raise RunError(
            f"Ray: {_first_line(error)}; what is finished stays, the same command goes on. Where processes ran out "
            "of memory, ask for fewer with more cores each"
        ) from error


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), "") or type(error).__name__
