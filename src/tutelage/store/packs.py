"""Packed images and masks: decoded and downscaled once, as uint8 and int16 in mapped shards."""

from __future__ import annotations

import math
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tutelage.data.images import DecodedImages, Images
from tutelage.data.loader import MOST_WORKERS
from tutelage.data.masks import DecodedMasks, Masks
from tutelage.data.pixels import image_size
from tutelage.data.samples import ImageSource, IntArray, Samples, same_source
from tutelage.errors import RunError
from tutelage.ledger import Cost
from tutelage.progress import Progress
from tutelage.store.budget import Budget
from tutelage.store.folder import Store
from tutelage.store.selections import JoinedImages, SomeImages
from tutelage.store.shards import FAULT, TOUCHED, Array, Content, Joined, Shard

PACKING = 1
"""Version of what a packed image is: how it is decoded, downscaled and laid out."""

MASK_PACKING = 1
"""Version of what a packed mask is."""

SHARD_BYTES = 32 << 20
"""About how large a shard is."""

MOST_ROWS = 8192
"""Most images a shard."""

BLOCK = 32
"""Images that a thread decodes at a time."""

MEASURED = 100
"""Images whose size is looked at to estimate how large a pack will be."""


class PackedImages:
    """Images (or masks) from a pack; those that had no room in it are decoded each time.

    Args:
        store: The pack; open as long as its images are in use.
        shards: Its shards in order; ``None`` for those that had no room.
        rows: Images a shard.
        others: Gives the images that are in no shard.
        channels: 3, or 1 for masks.

    Attributes:
        at_hand: Whether all are packed.
    """

    def __init__(
        self, store: Store, shards: Sequence[Shard | None], rows: int, others: Images, channels: int = 3
    ) -> None:
        self.at_hand = all(shard is not None for shard in shards)
        self._store = store
        self._shards = shards
        self._rows = rows
        self._others = others
        self._channels = channels
        self._size = sum(len(shard.mapping) for shard in shards if shard is not None)
        self._touched = 0
        self._lock = threading.Lock()

    def get(self, rows: IntArray) -> list[Tensor]:
        """Return the images in ``rows``, uint8 [3, H, W] (int16 [H, W] masks): views of the pack, read as used."""
        count = self._channels
        numbers, places = np.divmod(rows, self._rows)
        found: list[Tensor | None] = [None] * len(rows)
        for number in np.unique(numbers).tolist():
            where = np.flatnonzero(numbers == number)
            shard = self._shards[number]
            if shard is None:
                images = self._others.get(rows[where])
            else:
                pixels = torch.from_numpy(shard.arrays["pixels"])
                pixels = pixels if count > 1 else pixels.view(torch.int16)
                sizes = shard.arrays["sizes"][places[where]].tolist()
                starts = shard.arrays["starts"][places[where]].tolist()
                images = [
                    pixels.as_strided((count, height, width), (1, count * width, count), start)
                    for start, (height, width) in zip(starts, sizes, strict=True)
                ]
                images = images if count > 1 else [image[0] for image in images]
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
        self._open_masks: dict[tuple[int, int], Images] = {}

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

    def masks(self, samples: Samples, short_side: int) -> Masks:
        """Return the masks of some samples, each of the size that its image has in :meth:`images`.

        Args:
            samples: The samples.
            short_side: As in :meth:`images`.

        Raises:
            DataError: A mask cannot be decoded (any more).
        """
        assert samples.masks is not None
        for number, pool in enumerate(self._pools):
            rows = None if pool.masks is None else _places(samples, pool)
            if rows is not None and _same_masks(samples, pool, rows):
                if (number, short_side) not in self._open_masks:
                    pack = pack_masks(self._root, self._max_bytes, pool, short_side, self._progress)
                    self._open_masks[number, short_side] = pack
                return SomeImages(self._open_masks[number, short_side], rows)
        return DecodedMasks(samples.masks, short_side)

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
    rows = max(1, min(MOST_ROWS, SHARD_BYTES // (4 * short_side**2)))
    identity = {
        "packing": PACKING,
        "short_side": short_side,
        "rows": rows,
        "samples": samples.without_targets().fingerprint,
    }
    return _pack(root, max_bytes, samples.images, DecodedImages(samples.images, short_side), identity, 3, progress)


def pack_masks(root: Path, max_bytes: int, samples: Samples, short_side: int, progress: Progress) -> Images:
    """Decode all masks once, as :func:`pack_images` does images.

    Raises:
        DataError: A mask cannot be decoded.
    """
    assert samples.images is not None
    assert samples.masks is not None
    rows = max(1, min(MOST_ROWS, SHARD_BYTES // (3 * short_side**2)))
    identity = {
        "mask_packing": MASK_PACKING,
        "short_side": short_side,
        "rows": rows,
        "samples": samples.fingerprint,
    }
    return _pack(root, max_bytes, samples.images, DecodedMasks(samples.masks, short_side), identity, 1, progress)


def _pack(
    root: Path,
    max_bytes: int,
    sources: Sequence[ImageSource],
    live: Images,
    identity: Mapping[str, Any],
    channels: int,
    progress: Progress,
) -> Images:
    rows, what = identity["rows"], "images" if channels == 3 else "masks"
    names = [f"{number:06d}" for number in range(math.ceil(len(sources) / rows))]
    try:
        store = Store(root, "packs", identity)
        if not all(name in store for name in names):
            _build(store, names, sources, live, channels, Budget(root, max_bytes), progress)
    except RunError as error:
        progress.say(f"{error}. {what.capitalize()} are decoded in every epoch")
        return live
    found = [store.shard(name) if name in store else None for name in names]
    if lacking := sum(min(rows, len(sources) - rows * n) for n, shard in enumerate(found) if shard is None):
        share = lacking / len(sources)
        progress.say(f"store.max_gb or the disk leaves no room for {share:.0%} of the {what}: they are decoded live")
    return PackedImages(store, found, rows, live, channels)


def _build(
    store: Store,
    names: Sequence[str],
    sources: Sequence[ImageSource],
    live: Images,
    channels: int,
    budget: Budget,
    progress: Progress,
) -> None:
    rows, what = int(store.identity["rows"]), "images" if channels == 3 else "masks"
    image_bytes = packed_bytes(sources, store.identity["short_side"])
    if channels == 1:  # of two bytes, as many as their images have pixels
        image_bytes = 2 * image_bytes // 3

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
            starts = np.concatenate([[0], np.cumsum(channels * sizes.prod(axis=1, dtype=np.int64))])
            return {"pixels": Joined([pixels for pixels, _ in blocks]), "starts": starts, "sizes": sizes}

        try:
            store.build(names, make, budget=budget, progress=progress, label=f"pack {what}", room=room)
        finally:
            pool.shutdown(cancel_futures=True)


def _block(images: Images, rows: IntArray) -> tuple[Array, Array]:
    """Return some images (or masks) as bytes of pixels, and their height and width, int32 [n, 2].

    Pixels lie in rows, [H, W, 3] or [H, W], one image behind the other: so a crop is read, and resized fastest.
    """
    found = [(image.permute(1, 2, 0) if image.ndim == 3 else image).numpy() for image in images.get(rows)]
    sizes = np.array([image.shape[:2] for image in found], dtype=np.int32)
    return np.concatenate([image.reshape(-1) for image in found]).view(np.uint8), sizes


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


def _same_masks(samples: Samples, pool: Samples, rows: IntArray) -> bool:
    """Return whether samples have the masks that a pool has in these rows."""
    pairs = zip(samples.masks or (), ((pool.masks or ())[row] for row in rows), strict=True)
    return all(same_source(one.source, other.source) and one.code == other.code for one, other in pairs)
