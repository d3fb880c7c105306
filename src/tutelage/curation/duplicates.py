"""Duplicates: images so alike that one of them is enough (Vemulapalli et al., ICML 2024, appendix B.3)."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from tutelage.curation.cells import near_pairs
from tutelage.curation.sketches import SLACK, sketches
from tutelage.curation.unit_vectors import UnitVectors, unit_vectors
from tutelage.data.leaks import Contents
from tutelage.data.samples import ImageSource, IntArray, Samples
from tutelage.data.texts import normalized
from tutelage.errors import RecipeError

MOST_LINKS = 1_000_000
"""Pairs that are kept before they are summed up in components."""

GATHERED = 4096
"""Pairs whose vectors are read at a time."""


def duplicates(features: Sequence[npt.NDArray[Any]], threshold: float, *, block: int = 1024) -> IntArray:
    """Return the first of the duplicates of each image.

    Two images whose mean similarity over the encoders is above the threshold are duplicates of each other, and so are
    those that a chain of such pairs connects. The result is exact: short sketches with a bound, and the triangle
    inequality, rule most pairs out; the others are compared in full, in float32.

    Args:
        features: Of original images, most relevant first: one array an encoder, floating-point [N, D_e].
        threshold: Of the mean cosine similarity, between 0 and 1.
        block: Images that are compared with as many at a time, which bounds the memory beside the sketches.

    Returns:
        For each image the row of the most relevant one of its component, int64 [N]; those that stand for themselves
        are to be kept.

    Raises:
        DataError: The embeddings cannot be used; see :func:`~tutelage.curation.unit_vectors.unit_vectors`.
        RecipeError: The threshold is not between 0 and 1.
    """
    if not 0 < threshold < 1:
        raise RecipeError(f"expected a threshold of cosine similarity between 0 and 1, got {threshold}")
    vectors = unit_vectors(features)
    if not len(vectors):
        return np.empty(0, dtype=np.int64)
    firsts = _equal_rows(vectors)
    # Of vectors that are the same, one is compared with the others.
    distinct = np.flatnonzero(firsts == np.arange(len(firsts)))
    if len(distinct) < len(firsts):
        vectors = unit_vectors([each[distinct] for each in features])
    found = _components(vectors, threshold, block)
    return distinct[found][np.searchsorted(distinct, firsts)]


def same_samples(samples: Samples, contents: Contents | None = None) -> IntArray:
    """Return the first of the exact copies of each image, or text (see :func:`same_images`, :func:`same_texts`)."""
    return same_images(samples.images or (), contents) if samples.texts is None else same_texts(samples.texts)


def same_texts(texts: Sequence[str]) -> IntArray:
    """Return the first of the exact copies of each text, which may differ in white space alone.

    Args:
        texts: Most relevant first.
    """
    seen: dict[str, int] = {}
    return np.array([seen.setdefault(normalized(text), row) for row, text in enumerate(texts)], dtype=np.int64)


def same_images(images: Sequence[ImageSource], contents: Contents | None = None) -> IntArray:
    """Return the first of the exact copies of each image: those with the very same bytes, or pixels.

    Only images whose size in bytes occurs twice are read.

    Args:
        images: Most relevant first.
        contents: What is known of them from before.

    Raises:
        DataError: An image cannot be read (any more).
    """
    contents = contents or Contents()
    sizes = [contents.size(image) for image in images]
    seen: dict[int, int] = {}
    for size in sizes:
        seen[size] = seen.get(size, 0) + 1
    known: dict[tuple[int, bytes], int] = {}
    firsts = np.arange(len(images), dtype=np.int64)
    for row, (size, image) in enumerate(zip(sizes, images, strict=True)):
        if seen[size] > 1:
            firsts[row] = known.setdefault((size, contents.hash(image)), row)
    return firsts


def together(first: IntArray, second: IntArray) -> IntArray:
    """Return the first of the duplicates of each image, where either of two findings connects images.

    Args:
        first: Rows that each image's duplicates are led by, int64 [N].
        second: The same, found in another way.
    """
    return _joined(first, [np.stack([np.arange(len(second)), second])])


def _components(vectors: UnitVectors, threshold: float, block: int) -> IntArray:
    short = sketches(vectors, threshold)
    found = np.arange(len(vectors), dtype=np.int64)
    links: list[IntArray] = []
    linked = 0
    # Unit vectors with this cosine are so far from each other; their sketches are not farther, but for rounding.
    distance = math.sqrt(2 * (1 - threshold)) + math.sqrt(SLACK)
    for first, second in _blocks(near_pairs(short, distance), block):
        # Flat, which is many times faster to look through than rows and columns.
        left = np.flatnonzero(short[first] @ short[second].T >= threshold - 2 * SLACK)
        pairs = np.stack([first[left // len(second)], second[left % len(second)]])
        pairs = pairs[:, (pairs[0] != pairs[1]) & (found[pairs[0]] != found[pairs[1]])]
        if pairs.shape[1]:
            links.append(pairs[:, _similarity(vectors, pairs) > threshold])
            linked += links[-1].shape[1]
        if linked > MOST_LINKS:
            found, links, linked = _joined(found, links), [], 0
    return _joined(found, links)


def _blocks(pairs: Iterator[tuple[IntArray, IntArray]], block: int) -> Iterator[tuple[IntArray, IntArray]]:
    for first, second in pairs:
        for start in range(0, len(first), block):
            # Within one group, what comes before has been compared.
            for other in range(start if second is first else 0, len(second), block):
                yield first[start : start + block], second[other : other + block]


def _similarity(vectors: UnitVectors, pairs: IntArray) -> npt.NDArray[np.float32]:
    """Return the similarities of pairs of rows, int64 [2, M], as float32 [M]."""
    first, second = (np.unique(each, return_inverse=True) for each in pairs)
    if len(first[0]) * len(second[0]) <= 8 * pairs.shape[1]:
        products: npt.NDArray[np.float32] = vectors.joint(first[0]) @ vectors.joint(second[0]).T
        return products[first[1], second[1]]
    parts = [pairs[:, start : start + GATHERED] for start in range(0, pairs.shape[1], GATHERED)]
    return np.concatenate([np.einsum("nd,nd->n", vectors.joint(a), vectors.joint(b)) for a, b in parts])


def _joined(firsts: IntArray, links: Sequence[IntArray]) -> IntArray:
    """Return the smallest row of each component that leaders, int64 [N], and links, each int64 [2, M], make."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    count = len(firsts)
    start, end = np.concatenate([np.stack([np.arange(count), firsts]), *links], axis=1)
    graph = coo_array((np.ones(len(start), dtype=np.int8), (start, end)), shape=(count, count))
    labels = connected_components(graph, directed=False)[1]
    _, smallest, label = np.unique(labels, return_index=True, return_inverse=True)
    return smallest[label].astype(np.int64)


def _equal_rows(vectors: UnitVectors) -> IntArray:
    """Return the first row of which all encoders say exactly the same, int64 [N]."""
    known: dict[bytes, int] = {}
    firsts = np.empty(len(vectors), dtype=np.int64)
    for row in range(len(vectors)):
        content = hashlib.blake2b(digest_size=16)
        for each in vectors.features:
            content.update(each[row].tobytes())
        firsts[row] = known.setdefault(content.digest(), row)
    return firsts
