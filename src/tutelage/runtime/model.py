"""A classifier from one ONNX file: images of any sizes in, logits out, in bounded memory."""

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

MOST = 64 * 2**20
"""Bytes of decoded pixels that are gathered for one step; inside the graph each becomes several floats."""


@dataclass(frozen=True)
class Answer:
    """What became of one image.

    Attributes:
        logits: float32 [C], or ``None`` where the image could not be decoded.
        error: Why it could not be decoded; empty otherwise.
    """

    logits: npt.NDArray[np.float32] | None
    error: str = ""


class Classifier:
    """A finished model, opened from its ONNX file.

    Args:
        path: A run folder, its ``model/`` folder, or an ``.onnx`` file.
        int8: Whether the quantized file is wanted.
        threads: Threads for decoding and for the model; one a core where not given.

    Attributes:
        file: The file it was read from.
        classes: Class names in the order of the logits.
        preprocess: How an image becomes the model's input, as plain data; it happens inside of the file.
        provenance: How the model came to be, as far as its file says.

    Raises:
        ModelError: There is no such file, it is damaged, or it is no classifier exported by Tutelage.
        RecipeError: ``threads`` is below 1.
    """

    def __init__(self, path: str | Path, *, int8: bool = False, threads: int | None = None) -> None:
        if threads is not None and threads < 1:
            raise RecipeError(f"threads is {threads}; it must be at least 1")
        self.file = find_onnx(Path(path).expanduser(), int8=int8)
        self._workers = threads or os.cpu_count() or 1
        self._session = open_session(self.file, threads)
        metadata = self._session.get_modelmeta().custom_metadata_map
        self.classes = _classes(self.file, metadata)
        self.preprocess: Mapping[str, Any] = _read(self.file, metadata, "preprocess")
        self.provenance: Mapping[str, Any] = _read(self.file, metadata, "provenance")
        _check_form(self.file, self._session, len(self.classes))

    def logits(self, images: Sequence[Picture], *, batch_size: int = 64) -> npt.NDArray[np.float32]:
        """Return logits, float32 [N, C], of images of any sizes.

        Raises:
            DataError: An image cannot be decoded.
            ModelError: The file cannot be run.
            RecipeError: ``batch_size`` is below 1.
        """
        rows = np.empty((len(images), len(self.classes)), np.float32)
        for row, answer in enumerate(self.answers(images, batch_size=batch_size)):
            if answer.logits is None:
                raise DataError(answer.error)
            rows[row] = answer.logits
        return rows

    def answers(self, images: Iterable[Picture], *, batch_size: int = 64) -> Iterator[Answer]:
        """Answer a stream of images, one after the other and in their order; holds a few batches at most.

        Raises:
            ModelError: The file cannot be run.
            RecipeError: ``batch_size`` is below 1.
        """
        if batch_size < 1:
            raise RecipeError(f"the batch is {batch_size}; it must be at least 1")
        return self._answers(images, batch_size)

    def _answers(self, images: Iterable[Picture], batch_size: int) -> Iterator[Answer]:
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

    def _run(self, batch: Sequence[npt.NDArray[np.uint8] | str]) -> list[Answer]:
        """Score a batch; images of one size go through the model together, which takes only those at once."""
        sizes: dict[tuple[int, ...], list[int]] = {}
        answers = [Answer(None, each if isinstance(each, str) else "") for each in batch]
        for row, each in enumerate(batch):
            if not isinstance(each, str):
                sizes.setdefault(each.shape, []).append(row)
        for rows in sizes.values():
            try:
                (logits,) = self._session.run(["logits"], {"images": np.stack([batch[row] for row in rows])})
            # ONNX Runtime's errors share no root but Exception.
            except Exception as error:
                raise ModelError(f"{self.file}: cannot be run ({first_line(error)}); export it again") from error
            for row, each in zip(rows, logits, strict=True):
                answers[row] = Answer(each)
        return answers


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


def _check_form(file: Path, session: Any, classes: int) -> None:
    inputs = [(each.name, each.type, each.shape[3:]) for each in session.get_inputs()]
    outputs = [(each.name, each.shape[-1:]) for each in session.get_outputs()]
    if inputs != [("images", "tensor(uint8)", [3])] or [name for name, _ in outputs] != ["logits"]:
        raise ModelError(
            f"{file}: does not turn images, uint8 [B, H, W, 3], into logits; give a model that Tutelage exported"
        )
    if outputs[0][1] != [classes]:
        raise ModelError(f"{file}: gives {outputs[0][1]} logits but names {classes} classes; export it again")
