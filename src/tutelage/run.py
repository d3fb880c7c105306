"""The run folder: stages with manifests and fingerprints, each written whole, none run twice."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import platform
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, BinaryIO, ClassVar

from tutelage.errors import RunError

SCHEMA = 1
"""Version of the run folder's and of ``results.json``'s form."""

STAMP = "inputs.json"
"""Names the inputs that a stage's unfinished files belong to."""

LOCK = ".lock"
"""Held by the one process that writes in a run folder."""

MANIFEST = "stage.json"
"""Written last: its existence means that the stage is complete."""


Work = Callable[[Path], tuple[Mapping[str, Any], Mapping[str, Any]]]
"""What a stage does in its folder; returns results and cost, both plain data."""

Outputs = Sequence[Path] | Callable[[Mapping[str, Any]], Sequence[Path]]
"""Files that a stage makes outside its folder: known before, or told by its results."""


@dataclass(frozen=True)
class Stage:
    """A finished stage.

    Attributes:
        name: What it does.
        folder: Its folder.
        fingerprint: Of its inputs and settings, and of all stages that it builds on.
        results: What it found, plain data.
        cost: What it cost when it ran, plain data (see :class:`tutelage.ledger.Cost`).
        reused: Whether it was found finished.
    """

    name: str
    folder: Path
    fingerprint: str
    results: Mapping[str, Any]
    cost: Mapping[str, Any]
    reused: bool


@dataclass
class Run:
    """A run folder.

    Attributes:
        folder: Where everything is.
        writes: Whether this process writes manifests (the first of several does).
        barrier: Waits for all processes, so that they agree on which stages are finished.
        stages: The stages so far, in order.
        shared: Whether several runs share it.
    """

    shared: ClassVar[bool] = False
    folder: Path
    writes: bool = True
    barrier: Callable[[], None] = lambda: None
    stages: list[Stage] = field(default_factory=list)

    def stage(
        self,
        name: str,
        inputs: Mapping[str, Any],
        work: Work,
        *,
        outputs: Outputs = (),
    ) -> Stage:
        """Run a stage, unless it is finished with the same inputs.

        Args:
            name: What it does; its folder is ``NN-name``, numbered in the order of the stages.
            inputs: All that decides the stage's outcome, plain data; name earlier stages by their fingerprints.
            work: Gets the stage's folder, writes into it, returns results and cost. What an interrupted attempt
                with the same inputs left in the folder is still there, to resume from.
            outputs: Files outside the stage's folder that it makes; when one is gone, the stage runs again.

        Raises:
            RunError: The folder cannot be written, or was made by a newer version.
        """
        fingerprint = stage_fingerprint(name, inputs)
        folder = self.place(name, fingerprint)
        self.barrier()
        finished = read_manifest(folder / MANIFEST)
        self.barrier()
        if finished and finished["fingerprint"] == fingerprint and _all_there(outputs, finished["results"]):
            stage = Stage(name, folder, fingerprint, finished["results"], finished["cost"], reused=True)
        else:
            if self.writes:
                _begin(folder, fingerprint, inputs)
            self.barrier()
            results, cost = work(folder)
            stage = Stage(name, folder, fingerprint, results, cost, reused=False)
            if self.writes:
                manifest = {
                    "schema": SCHEMA,
                    "name": name,
                    "fingerprint": fingerprint,
                    "inputs": inputs,
                    "results": results,
                    "cost": cost,
                    "versions": versions(),
                }
                write_json(folder / MANIFEST, manifest)
        self.stages.append(stage)
        return stage

    def place(self, name: str, fingerprint: str) -> Path:
        """Return the folder of the next stage."""
        return self.folder / f"{len(self.stages) + 1:02d}-{name}"


@contextmanager
def open_run(folder: Path, *, writes: bool = True, barrier: Callable[[], None] = lambda: None) -> Iterator[Run]:
    """Open (or make) a run folder, for one writer at a time.

    Raises:
        RunError: The folder cannot be written, is something else, or another process is writing in it.
    """
    with hold(folder, writes=writes):
        yield Run(folder, writes, barrier)


