"""Embeddings of a gallery: computed once, a shard at a time, for one encoder or several.

    ROOT/embeddings-FINGERPRINT/  store.json · PIECE.safetensors …

A shard is named by the fingerprint of the piece of the gallery that it is about, so that a gallery that grows keeps
the shards that it had. With n images in it and V = n * crops items it holds ``vectors.E`` of each encoder, unit
vectors, float16 [V, D_E]; ``image`` (row of each item's image) and ``number`` (which of its crops), int32 [V];
``box``, float32 [V, 4]; ``ids``, one UTF-8 text, and where each id ends in it, ``ends``, int64 [n]; ``problems``,
JSON. Images that cannot be decoded are no items; they are among the problems. Seed, policy, id and number cut a crop
again.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from tutelage.curation.crops import Cutting, cut
from tutelage.curation.gallery import Piece, pieces
from tutelage.data.inspect import found_in
from tutelage.data.loader import MOST_WORKERS
from tutelage.data.problems import Problem, in_words, summarize
from tutelage.data.samples import ImageSource, IntArray, Samples
from tutelage.errors import DataError, ModelError, RunError
from tutelage.ledger import Cost, counted, measured
from tutelage.models.model import Encoder, Head, Model
from tutelage.models.preprocess import ImagePreprocess
from tutelage.progress import Progress
from tutelage.store.budget import Budget
from tutelage.store.folder import Store
from tutelage.store.packs import PACKING
from tutelage.store.settings import GB
from tutelage.store.shards import Array
from tutelage.store.spec import teacher_identity
from tutelage.training.precision import precision
from tutelage.views.policy import SCHEME

EMBEDDINGS = 1
"""Version of what a shard of embeddings is."""

SHARD_BYTES = 64 << 20
"""About how large a shard is."""

MOST_IMAGES = 16_384
"""Most images a shard: what an interruption may cost."""

BATCH = 64
"""Views that an encoder sees at a time."""

_BESIDE = 24
"""Bytes of an item beside its vectors."""

_ID = 64
"""About how long an id is, in bytes."""

Job = TypeVar("Job")
Result = TypeVar("Result")


@dataclass
class Embedded:
    """What encoders make of some samples.

    Attributes:
        vectors: Of each encoder, unit vectors, float16 [V, D_E]; an image's crops follow each other.
        boxes: Where each item lies in its image, float32 [V, 4].
        ids: Of the images, [n].
        problems: What was left out.
    """

    vectors: list[npt.NDArray[np.float16]]
    boxes: npt.NDArray[np.float32]
    ids: list[str] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)


def embed(
    samples: Iterable[Samples],
    encoders: Sequence[Encoder],
    cutting: Cutting,
    *,
    cost: Cost | None = None,
) -> Embedded:
    """Embed samples: threads decode each image once and cut it, while the encoders work on those before.

    Args:
        samples: With images; only a few are in memory at a time.
        encoders: In eval mode, on one device.
        cutting: What of each image is an item.
        cost: Gets images and FLOPs.

    Raises:
        ModelError: An encoder reads no images, or gives values that are not finite.
    """
    preprocesses = [_preprocess(encoder) for encoder in encoders]
    device = next(encoders[0].parameters()).device
    spent, flops = cost or Cost(), 0.0
    found = Embedded([], np.empty((0, 4), np.float32))
    vectors: list[list[Tensor]] = [[] for _ in encoders]
    boxes: list[npt.NDArray[np.float32]] = []

    def work(job: tuple[str, np.uint64, ImageSource]) -> tuple[str, list[Tensor], Any] | Problem:
        name, key, image = job
        try:
            return name, *cut(image, key, cutting, preprocesses, device=device)
        except DataError as error:
            _, kind, detail = found_in(0, error)
            return Problem(kind, name, detail)

    def forward(views: Sequence[Tensor]) -> list[Tensor]:
        with torch.no_grad(), precision(device):
            return [_unit(encoder, each.to(device)) for encoder, each in zip(encoders, views, strict=True)]

    images = max(1, BATCH // cutting.count)
    jobs = ((name, key, image) for chunk in samples for name, key, image in _images(chunk, found.problems))
    with ThreadPoolExecutor(_workers(), "embed", torch.set_num_threads, (1,)) as pool:
        for batch in _batches(_ahead(pool, work, jobs, 2 * images), images, found.problems):
            views = [torch.cat([each[1][number] for each in batch]) for number in range(len(encoders))]
            if flops:
                made = forward(views)
            else:
                # Every image is the same work, so the first batch's count stands for all.
                made, total = counted(lambda views=views: forward(views))  # type: ignore[misc]
                flops = total / len(batch)
            for held, values in zip(vectors, made, strict=True):
                held.append(values)
            boxes += [each[2] for each in batch]
            found.ids += [each[0] for each in batch]
    spent.images += len(found.ids)
    spent.flops += flops * len(found.ids)
    if boxes:
        found.boxes = np.concatenate(boxes)
    for encoder, held in zip(encoders, vectors, strict=True):
        empty = torch.empty(0, encoder.widths[output_of(encoder)], dtype=torch.float16)
        found.vectors.append(torch.cat([empty, *held]).numpy())
    return found


def output_of(encoder: Encoder) -> str:
    """Return which of an encoder's outputs is compared: its embedding in a shared space, or else its features."""
    return "embedding" if "embedding" in encoder.widths else "features"


