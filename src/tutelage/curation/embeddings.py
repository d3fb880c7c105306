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
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from tutelage.curation.crops import Cutting
from tutelage.curation.embed import Embedded, embed, output_of, preprocess_of
from tutelage.curation.gallery import Piece, pieces, pieces_of
from tutelage.data.problems import Problem, in_words, summarize
from tutelage.data.samples import IntArray, Samples
from tutelage.errors import DataError, ModelError, RunError
from tutelage.ledger import Cost, measured
from tutelage.models.model import Encoder, Head, Model
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

    def vectors(self, encoder: int = 0) -> Sequence[npt.NDArray[np.float16]]:
        """Return an encoder's vectors, a shard each, mapped when taken: as :func:`tutelage.curation.search` wants."""
        return _Vectors(self._store, self._names, f"vectors.{encoder}")

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
    return _embedded(root, max_bytes, where, lambda images: pieces(where, images), encoders, cutting, progress)


def embed_samples(
    root: Path,
    max_bytes: int,
    samples: Samples,
    encoders: Sequence[Encoder],
    cutting: Cutting,
    *,
    progress: Progress,
) -> Embeddings:
    """Embed samples that are at hand, all of them, as :func:`embed_gallery` does; labels do not matter.

    Args:
        root: Folder of all stores.
        max_bytes: Most that they may hold together.
        samples: With images.
        encoders: On one device.
        cutting: What of each image is an item.
        progress: Shows how many shards are done.

    Raises:
        DataError: An image cannot be decoded.
        ModelError: An encoder reads no images, or gives values that are not finite.
        RunError: There is no room for all of it, or it cannot be written.
    """
    where = samples.origin or "these samples"
    made = _embedded(root, max_bytes, where, lambda images: pieces_of(samples, images), encoders, cutting, progress)
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
) -> Embeddings:
    if not encoders:
        raise ModelError(f"{where}: there is no encoder to embed it with; name at least one")
    for encoder in encoders:
        preprocess_of(encoder)
    item = 2 * sum(encoder.widths[output_of(encoder)] for encoder in encoders) + _BESIDE
    images = max(1, min(MOST_IMAGES, SHARD_BYTES // (item * cutting.count)))
    plan = {_name(piece): len(piece) for piece in cut(images)}
    store = Store(root, "embeddings", _identity(encoders, cutting))
    modes = [encoder.training for encoder in encoders]
    try:
        for encoder in encoders:
            encoder.eval()
        store.build(
            list(plan),
            _Passes(cut(images), where, encoders, cutting).shard,
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
