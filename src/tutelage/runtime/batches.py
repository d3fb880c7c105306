"""What goes through an exported file at once: decoded ahead, of one size or about one length, within the memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
from PIL import Image

from tutelage.data.pixels import decode_pixels
from tutelage.data.samples import ImageSource
from tutelage.errors import DataError

Picture = str | ImageSource | Image.Image
"""One image: a file, an encoded file's bytes, pixels, a stored image, or a Pillow image."""

Pixels = npt.NDArray[np.uint8]
Item = TypeVar("Item")

MOST = 64 * 2**20
"""Bytes of decoded pixels that are gathered for one step; inside the graph each becomes several floats."""

MOST_TOKENS = 8192
"""Tokens of one step, padding included: attention holds the square of a text's length."""


class Failure(str):
    """Why a sample cannot be answered."""


def pixels_of(image: Picture) -> Pixels | Failure:
    """Return pixels, or what is wrong with the image."""
    try:
        return np.ascontiguousarray(decode_pixels(Path(image) if isinstance(image, str) else image))
    except DataError as error:
        return Failure(str(error))


def decoded(given: Iterable[Any], decode: Callable[[Any], Item | Failure], workers: int) -> Iterator[Item | Failure]:
    """Decode ahead in threads (Pillow lets go of the interpreter), no further than there are threads."""
    waiting: deque[Future[Item | Failure]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        for each in given:
            waiting.append(pool.submit(decode, each))
            if len(waiting) > workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def batches(
    decoded: Iterable[Item | Failure], batch_size: int, size: Callable[[Item], int]
) -> Iterator[list[Item | Failure]]:
    """Yield batches; smaller ones where what they hold takes much memory."""
    batch: list[Item | Failure] = []
    held = 0
    for each in decoded:
        batch.append(each)
        held += 0 if isinstance(each, Failure) else size(each)
        if len(batch) >= batch_size or held >= MOST:
            yield batch
            batch, held = [], 0
    if batch:
        yield batch


def parted(batch: Sequence[Item | Failure]) -> tuple[dict[int, Item], dict[int, str]]:
    """Return what can be answered and what cannot, by row."""
    good = {row: each for row, each in enumerate(batch) if not isinstance(each, Failure)}
    return good, {row: str(each) for row, each in enumerate(batch) if isinstance(each, Failure)}


def alike(images: Mapping[int, Pixels]) -> dict[tuple[int, ...], list[int]]:
    """Return the rows of images by their size: a file takes only those of one size at once."""
    found: dict[tuple[int, ...], list[int]] = {}
    for row, pixels in images.items():
        found.setdefault(pixels.shape, []).append(row)
    return found


def by_tokens(
    order: npt.NDArray[np.int64], lengths: npt.NDArray[np.int64], batch_size: int
) -> Iterator[npt.NDArray[np.int64]]:
    """Cut rows, the shortest first, into steps of so many rows and tokens at most; one row always goes."""
    start = 0
    for stop in range(1, len(order) + 1):
        last = stop == len(order)
        if last or stop - start >= batch_size or (stop + 1 - start) * lengths[order[stop]] > MOST_TOKENS:
            yield order[start:stop]
            start = stop
