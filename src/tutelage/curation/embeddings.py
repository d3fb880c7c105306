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
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, overload

import numpy as np
import numpy.typing as npt

from tutelage.curation.crops import Cutting
from tutelage.curation.embed import check_reads, output_of
from tutelage.curation.embedding_work import Engine, Listing, Work, computes_in, name_of
from tutelage.curation.gallery import Piece, pieces, pieces_of
from tutelage.data.problems import Problem, in_words, summarize
from tutelage.data.samples import IntArray, Samples
from tutelage.errors import DataError, ModelError, RunError
from tutelage.ledger import Cost
from tutelage.models.model import Encoder, Head, Model
from tutelage.models.preprocess import modality_of
from tutelage.progress import Progress
from tutelage.store.budget import Budget
from tutelage.store.folder import Store, finished_shards
from tutelage.store.packs import PACKING
from tutelage.store.settings import GB
from tutelage.store.shelf import Shelf
from tutelage.store.spec import teacher_identity
from tutelage.views.policy import SCHEME

EMBEDDINGS = 1
"""Version of what a shard of embeddings is."""

STORE = "embeddings"
"""What begins the names of their stores."""

SHARD_BYTES = 64 << 20
"""About how large a shard is."""

MOST_IMAGES = 16_384
"""Most images a shard: what an interruption may cost."""

_BESIDE = 24
"""Bytes of an item beside its vectors."""

_ID = 64
"""About how long an id is, in bytes."""


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
    """

    def __init__(self, store: Store, names: Sequence[str], cutting: Cutting) -> None:
        self._store = store
        self._names = list(names)
        self.cutting = cutting
        counts = [len(store.shard(name).arrays["number"]) for name in names]
        self._starts = np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])

    def __len__(self) -> int:
        return int(self._starts[-1])

    @property
    def folder(self) -> Path:
        """Where they are."""
        return self._store.folder

    @property
    def cost(self) -> Cost:
        """What making them has cost, whoever made them: their share of what everything in the store has cost."""
        every = self._store.cost
        share = min(1.0, len(self) // self.cutting.count / every.images) if every.images else 0.0
        return replace(
            every, seconds=share * every.seconds, images=round(share * every.images), flops=share * every.flops
        )

    @property
    def starts(self) -> IntArray:
        """The row of each shard's first item, and how many items there are, [shards + 1]."""
        return self._starts

    def vectors(self, encoder: int = 0) -> Sequence[npt.NDArray[np.float16]]:
        """Return an encoder's vectors, a shard each, mapped when taken: as :func:`tutelage.curation.search` wants."""
        return _Vectors(self._store.shelf, self._names, f"vectors.{encoder}")

    def take(self, rows: IntArray, encoder: int = 0) -> npt.NDArray[np.float16]:
        """Return an encoder's vectors of some items, [n, D_e]."""
        shards = self.vectors(encoder)
        found = np.empty((len(rows), shards[0].shape[1]), np.float16)
        parts = np.searchsorted(self._starts, rows, side="right") - 1
        for part in np.unique(parts).tolist():
            where = np.flatnonzero(parts == part)
            found[where] = shards[part][rows[where] - self._starts[part]]
        return found

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
    engine: Engine | None = None,
) -> Embeddings:
    """Embed a gallery, or find that it has been done: shards that are there are not made again.

    The gallery is first listed, then embedded; memory is that of a shard, however large it is.

    Args:
        root: Folder of all stores.
        max_bytes: Most that they may hold together.
        where: The gallery, as for :func:`tutelage.data.readers.read_samples`.
        encoders: On one device; they read what the gallery holds.
        cutting: What of each image is an item.
        progress: Shows how many shards are done.
        engine: What embeds, such as :class:`tutelage.curation.ray_engine.RayEngine`; this process if not given.

    Raises:
        DataError: The gallery is missing or damaged, or none of its images can be decoded.
        ModelError: An encoder reads no images, or gives values that are not finite.
        RunError: There is no room for all of it, it cannot be written, or the gallery changes meanwhile.
    """
    modality = modality_of(encoders[0].preprocess) if encoders else "image"
    cut = partial(pieces, where, modality=modality)
    return _embedded(root, max_bytes, where, cut, encoders, cutting, progress, "embed the gallery", engine)


