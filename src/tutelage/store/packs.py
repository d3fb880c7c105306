"""Packed images: decoded and downscaled once, as uint8 in mapped shards."""

from __future__ import annotations

import math
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from tutelage.data.images import DecodedImages, Images
from tutelage.data.loader import MOST_WORKERS
from tutelage.data.pixels import image_size
from tutelage.data.samples import ImageSource, IntArray, Samples, same_source
from tutelage.errors import RunError
from tutelage.ledger import Cost
from tutelage.progress import Progress
from tutelage.store.budget import Budget
from tutelage.store.folder import Store
from tutelage.store.shards import FAULT, TOUCHED, Array, Content, Joined, Shard

PACKING = 1
"""Version of what a packed image is: how it is decoded, downscaled and laid out."""

SHARD_BYTES = 32 << 20
"""About how large a shard is."""

MOST_ROWS = 8192
"""Most images a shard."""

BLOCK = 32
"""Images that a thread decodes at a time."""

MEASURED = 100
"""Images whose size is looked at to estimate how large a pack will be."""


class PackedImages:
    """Images from a pack; those that had no room in it are decoded each time.

    Args:
        store: The pack; open as long as its images are in use.
        shards: Its shards in order; ``None`` for those that had no room.
        rows: Images a shard.
        others: Gives the images that are in no shard.

    Attributes:
        at_hand: Whether all are packed.
    """

    def __init__(self, store: Store, shards: Sequence[Shard | None], rows: int, others: Images) -> None:
        self.at_hand = all(shard is not None for shard in shards)
        self._store = store
        self._shards = shards
        self._rows = rows
        self._others = others
        self._size = sum(len(shard.mapping) for shard in shards if shard is not None)
        self._touched = 0
        self._lock = threading.Lock()

    def get(self, rows: IntArray) -> list[Tensor]:
        """Return the images in ``rows``, each uint8 [3, H, W]: views of the pack, read as they are used."""
        numbers, places = np.divmod(rows, self._rows)
        found: list[Tensor | None] = [None] * len(rows)
        for number in np.unique(numbers).tolist():
            where = np.flatnonzero(numbers == number)
            shard = self._shards[number]
            if shard is None:
                images = self._others.get(rows[where])
            else:
                pixels = torch.from_numpy(shard.arrays["pixels"])
                sizes = shard.arrays["sizes"][places[where]].tolist()
                starts = shard.arrays["starts"][places[where]].tolist()
                images = [
                    pixels.as_strided((3, height, width), (1, 3 * width, 3), start)
                    for start, (height, width) in zip(starts, sizes, strict=True)
                ]
            for place, image in zip(where.tolist(), images, strict=True):
                found[place] = image
        self._count(len(rows))
        return [image for image in found if image is not None]

    def _count(self, reads: int) -> None:
        """Keep mapped memory from growing with the number of images: what was read long ago is given back."""
        with self._lock:
            self._touched += reads
            if self._touched < TOUCHED or self._size <= TOUCHED * FAULT:
                return
            self._touched = 0
        for shard in self._shards:
            if shard is not None:
                shard.release()


@dataclass(frozen=True)
class SomeImages:
    """Some of the images of a pack, in an order of their own.

    Attributes:
        images: All of them.
        rows: Which.
    """

    images: Images
    rows: IntArray

    @property
    def at_hand(self) -> bool:
        """Whether all of them are packed."""
        return self.images.at_hand

    def get(self, rows: IntArray) -> list[Tensor]:
        """Return the images in ``rows`` of these."""
        return self.images.get(self.rows[rows])


@dataclass(frozen=True)
class JoinedImages:
    """The images of several samples, one after the other.

    Attributes:
        parts: Where those of each are, and how many.
    """

    parts: Sequence[tuple[Images, int]]

    @property
    def at_hand(self) -> bool:
        """Whether all of them are packed."""
        return all(images.at_hand for images, _ in self.parts)

    def get(self, rows: IntArray) -> list[Tensor]:
        """Return the images in ``rows``, counted through all parts."""
        starts = np.cumsum([0, *(count for _, count in self.parts)])
        numbers = np.searchsorted(starts, rows, side="right") - 1
        found: dict[int, Tensor] = {}
        for number, (images, _) in enumerate(self.parts):
            where = np.flatnonzero(numbers == number)
            if len(where):
                found.update(zip(where.tolist(), images.get(rows[where] - starts[number]), strict=True))
        return [found[place] for place in range(len(rows))]


class Packs:
    """The packs of a run, each built or opened when it is first needed.

    Args:
        root: Folder of all stores.
        max_bytes: Most that they may hold together.
        pools: Samples whose images are packed together; whatever is a part of one, such as a fold, uses its pack.
        progress: Shows packing.
    """

    def __init__(self, root: Path, max_bytes: int, pools: tuple[Samples, ...], progress: Progress) -> None:
        self._root = root
        self._max_bytes = max_bytes
        self._pools = pools
        self._progress = progress
        self._open: dict[tuple[int, int], Images] = {}

    def images(self, samples: Samples, short_side: int) -> Images:
        """Return the images of some samples, from a pack if they are a part of one of the pools.

        Args:
            samples: The samples.
            short_side: Of the images, where the originals are larger.

        Raises:
            DataError: An image cannot be decoded (any more).
        """
        assert samples.images is not None
        for number, pool in enumerate(self._pools):
            rows = _places(samples, pool)
            if rows is not None:
                if (number, short_side) not in self._open:
                    pack = pack_images(self._root, self._max_bytes, pool, short_side, self._progress)
                    self._open[number, short_side] = pack
                return SomeImages(self._open[number, short_side], rows)
        return DecodedImages(samples.images, short_side)

    def joined(self, parts: Sequence[Samples], short_side: int) -> Images:
        """Return the images of several samples, one after the other; each as in :meth:`images`."""
        if len(parts) == 1:
            return self.images(parts[0], short_side)
        return JoinedImages([(self.images(part, short_side), len(part)) for part in parts])


