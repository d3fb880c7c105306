"""A model from one ONNX file: images or texts of any sizes in, what it makes of each out, in bounded memory."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NoReturn

import numpy.typing as npt

from tutelage.data.samples import Samples
from tutelage.errors import ModelError, RecipeError
from tutelage.runtime.folder import find_onnx
from tutelage.runtime.inputs import Inputs, Kind, Window, inputs_of
from tutelage.runtime.session import first_line, open_session

CLASSIFICATION, SEGMENTATION = "classification", "segmentation"
"""Tasks of files; one that names none is a classifier."""


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

    @cached_property
    def preprocess(self) -> dict[str, Any]:
        """How a sample becomes the model's input, as plain data.

        Raises:
            ModelError: It is damaged.
        """
        return self.read("preprocess")

    @cached_property
    def inputs(self) -> Inputs:
        """What makes the file's inputs.

        Raises:
            ModelError: What is written of them, or the tokenizer beside the file, is missing or damaged.
        """
        return inputs_of(self.file, self.metadata.get("modality", "image"), self.preprocess, self.workers)

    def read(self, key: str) -> dict[str, Any]:
        """Return what the file says about itself under a key, as plain data.

        Raises:
            ModelError: It is damaged.
        """
        try:
            value = json.loads(self.metadata.get(key, "{}"))
        except ValueError as error:
            raise ModelError(f"{self.file}: its {key} is damaged ({error}); copy or export it again") from error
        return value if isinstance(value, dict) else {}


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
        preprocess: How a sample becomes the model's input, as plain data; of images it happens inside of the file.
        provenance: How the model came to be, as far as its file says.
        sentences: How many texts make a sample, where it reads texts: one, or the two of a pair of sentences.

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
        self._session = opened.session
        if opened.task != self.task:
            raise ModelError(
                f"{self.file}: was made for {opened.task}, not for {self.task}; "
                "tutelage.runtime.open_model opens either kind"
            )
        self.classes = _classes(self.file, opened.metadata)
        self.preprocess: Mapping[str, Any] = opened.preprocess
        self.provenance: Mapping[str, Any] = opened.read("provenance")
        self.sentences = 2 if opened.metadata.get("sentences") == "2" else 1
        self._inputs = opened.inputs
        self._names = {each.name: each for each in self._session.get_inputs()}
        if not self._inputs.fits(self._names):
            self._refuse()

    @property
    def modality(self) -> Kind:
        """What it reads."""
        return self._inputs.kind

    def given(self, samples: Samples) -> Sequence[Any]:
        """Return what the model reads of samples, as :meth:`answers` takes it.

        Raises:
            DataError: They have no such inputs.
        """
        return self._inputs.of(samples)

    def _refuse(self) -> NoReturn:
        """Raise the error for a file with other inputs or outputs."""
        made = {CLASSIFICATION: "logits", SEGMENTATION: "masks"}[self.task]
        raise ModelError(
            f"{self.file}: does not turn {self._inputs.takes} into {made}; give a model that Tutelage exported"
        )

    def _found(self, given: Iterable[Any], batch_size: int) -> Iterator[npt.NDArray[Any] | str]:
        """Return what the model makes of a stream of samples, in their order, or why one could not be read.

        Holds a few batches at most.

        Raises:
            ModelError: The file cannot be run.
            RecipeError: ``batch_size`` is below 1.
        """
        if batch_size < 1:
            raise RecipeError(f"the batch is {batch_size}; it must be at least 1")
        return (each for window in self._inputs.windows(given, batch_size) for each in self._run(window))

    def _run(self, window: Window) -> list[npt.NDArray[Any] | str]:
        found: dict[int, npt.NDArray[Any] | str] = dict(window.failed)
        for rows, feed in window.steps:
            try:
                (outputs,) = self._session.run([self.output], {name: feed[name] for name in self._names})
            # ONNX Runtime's errors share no root but Exception.
            except Exception as error:
                raise ModelError(f"{self.file}: cannot be run ({first_line(error)}); export it again") from error
            found.update(zip(rows, outputs, strict=True))
        return [found[row] for row in range(window.count)]


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