def embed_samples(
    root: Path,
    max_bytes: int,
    samples: Samples,
    encoders: Sequence[Encoder],
    cutting: Cutting,
    *,
    progress: Progress,
    label: str = "embed",
) -> Embeddings:
    """Embed samples that are at hand, all of them, as :func:`embed_gallery` does; labels do not matter.

    Args:
        root: Folder of all stores.
        max_bytes: Most that they may hold together.
        samples: With images.
        encoders: On one device.
        cutting: What of each image is an item.
        progress: Shows how many shards are done.
        label: What is being embedded.

    Raises:
        DataError: An image cannot be decoded.
        ModelError: An encoder reads no images, or gives values that are not finite.
        RunError: There is no room for all of it, or it cannot be written.
    """
    where = samples.origin or "these samples"
    for encoder in encoders:
        check_reads(encoder, samples.modality)
    made = _embedded(root, max_bytes, where, partial(pieces_of, samples), encoders, cutting, progress, label)
    if len(made) < len(samples) * cutting.count:
        first = next(made.problems())
        raise DataError(f"{where}: {first.where}: cannot be decoded any more ({first.kind}); repair or remove it")
    return made


def _embedded(
    root: Path,
    max_bytes: int,
    where: str,
    cut: Callable[[int], Iterator[Piece]],
    encoders: Sequence[Encoder],
    cutting: Cutting,
    progress: Progress,
    label: str,
    engine: Engine | None = None,
) -> Embeddings:
    if not encoders:
        raise ModelError(f"{where}: there is no encoder to embed it with; name at least one")
    modality = modality_of(encoders[0].preprocess)
    for encoder in encoders:
        check_reads(encoder, modality)
    item, images = _sizes(encoders, cutting)
    plan = {name_of(piece): len(piece) for piece in cut(images)}
    computed = engine.connected() if engine else nullcontext(computes_in(next(encoders[0].parameters()).device))
    modes = [encoder.training for encoder in encoders]
    try:
        for encoder in encoders:
            encoder.eval()
        with computed as kind:
            store = Store(root, STORE, _identity(encoders, cutting, kind))
            work = Work(store.shelf, Listing(where, partial(cut, images)), encoders, cutting)
            store.collect(
                list(plan),
                partial(engine.embed, work) if engine else work.here,
                budget=Budget(root, max_bytes),
                progress=progress,
                label=label,
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
        told = in_words(summarize(made.problems())["counts"]) or "it is empty"
        possible = "decoded" if modality == "image" else "read"
        raise DataError(f"{where}: holds no {modality} that can be {possible} ({told}); is it the right place?")
    return made


def unembedded(
    root: Path, gallery: str | Samples, encoders: Sequence[Encoder], cutting: Cutting
) -> tuple[int, dict[str, int]]:
    """Return how many samples a gallery has, and of those that are not embedded yet how many there are in each shard.

    Nothing is embedded, and no store is made.

    Args:
        root: Folder of all stores.
        gallery: Its place, as for :func:`embed_gallery`, or samples that are at hand.
        encoders: On one device.
        cutting: What of each image is an item.

    Raises:
        DataError: The gallery is missing or damaged.
        RunError: The store cannot be opened.
    """
    _, images = _sizes(encoders, cutting)
    modality = modality_of(encoders[0].preprocess)
    cut = pieces(gallery, images, modality=modality) if isinstance(gallery, str) else pieces_of(gallery, images)
    plan = {name_of(piece): len(piece) for piece in cut}
    kind = computes_in(next(encoders[0].parameters()).device)
    done = finished_shards(root, STORE, _identity(encoders, cutting, kind))
    return sum(plan.values()), {name: count for name, count in plan.items() if name not in done}


def _sizes(encoders: Sequence[Encoder], cutting: Cutting) -> tuple[int, int]:
    """Return the bytes of an item, and how many images a shard has."""
    item = 2 * sum(encoder.widths[output_of(encoder)] for encoder in encoders) + _BESIDE
    return item, max(1, min(MOST_IMAGES, SHARD_BYTES // (item * cutting.count)))


class _Vectors(Sequence[npt.NDArray[np.float16]]):
    """An encoder's vectors, a shard each; another process may take them as well."""

    def __init__(self, shelf: Shelf, names: Sequence[str], array: str) -> None:
        self._shelf = shelf
        self._names = names
        self._array = array

    def __len__(self) -> int:
        return len(self._names)

    @overload
    def __getitem__(self, which: int) -> npt.NDArray[np.float16]: ...

    @overload
    def __getitem__(self, which: slice) -> _Vectors: ...

    def __getitem__(self, which: int | slice) -> npt.NDArray[np.float16] | _Vectors:
        if isinstance(which, slice):
            return _Vectors(self._shelf, self._names[which], self._array)
        return self._shelf.shard(self._names[which]).arrays[self._array]


def _identity(encoders: Sequence[Encoder], cutting: Cutting, computed: str) -> dict[str, Any]:
    return {
        "embeddings": EMBEDDINGS,
        "packing": PACKING,
        "views": SCHEME,
        "encoders": [
            {**teacher_identity(Model(encoder, Head())), "output": output_of(encoder)} for encoder in encoders
        ],
        "cutting": cutting.identity,
        "precision": computed,
    }
