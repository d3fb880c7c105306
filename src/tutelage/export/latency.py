"""How fast the files are on this machine: student, INT8 student and teacher side by side."""

from __future__ import annotations

import functools
import os
import platform
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tutelage.data.prepare import sampled_sizes
from tutelage.errors import ExportError
from tutelage.export import EXPORTERS
from tutelage.export.graph import Deployable, inference_copy, to_masks
from tutelage.export.onnx import export_onnx
from tutelage.export.scoring import Logits, Pixels, Sample, Score, open_onnx, raw_of
from tutelage.ledger import Cost, measured
from tutelage.methods.adapt import adapted_by, load_adapted
from tutelage.methods.job import Job
from tutelage.models.model import Model
from tutelage.run import Stage, write_json

ROUNDS = 10
"""How often each contender has its turn; whatever else the machine does meanwhile then slows all of them alike."""

TURN = 5
"""Timed runs of a turn, after one that wakes the threads and is not timed."""


MEASURED = 512
"""Texts, spread over all, of which the middle one is timed."""

DENSE_ROUNDS, DENSE_TURN = 4, 3
"""The same where every pixel is told, which takes far longer."""


@dataclass
class Contender:
    """What is timed: a model in a runtime with a number of threads.

    Attributes:
        model: ``student``, ``student int8`` or ``teacher``.
        runtime: What runs it.
        threads: How many threads compute.
        score: From decoded samples to logits, or from pixels to masks.
        bytes: Size of the file, or of the weights where there is none.
        seconds: Of each timed run.
    """

    model: str
    runtime: str
    threads: int
    score: Score
    bytes: int
    seconds: list[float] = field(default_factory=list)

    def row(self) -> dict[str, Any]:
        """Return plain data for results."""
        p50, p95 = (float(value) * 1e3 for value in np.percentile(self.seconds, [50, 95]))
        return {
            "model": self.model,
            "runtime": self.runtime,
            "threads": self.threads,
            "p50_ms": p50,
            "p95_ms": p95,
            "runs": len(self.seconds),
            "bytes": self.bytes,
        }


def latency(job: Job, stages: Mapping[str, Stage], exported: Stage) -> dict[str, Any] | None:
    """Time one sample, preprocessing included, where the recipe asks for it; also leaves ``model/latency.json``.

    An image has the size that the middle one of the transfer images has; where every pixel is told, that of the
    model's input, and the mask is part of the time. A text is the middle one of the transfer texts by the student's
    tokens, and to make them is part of the time.

    Returns:
        ``rows`` (one a model and number of threads) and ``machine``; ``image`` [H, W], ``tokens`` (of the text, as
        the student reads it) and ``characters`` as far as there is an image and a text; or ``None``.
    """
    if not job.recipe.export.latency:
        return None
    path = job.run.folder / "model" / "latency.json"
    work = functools.partial(_work, job, stages, exported, path)
    return dict(job.stage("latency", [exported, *stages.values()], {}, work, outputs=[path]).results)


def race(contenders: list[Contender], samples: Sequence[Any], *, rounds: int = ROUNDS, turn: int = TURN) -> None:
    """Time contenders in interleaved rounds, each after a run that is not timed."""
    for _ in range(rounds):
        for contender in contenders:
            with _threads(contender.threads):
                contender.score(samples)
                for _ in range(turn):
                    start = time.perf_counter()
                    contender.score(samples)
                    contender.seconds.append(time.perf_counter() - start)


def machine() -> str:
    """Return the processor's name and the number of cores that this process may use."""
    name = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), name)
    except OSError:
        pass
    return f"{name}, {cores()} cores"


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _work(
    job: Job, stages: Mapping[str, Stage], exported: Stage, path: Path, _: Path
) -> tuple[dict[str, Any], dict[str, Any]]:
    cost = Cost()
    results: dict[str, Any] = {}
    if not job.world.first:
        return results, cost.as_dict()
    with measured(cost, job.world.device):
        sample, facts = _shown(job)
        counts = sorted({1, cores()})
        output = "mask" if job.dense else "logits"
        contenders: list[Contender] = []
        for name, form in (("student", "onnx"), ("student int8", "int8")):
            if form in exported.results and exported.results[form].get("kept", True):
                contenders += _of_file(name, path.with_name(EXPORTERS[form].file), counts, output)
        if "adapt" in stages:
            teacher = job.new_teacher()
            load_adapted(adapted_by(stages), teacher)
            contenders += _of_teacher(teacher, tuple(job.labeled.classes), counts)
        rounds, turn = (DENSE_ROUNDS, DENSE_TURN) if job.dense else (ROUNDS, TURN)
        race(contenders, [sample], rounds=rounds, turn=turn)
        rows = [contender.row() for contender in contenders]
        results = {"rows": rows, **facts, "machine": machine()}
        write_json(path, results)
    return results, cost.as_dict()


def _shown(job: Job) -> tuple[Sample, dict[str, Any]]:
    """Return the sample that is timed, and what is to be known about it."""
    if job.modality == "image":
        pixels, facts = _pixels(job)
        return pixels, facts
    text, facts = _text(job)
    if job.modality == "text":
        return text, facts
    pixels, size = _pixels(job)
    return (pixels, text), {**size, **facts}


def _pixels(job: Job) -> tuple[Pixels, dict[str, Any]]:
    size = job.recipe.views.student_size
    if job.dense:
        assert size is not None
        height, width = size, size
    else:
        height, width = np.median(sampled_sizes(job.transfer), axis=0).astype(int).tolist()
    # What a picture shows does not change how long it takes.
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return pixels, {"image": [height, width]}


def _text(job: Job) -> tuple[str, dict[str, Any]]:
    texts, read = job.transfer.texts, Deployable(job.new_student()).texts
    assert texts is not None
    assert read is not None
    rows = np.linspace(0, len(texts) - 1, min(MEASURED, len(texts))).astype(int).tolist()
    tokens = {row: read([texts[row]])["input_ids"].shape[1] for row in rows}
    middle = sorted(rows, key=lambda row: tokens[row])[len(rows) // 2]
    return texts[middle], {"tokens": tokens[middle], "characters": len(texts[middle])}


def _of_file(model: str, path: Path, counts: list[int], output: str) -> list[Contender]:
    size = path.stat().st_size
    return [Contender(model, "onnxruntime", count, open_onnx(path, count, output=output), size) for count in counts]


def _of_teacher(teacher: Model, classes: tuple[str, ...], counts: list[int]) -> list[Contender]:
    """Return the teacher as an ONNX file where it can be one, so that runtimes are not what is compared."""
    with tempfile.TemporaryDirectory(prefix="tutelage-latency-") as scratch:
        try:
            path = export_onnx(teacher, Path(scratch) / "teacher.onnx", classes=classes, metadata={})
            return _of_file("teacher", path, counts, "mask" if Deployable(teacher).dense else "logits")
        except ExportError:
            deployable = Deployable(inference_copy(teacher))

    @torch.no_grad()
    def score(samples: Sequence[Any]) -> Logits:
        logits: Tensor = deployable(raw_of(samples))
        if not deployable.dense:
            return logits.numpy()
        height, width, _ = samples[0].shape
        return torch.stack(to_masks(logits, [(height, width)] * len(samples), deployable.images.size)).numpy()

    size = sum(value.nbytes for value in deployable.state_dict().values())
    return [Contender("teacher", "torch", count, score, size) for count in counts]


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """Let torch compute with so many threads; ONNX Runtime is told when a file is opened."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