@dataclass(frozen=True)
class Items:
    """Which crop of which image some items are.

    Attributes:
        ids: Of their images.
        numbers: Which crop of its image each is, int64 [n].
        boxes: Relative to the image, float32 [n, 4].
    """

    ids: list[str]
    numbers: IntArray
    boxes: npt.NDArray[np.float32]


class Embeddings:
    """A gallery's embeddings; only what is asked for is mapped.

    Args:
        store: Holds all the shards.
        names: The gallery's shards in order.
        cutting: What an item is.

    Attributes:
        cutting: As given.
        cost: What making everything in the store has cost, whoever made it.
    """

    def __init__(self, store: Store, names: Sequence[str], cutting: Cutting) -> None:
        self._store = store
        self._names = list(names)
        self.cutting = cutting
        self.cost = store.cost
        counts = [len(store.shard(name).arrays["number"]) for name in names]
        self._starts = np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])

    def __len__(self) -> int:
        return int(self._starts[-1])

    @property
    def folder(self) -> Path:
        """Where they are."""
        return self._store.folder

    def vectors(self, encoder: int = 0) -> Sequence[npt.NDArray[np.float16]]:
        """Return an encoder's vectors, a shard each, mapped when taken: as :func:`tutelage.curation.search` wants."""
        return _Vectors(self._store, self._names, f"vectors.{encoder}")

    def images(self, rows: IntArray) -> IntArray:
        """Return the number of the image that each item was cut from; images are numbered through the gallery."""
        return rows // self.cutting.count

    def items(self, rows: IntArray) -> Items:
        """Return which crops of which images some items are.

        Raises:
            RunError: A shard has been removed or damaged meanwhile.
        """
        found = Items([""] * len(rows), np.empty(len(rows), np.int64), np.empty((len(rows), 4), np.float32))
        parts = np.searchsorted(self._starts, rows, side="right") - 1
        for part in np.unique(parts).tolist():
            where = np.flatnonzero(parts == part)
            arrays, inside = self._store.shard(self._names[part]).arrays, rows[where] - self._starts[part]
            found.numbers[where], found.boxes[where] = arrays["number"][inside], arrays["box"][inside]
            ends = arrays["ends"]
            for place, image in zip(where.tolist(), arrays["image"][inside].tolist(), strict=True):
                start = int(ends[image - 1]) if image else 0
                found.ids[place] = (
                    arrays["ids"][start : int(ends[image])].tobytes().decode("utf-8", "surrogateescape")
                )
        return found

    def problems(self) -> Iterator[Problem]:
        """Yield what was left out of the gallery, a shard's at a time."""
        for name in self._names:
            told = json.loads(self._store.shard(name).arrays["problems"].tobytes())
            yield from (Problem(**each) for each in told)