def pack_images(root: Path, max_bytes: int, samples: Samples, short_side: int, progress: Progress) -> Images:
    """Decode all images once, or find that it has been done.

    Where packs cannot be written, or not all of them, the other images are decoded each time; that is said.

    Args:
        root: Folder of all stores.
        max_bytes: Most that they may hold together.
        samples: The samples.
        short_side: Of the images, where the originals are larger.
        progress: Shows packing.

    Raises:
        DataError: An image cannot be decoded.
    """
    assert samples.images is not None
    live = DecodedImages(samples.images, short_side)
    rows = max(1, min(MOST_ROWS, SHARD_BYTES // (4 * short_side**2)))
    names = [f"{number:06d}" for number in range(math.ceil(len(samples) / rows))]
    identity = {
        "packing": PACKING,
        "short_side": short_side,
        "rows": rows,
        "samples": samples.without_targets().fingerprint,
    }
    try:
        store = Store(root, "packs", identity)
        if not all(name in store for name in names):
            _build(store, names, samples.images, live, rows, Budget(root, max_bytes), progress)
    except RunError as error:
        progress.say(f"{error}. Images are decoded in every epoch")
        return live
    found = [store.shard(name) if name in store else None for name in names]
    if lacking := sum(min(rows, len(samples) - rows * n) for n, shard in enumerate(found) if shard is None):
        share = lacking / len(samples)
        progress.say(f"store.max_gb or the disk leaves no room for {share:.0%} of the images: they are decoded live")
    return PackedImages(store, found, rows, live)


def _build(
    store: Store,
    names: Sequence[str],
    sources: Sequence[ImageSource],
    live: Images,
    rows: int,
    budget: Budget,
    progress: Progress,
) -> None:
    image_bytes = packed_bytes(sources, store.identity["short_side"])

    def room(name: str) -> int:
        return min(rows, len(sources) - int(name) * rows) * image_bytes

    workers = min(MOST_WORKERS, torch.get_num_threads())
    with ThreadPoolExecutor(workers, "pack", torch.set_num_threads, (1,)) as pool:
        ahead: dict[int, list[Future[tuple[Array, Array]]]] = {}

        def decode(number: int) -> list[Future[tuple[Array, Array]]]:
            stop = min((number + 1) * rows, len(sources))
            parts = [np.arange(start, min(start + BLOCK, stop)) for start in range(number * rows, stop, BLOCK)]
            return [pool.submit(_block, live, part) for part in parts]

        def make(name: str, cost: Cost) -> Mapping[str, Content]:
            number = int(name)
            blocks = [future.result() for future in ahead.pop(number, None) or decode(number)]
            if number + 1 < len(names) and names[number + 1] not in store:
                ahead[number + 1] = decode(number + 1)  # while this one is written
            sizes = np.concatenate([sizes for _, sizes in blocks])
            starts = np.concatenate([[0], np.cumsum(3 * sizes.prod(axis=1, dtype=np.int64))])
            return {"pixels": Joined([pixels for pixels, _ in blocks]), "starts": starts, "sizes": sizes}

        try:
            store.build(names, make, budget=budget, progress=progress, label="pack images", room=room)
        finally:
            pool.shutdown(cancel_futures=True)


def _block(images: Images, rows: IntArray) -> tuple[Array, Array]:
    """Return some images as pixels, uint8, and their height and width, int32 [n, 2].

    Pixels lie in rows, [H, W, 3], one image behind the other: so a crop is read, and resized fastest.
    """
    found = [image.permute(1, 2, 0).numpy() for image in images.get(rows)]
    sizes = np.array([image.shape[:2] for image in found], dtype=np.int32)
    return np.concatenate([image.reshape(-1) for image in found]), sizes


def packed_bytes(sources: Sequence[ImageSource], short_side: int) -> int:
    """Estimate the mean bytes of packed images from the sizes of some."""
    rows = np.linspace(0, len(sources) - 1, min(MEASURED, len(sources))).astype(int)
    sizes = np.array([image_size(sources[row]) for row in rows], dtype=np.float64)
    shares = np.minimum(1.0, short_side / sizes.min(axis=1))
    return math.ceil(3 * float((sizes.prod(axis=1) * shares**2).mean()))


def _places(samples: Samples, pool: Samples) -> IntArray | None:
    """Return where in a pool each sample is, or ``None`` if one is not there: other data may have the same ids."""
    if samples is pool:
        return np.arange(len(pool))
    assert samples.images is not None
    assert pool.images is not None
    places = {name: row for row, name in enumerate(pool.ids)}
    rows = [places.get(name, -1) for name in samples.ids]
    images = pool.images
    same = all(row >= 0 and same_source(image, images[row]) for row, image in zip(rows, samples.images, strict=True))
    return np.array(rows, dtype=np.int64) if same else None
