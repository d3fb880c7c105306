"""Exact copies: images that are also test images, or labeled ones, and images that stand under two labels."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from pathlib import Path

import numpy as np

from tutelage.data.pixels import unreadable
from tutelage.data.samples import (
    CutOut,
    ImageSource,
    IntArray,
    Samples,
    Stored,
    WholeImage,
    original,
    same_source,
)


class Contents:
    """Sizes and hashes of images' contents; each image is read once at most, however often it is asked for.

    Images are told apart by identity, so subsets of samples share what is known.
    """

    def __init__(self) -> None:
        # With the image, so that its identity is not given to another one.
        self._hashes: dict[int, tuple[ImageSource, bytes]] = {}
        self._sizes: dict[int, int] = {}

    def size(self, image: ImageSource) -> int:
        """Return the size in bytes, of crops that of the whole image; only what is stored in something else is read.

        Raises:
            DataError: It cannot be read (any more).
        """
        image = original(image)
        if isinstance(image, bytes):
            return len(image)
        if isinstance(image, np.ndarray):
            return image.nbytes
        if isinstance(image, Path):
            try:
                return image.stat().st_size
            except OSError as error:
                raise unreadable(image, error) from error
        self.hash(image)
        return self._sizes[id(image)]

    def hash(self, image: ImageSource) -> bytes:
        """Return a hash of the bytes, or of the pixels and their shape; of crops, of both and where they are cut.

        Raises:
            DataError: It cannot be read (any more).
        """
        if isinstance(image, CutOut) and image.whole:
            return self.hash(image.source)
        if id(image) not in self._hashes:
            content = self._cut(image) if isinstance(image, CutOut) else _content(image)
            if isinstance(image, Stored):
                self._sizes[id(image)] = len(content)
            self._hashes[id(image)] = image, hashlib.blake2b(content, digest_size=16).digest()
        return self._hashes[id(image)][1]

    def _cut(self, image: CutOut) -> bytes:
        return self.hash(image.source) + repr(image.box).encode()


def exact_copies(samples: Samples, of: Samples, contents: Contents | None = None) -> IntArray:
    """Return the rows of ``samples`` whose image has the very bytes (or pixels) of one in ``of``.

    A crop counts as the image that it is cut out of, of which it shows a part. Only images whose size in bytes occurs
    in both are read.

    Args:
        samples: Where copies are looked for.
        of: What they are copies of.
        contents: What is known of the images from before.

    Raises:
        DataError: An image cannot be read (any more).
    """
    contents = contents or Contents()
    images = [original(image) for image in samples.images or ()]
    sizes = [contents.size(image) for image in images]
    known = set(sizes)
    others = [(contents.size(image), image) for image in map(original, of.images or ())]
    hashes = {(size, contents.hash(image)) for size, image in others if size in known}
    wanted = {size for size, _ in hashes}
    rows = [
        row
        for row, (size, image) in enumerate(zip(sizes, images, strict=True))
        if size in wanted and (size, contents.hash(image)) in hashes
    ]
    return np.array(rows, dtype=np.int64)


def other_rows(samples: Samples, than: Samples) -> IntArray:
    """Return the rows of ``samples`` that are not, under the same id, in ``than`` as well; no image is read.

    Args:
        samples: Images, labels apart.
        than: What they may have samples in common with.
    """
    known = dict(zip(than.ids, than.images or (), strict=True))
    rows = [
        row
        for row, (name, image) in enumerate(zip(samples.ids, samples.images or (), strict=True))
        if name not in known or not same_source(image, known[name])
    ]
    return np.array(rows, dtype=np.int64)


def contradictions(samples: Samples, contents: Contents | None = None) -> list[IntArray]:
    """Return the groups of rows with one image under several labels, in the order of their first rows.

    Copies under one and the same label are no contradiction.

    Args:
        samples: Samples with targets.
        contents: What is known of the images from before.

    Raises:
        DataError: An image cannot be read (any more), or the samples have no labels.
    """
    contents = contents or Contents()
    labels, images = samples.labels(), samples.images or ()
    by_size: dict[int, list[int]] = defaultdict(list)
    for row, image in enumerate(images):
        by_size[contents.size(image)].append(row)
    by_hash: dict[tuple[int, bytes], list[int]] = defaultdict(list)
    for size, rows in by_size.items():
        if len(set(labels[rows].tolist())) > 1:
            for row in rows:
                by_hash[size, contents.hash(images[row])].append(row)
    found = [rows for rows in by_hash.values() if len(set(labels[rows].tolist())) > 1]
    return [np.array(rows, dtype=np.int64) for rows in sorted(found)]


def _content(image: WholeImage) -> bytes:
    if isinstance(image, Stored):
        return image.read()
    if isinstance(image, Path):
        try:
            return image.read_bytes()
        except OSError as error:
            raise unreadable(image, error) from error
    if isinstance(image, bytes):
        return image
    return repr(image.shape).encode() + np.ascontiguousarray(image).tobytes()