def embed_gallery(
    root: Path,
    max_bytes: int,
    where: str,
    encoders: Sequence[Encoder],
    cutting: Cutting,
    *,
    progress: Progress,
) -> Embeddings:
    """Embed a gallery, or find that it has been done: shards that are there are not made again.

    The gallery is first listed, then embedded; memory is that of a shard, however large it is.

    Args:
        root: Folder of all stores.
        max_bytes: Most that they may hold together.
        where: The gallery, as for :func:`tutelage.data.readers.read_samples`.
        encoders: On one device.
        cutting: What of each image is an item.
        progress: Shows how many shards are done.

    Raises:
        DataError: The gallery is missing or damaged, or none of its images can be decoded.
        ModelError: An encoder reads no images, or gives values that are not finite.
        RunError: There is no room for all of it, it cannot be written, or the gallery changes meanwhile.
    """
    if not encoders:
        raise ModelError(f"{where}: there is no encoder to embed it with; name at least one")
    for encoder in encoders:
        _preprocess(encoder)
    item = 2 * sum(encoder.widths[output_of(encoder)] for encoder in encoders) + _BESIDE
    images = max(1, min(MOST_IMAGES, SHARD_BYTES // (item * cutting.count)))
    plan = {_name(piece): len(piece) for piece in pieces(where, images)}
    store = Store(root, "embeddings", _identity(encoders, cutting))
    modes = [encoder.training for encoder in encoders]
    try:
        for encoder in encoders:
            encoder.eval()
        store.build(
            list(plan),
            _Passes(pieces(where, images), where, encoders, cutting).shard,
            budget=Budget(root, max_bytes),
            progress=progress,
            label="embed",
            room=lambda name: plan[name] * (item * cutting.count + _ID),
        )
    finally:
        for encoder, mode in zip(encoders, modes, strict=True):
            encoder.train(mode)
    if lacking := sum(name not in store for name in plan):
        size = sum(plan.values()) * (item * cutting.count + _ID)
        raise RunError(
            f"{store.folder}: store.max_gb={max_bytes / GB:g} or the disk leaves no room for {lacking} of "
            f"{len(plan)} shards of embeddings ({size / GB:.2f} GB in all); raise store.max_gb, or free space"
        )
    made = Embeddings(store, list(plan), cutting)
    if not len(made):
        told = in_words(summarize(made.problems())["counts"])
        raise DataError(
            f"{where}: holds no image that can be decoded ({told or 'it is empty'}); is it the right place?"
        )
    return made


class _Passes:
    """Encoders at work for a store, from one piece of the gallery to the next."""

    def __init__(self, pieces: Iterator[Piece], where: str, encoders: Sequence[Encoder], cutting: Cutting) -> None:
        self._pieces = pieces
        self._where = where
        self._encoders = encoders
        self._cutting = cutting

    def shard(self, name: str, cost: Cost) -> Mapping[str, Array]:
        """Return a shard's arrays; shards are asked for in the gallery's order."""
        piece = next((piece for piece in self._pieces if _name(piece) == name), None)
        if piece is None:
            raise RunError(f"{self._where}: was changed while it was embedded; the same command goes on")
        with measured(cost, next(self._encoders[0].parameters()).device):
            return arrays_of(embed(piece.chunks, self._encoders, self._cutting, cost=cost), self._cutting)


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


class _Vectors(Sequence[npt.NDArray[np.float16]]):
    """An encoder's vectors, a shard each."""

    def __init__(self, store: Store, names: Sequence[str], array: str) -> None:
        self._store = store
        self._names = names
        self._array = array

    def __len__(self) -> int:
        return len(self._names)

    def __getitem__(self, number: int) -> npt.NDArray[np.float16]:  # type: ignore[override]
        return self._store.shard(self._names[number]).arrays[self._array]


def _identity(encoders: Sequence[Encoder], cutting: Cutting) -> dict[str, Any]:
    device = next(encoders[0].parameters()).device
    with precision(device):
        narrow = torch.is_autocast_enabled(device.type)
    return {
        "embeddings": EMBEDDINGS,
        "packing": PACKING,
        "views": SCHEME,
        "encoders": [
            {**teacher_identity(Model(encoder, Head())), "output": output_of(encoder)} for encoder in encoders
        ],
        "cutting": cutting.identity,
        "precision": str(torch.get_autocast_dtype(device.type) if narrow else torch.float32),
    }


def _name(piece: Piece) -> str:
    return piece.fingerprint[:32]


def _preprocess(encoder: Encoder) -> ImagePreprocess:
    if not isinstance(encoder.preprocess, ImagePreprocess):
        raise ModelError(f"{encoder.name}: reads no images alone; a gallery of images needs an encoder of images")
    return encoder.preprocess


def _unit(encoder: Encoder, views: Tensor) -> Tensor:
    """Return unit vectors, float16 [B, D], on the CPU."""
    output = output_of(encoder)
    values = encoder(views, frozenset({output})).require(output).float()
    if not bool(torch.isfinite(values).all()):
        raise ModelError(f"{encoder.name}: gives {output} that are not finite; its weights or inputs are damaged")
    return F.normalize(values, dim=1).half().cpu()


def _images(chunk: Samples, problems: list[Problem]) -> Iterator[tuple[str, np.uint64, ImageSource]]:
    problems += chunk.problems
    yield from zip(chunk.ids, chunk.keys, chunk.images or (), strict=True)


def _workers() -> int:
    return min(MOST_WORKERS, torch.get_num_threads())


def _ahead(
    pool: ThreadPoolExecutor, work: Callable[[Job], Result], jobs: Iterable[Job], most: int
) -> Iterator[Result]:
    """Yield what threads make of jobs, in order, never more than ``most`` ahead."""
    waiting: deque[Future[Result]] = deque()
    for job in jobs:
        waiting.append(pool.submit(work, job))
        if len(waiting) > most:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def _batches(
    found: Iterable[tuple[str, list[Tensor], Any] | Problem], size: int, problems: list[Problem]
) -> Iterator[list[tuple[str, list[Tensor], Any]]]:
    """Yield what could be decoded in batches; the rest is a problem."""
    batch = []
    for each in found:
        if isinstance(each, Problem):
            problems.append(each)
            continue
        batch.append(each)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch
