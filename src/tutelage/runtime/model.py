"""A model from one ONNX file: images of any sizes in, what it makes of each out, in bounded memory."""

from __future__ import annotations

import json
import os
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from tutelage.data.pixels import decode_pixels
from tutelage.data.samples import ImageSource
from tutelage.errors import DataError, ModelError, RecipeError
from tutelage.runtime.folder import find_onnx
from tutelage.runtime.session import first_line, open_session

Picture = str | ImageSource | Image.Image
"""One image: a file, an encoded file's bytes, pixels, a stored image, or a Pillow image."""

CLASSIFICATION, SEGMENTATION = "classification", "segmentation"
"""Tasks of files; one that names none is a classifier."""

MOST = 64 * 2**20
"""Bytes of decoded pixels that are gathered for one step; inside the graph each becomes several floats."""


@dataclass(frozen=True)
class Opened:
    """An ONNX file that is open.

    Attributes:
        file: The file.
        session: What runs it.
        metadata: What it says of itself.
        workers: Threads for decoding.
    """

    file: Path
    session: Any
    metadata: Mapping[str, str]
    workers: int

    @property
    def task(self) -> str:
        """What it was made for."""
        return self.metadata.get("task", CLASSIFICATION)


def open_file(path: str | Path, *, int8: bool = False, threads: int | None = None) -> Opened:
    """Open an exported file.

    Args:
        path: A run folder, its ``model/`` folder, or an ``.onnx`` file.
        int8: Whether the quantized file is wanted.
        threads: Threads for decoding and for the model; one a core where not given.

    Raises:
        ModelError: There is no such file, or it is damaged.
        RecipeError: ``threads`` is below 1.
    """
    if threads is not None and threads < 1:
        raise RecipeError(f"threads is {threads}; it must be at least 1")
    file = find_onnx(Path(path).expanduser(), int8=int8)
    session = open_session(file, threads)
    metadata = session.get_modelmeta().custom_metadata_map
    return Opened(file, session, metadata, threads or os.cpu_count() or 1)


class ExportedModel:
    """A finished model, opened from its ONNX file.

    Args:
        path: A run folder, its ``model/`` folder, an ``.onnx`` file, or a file that is open.
        int8: Whether the quantized file is wanted.
        threads: Threads for decoding and for the model; one a core where not given.

    Attributes:
        file: The file it was read from.
        classes: Class names in the order of the logits.
        preprocess: How an image becomes the model's input, as plain data; it happens inside of the file.
        provenance: How the model came to be, as far as its file says.

    Raises:
        ModelError: There is no such file, it is damaged, or it is no such model exported by Tutelage.
        RecipeError: ``threads`` is below 1.
    """

    task: str
    """What the file must have been made for."""

    output: str
    """The file's output that is asked for."""

    def __init__(self, path: str | Path | Opened, *, int8: bool = False, threads: int | None = None) -> None:
        opened = path if isinstance(path, Opened) else open_file(path, int8=int8, threads=threads)
        self.file = opened.file
        self._workers = opened.workers
        self._session = opened.session
        if opened.task != self.task:
            raise ModelError(
                f"{self.file}: was made for {opened.task}, not for {self.task}; "
                "tutelage.runtime.open_model opens either kind"
            )
        self.classes = _classes(self.file, opened.metadata)
        self.preprocess: Mapping[str, Any] = _read(self.file, opened.metadata, "preprocess")
        self.provenance: Mapping[str, Any] = _read(self.file, opened.metadata, "provenance")

    def _found(self, images: Iterable[Picture], batch_size: int) -> Iterator[npt.NDArray[Any] | str]:
        """Return what the model makes of a stream of images, in their order, or why one could not be decoded.

        Holds a few batches at most.

        Raises:
            ModelError: The file cannot be run.
            RecipeError: ``batch_size`` is below 1.
        """
        if batch_size < 1:
            raise RecipeError(f"the batch is {batch_size}; it must be at least 1")
        return self._batches(images, batch_size)

    def _batches(self, images: Iterable[Picture], batch_size: int) -> Iterator[npt.NDArray[Any] | str]:
        batch: list[npt.NDArray[np.uint8] | str] = []
        held = 0
        for decoded in self._decoded(images):
            batch.append(decoded)
            held += 0 if isinstance(decoded, str) else decoded.nbytes
            if len(batch) >= batch_size or held >= MOST:
                yield from self._run(batch)
                batch, held = [], 0
        yield from self._run(batch)

    def _decoded(self, images: Iterable[Picture]) -> Iterator[npt.NDArray[np.uint8] | str]:
        """Decode ahead in threads (Pillow lets go of the interpreter), no further than there are threads."""
        waiting: deque[Future[npt.NDArray[np.uint8] | str]] = deque()
        with ThreadPoolExecutor(self._workers) as pool:
            for image in images:
                waiting.append(pool.submit(_pixels, image))
                if len(waiting) > self._workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()

    def _run(self, batch: Sequence[npt.NDArray[np.uint8] | str]) -> list[npt.NDArray[Any] | str]:
        """Run a batch; images of one size go through the model together, which takes only those at once."""
        sizes: dict[tuple[int, ...], list[int]] = {}
        found: list[npt.NDArray[Any] | str] = list(batch)
        for row, each in enumerate(batch):
            if not isinstance(each, str):
                sizes.setdefault(each.shape, []).append(row)
        for rows in sizes.values():
            try:
                (outputs,) = self._session.run([self.output], {"images": np.stack([batch[row] for row in rows])})
            # ONNX Runtime's errors share no root but Exception.
            except Exception as error:
                raise ModelError(f"{self.file}: cannot be run ({first_line(error)}); export it again") from error
            for row, each in zip(rows, outputs, strict=True):
                found[row] = each
        return found


def takes_images(session: Any) -> bool:
    """Return whether a file's only input is ``images``, uint8 [B, H, W, 3]."""
    return [(each.name, each.type, each.shape[3:]) for each in session.get_inputs()] == [
        ("images", "tensor(uint8)", [3])
    ]


def _pixels(image: Picture) -> npt.NDArray[np.uint8] | str:
    """Return pixels, or what is wrong with the image."""
    try:
        return decode_pixels(Path(image) if isinstance(image, str) else image)
    except DataError as error:
        return str(error)


def _read(file: Path, metadata: Mapping[str, str], key: str) -> dict[str, Any]:
    try:
        value = json.loads(metadata.get(key, "{}"))
    except ValueError as error:
        raise ModelError(f"{file}: its {key} is damaged ({error}); copy or export it again") from error
    return value if isinstance(value, dict) else {}


def _classes(file: Path, metadata: Mapping[str, str]) -> tuple[str, ...]:
    if "classes" not in metadata:
        raise ModelError(f"{file}: names no classes; give a model that Tutelage exported")
    try:
        names = json.loads(metadata["classes"])
    except ValueError:
        names = None
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        raise ModelError(f"{file}: its class names are damaged; copy or export it again")
    return tuple(names)
