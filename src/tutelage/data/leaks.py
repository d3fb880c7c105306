"""Exact copies: samples that are also test samples, or labeled ones, and samples that stand under two labels."""

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
from tutelage.data.texts import normalized


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
    """Return the rows of ``samples`` that are in ``of`` as well, whatever their ids.

    Images are copies that have the very bytes (or pixels); a crop counts as the image that it is cut out of, of which
    it shows a part. Texts are copies that differ in white space and in how their characters are composed, and no more
    (:func:`tutelage.data.texts.normalized`). What has both in both is a copy where both are. Only images whose size
    in bytes occurs in both are read.

    Args:
        samples: Where copies are looked for.
        of: What they are copies of; nothing is, where the one has images alone and the other texts.
        contents: What is known of the images from before.

    Raises:
        DataError: An image cannot be read (any more).
    """
    contents = contents or Contents()
    by_image = samples.images is not None and of.images is not None
    by_text = samples.texts is not None and of.texts is not None
    if not by_image and not by_text:
        return np.array([], dtype=np.int64)
    mine, theirs = (_sizes(each, contents) if by_image else [0] * len(each) for each in (samples, of))
    shared = set(mine) & set(theirs)

    def key(of: Samples, row: int, size: int) -> tuple[object, ...]:
        image = (size, contents.hash(original((of.images or ())[row]))) if by_image else ()
        return (*image, normalized((of.texts or ())[row])) if by_text else image

    known = {key(of, row, size) for row, size in enumerate(theirs) if size in shared}
    rows = [row for row, size in enumerate(mine) if size in shared and key(samples, row, size) in known]
    return np.array(rows, dtype=np.int64)


def _sizes(samples: Samples, contents: Contents) -> list[int]:
    return [contents.size(original(image)) for image in samples.images or ()]


def other_rows(samples: Samples, than: Samples) -> IntArray:
    """Return the rows of ``samples`` that are not, under the same id, in ``than`` as well; no image is read.

    Args:
        samples: Images, texts or pairs, labels apart.
        than: What they may have samples in common with; of the same modality.
    """
    known = {name: row for row, name in enumerate(than.ids)}

    def differs(row: int, other: int) -> bool:
        if samples.texts is not None and than.texts is not None and samples.texts[row] != than.texts[other]:
            return True
        images = samples.images is not None and than.images is not None
        return images and not same_source((samples.images or ())[row], (than.images or ())[other])

    rows = [row for row, name in enumerate(samples.ids) if name not in known or differs(row, known[name])]
    return np.array(rows, dtype=np.int64)


def contradictions(samples: Samples, contents: Contents | None = None) -> list[IntArray]:
    """Return the groups of rows with one image (text, pair) under several labels, in the order of their first rows.

    Copies under one and the same label are no contradiction. They are told as :func:`exact_copies` tells them, but
    for crops, each of which is an image of its own.

    Args:
        samples: Samples with targets.
        contents: What is known of the images from before.

    Raises:
        DataError: An image cannot be read (any more), or the samples have no labels.
    """
    contents = contents or Contents()
    labels, images, texts = samples.labels(), samples.images, samples.texts
    by_size: dict[int, list[int]] = defaultdict(list)
    for row in range(len(samples)):
        by_size[0 if images is None else contents.size(images[row])].append(row)
    by_content: dict[tuple[object, ...], list[int]] = defaultdict(list)
    for size, rows in by_size.items():
        if len(set(labels[rows].tolist())) > 1:
            for row in rows:
                image = b"" if images is None else contents.hash(images[row])
                by_content[size, image, "" if texts is None else normalized(texts[row])].append(row)
    found = [rows for rows in by_content.values() if len(set(labels[rows].tolist())) > 1]
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