@contextmanager
def hold(folder: Path, *, writes: bool = True) -> Iterator[None]:
    """Hold (or make) a folder of stages, for one writer at a time.

    Raises:
        RunError: The folder cannot be written, is something else, or another process is writing in it.
    """
    marks = (LOCK, "01-data")
    if folder.exists() and (
        not folder.is_dir() or (any(folder.iterdir()) and not any((folder / m).exists() for m in marks))
    ):
        raise RunError(f"{folder}: exists and is not a run folder; choose another --out")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / LOCK).open("a")
    except OSError as error:
        raise RunError(f"{folder}: cannot be written ({error.strerror}); choose another --out") from error
    with lock:
        if writes:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise RunError(
                    f"{folder}: another process is writing here; wait for it, or choose another --out"
                ) from error
        yield


def stage_fingerprint(name: str, inputs: Mapping[str, Any]) -> str:
    """Return the fingerprint of a stage with these inputs."""
    return fingerprint_of({"schema": SCHEMA, "name": name, "inputs": inputs})


def fingerprint_of(inputs: Mapping[str, Any]) -> str:
    """Return the SHA-256 of plain data in canonical JSON."""
    return hashlib.sha256(json.dumps(inputs, sort_keys=True, allow_nan=False).encode()).hexdigest()


def write_whole(
    path: Path, content: bytes | str | Sequence[bytes | memoryview] | Callable[[BinaryIO], object]
) -> None:
    """Write a file whole or not at all: under a temporary name beside it, then renamed.

    Args:
        path: The file.
        content: What it shall hold; several parts one after the other, or what writes it into the open file.

    Raises:
        RunError: It cannot be written.
    """
    data = b"" if callable(content) else content.encode() if isinstance(content, str) else content
    try:
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "wb") as file:
                if callable(content):
                    content(file)
                else:
                    file.writelines([data] if isinstance(data, bytes) else data)
                file.flush()
                os.fsync(file.fileno())
            Path(temporary).chmod(0o644)
            Path(temporary).replace(path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise RunError(f"{path}: cannot be written ({error.strerror}); free space or choose another place") from error


def write_json(path: Path, data: Mapping[str, Any]) -> None:
    """Write plain data as JSON, whole or not at all."""
    write_whole(path, json.dumps(data, indent=2, allow_nan=False) + "\n")


def versions() -> dict[str, str]:
    """Return the versions that a result depends on."""
    names = ("tutelage", "torch", "torchvision", "timm", "numpy", "onnxruntime")
    return {"python": platform.python_version(), **{name: version(name) for name in names}}


def _begin(folder: Path, fingerprint: str, inputs: Mapping[str, Any]) -> None:
    """Make the folder ready: keep what an attempt with the same inputs left, and nothing else."""
    stamp = folder / STAMP
    try:
        same = stamp.exists() and json.loads(stamp.read_text())["fingerprint"] == fingerprint
    except (ValueError, KeyError, TypeError):
        same = False
    # First, so that a removal which is cut short leaves nothing that looks finished.
    (folder / MANIFEST).unlink(missing_ok=True)
    if not same and folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    write_json(stamp, {"fingerprint": fingerprint, "inputs": inputs})


def _all_there(outputs: Outputs, results: Mapping[str, Any]) -> bool:
    return all(path.exists() for path in (outputs(results) if callable(outputs) else outputs))


def read_manifest(path: Path) -> dict[str, Any] | None:
    """Return a stage's manifest, or ``None`` if the stage is not finished.

    Raises:
        RunError: It is damaged, or was written by a newer version.
    """
    try:
        manifest: dict[str, Any] = json.loads(path.read_text())
    except FileNotFoundError:
        return None
    except (ValueError, OSError) as error:
        raise RunError(f"{path}: cannot be read ({error}); remove its folder to run the stage again") from error
    if isinstance(manifest, dict) and manifest.get("schema", 0) > SCHEMA:
        raise RunError(f"{path}: written by a newer version of tutelage; update, or choose another --out")
    if not isinstance(manifest, dict) or not manifest.keys() >= {"fingerprint", "results", "cost"}:
        raise RunError(f"{path}: is no stage's manifest; remove its folder to run the stage again")
    return manifest
