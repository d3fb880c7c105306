"""A short look at a job's speed, from which the time of storing targets is predicted before it is spent."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from tutelage.data.batch import DEFAULT_GROUP, Batch
from tutelage.data.images import DecodedImages, short_side
from tutelage.data.loader import MOST_WORKERS, Loader, ViewGroup
from tutelage.data.samples import IntArray
from tutelage.models.outputs import Outputs
from tutelage.objectives import Logits
from tutelage.store.plan import Timing
from tutelage.training.loop import train
from tutelage.training.phase import Phase
from tutelage.training.precision import precision
from tutelage.training.schedule import Schedule
from tutelage.training.stopwatch import TURNS, WARM, EnoughError, Stopwatch, median_seconds

if TYPE_CHECKING:
    from tutelage.methods.job import Job

SECONDS = 1.0
"""Time that each of the four measurements may take, once it has been warmed up."""


@dataclass(frozen=True)
class Probe:
    """What a job's speed is, and how large what its teacher says.

    Attributes:
        timing: Seconds an image.
        shapes: Of one row of each output that was asked for.
    """

    timing: Timing
    shapes: Mapping[str, tuple[int, ...]]


def probe(job: Job, needs: frozenset[str] = frozenset({"logits"}), *, seconds: float = SECONDS) -> Probe:
    """Measure a job's speed on a batch of its images: a few seconds, and nothing is kept.

    The teacher is the pretrained one with a new head; speed does not depend on weights.

    Args:
        job: Resolved; its device and threads are those of the run to come.
        needs: Outputs of the teacher.
        seconds: Time of each of four measurements, besides their first turns.
    """
    settings, distill = job.recipe.views, job.recipe.distill
    assert settings.policy is not None
    assert distill.batch_size is not None
    count = min(distill.batch_size, len(job.transfer))
    some = job.transfer.subset(np.linspace(0, len(job.transfer) - 1, count).astype(np.int64))
    rows = np.arange(count)
    decoded = None if some.images is None else DecodedImages(some.images, short_side(settings.size or 0))
    held = None if decoded is None else _Held(decoded.get(rows))
    group = {DEFAULT_GROUP: ViewGroup(settings.policy, settings.size or 0)}
    inline = job.world.device.type == "cpu"
    loader = _Repeated(some, group, batch_size=count, seed=job.recipe.seed, images=held, inline=inline)
    batch = next(loader.view(0, rows)).to(job.world.device)
    loader.batch = batch

    packing = 0.0 if decoded is None else _packing(decoded, rows, seconds)
    viewing = median_seconds(lambda: list(loader.view(0, rows)), seconds)
    teaching, outputs = _teacher(job, batch, needs, seconds)
    studying = _student(job, loader, outputs, seconds)
    timing = Timing(packing / count, viewing / count, teaching / len(batch), studying / len(batch))
    return Probe(timing, {name: tuple(outputs.require(name).shape[1:]) for name in needs})


def _packing(decoded: DecodedImages, rows: IntArray, seconds: float) -> float:
    """Return the seconds that decoding some images takes."""

    def pack() -> None:
        list(workers.map(lambda row: decoded.get(np.array([row])), rows))

    with ThreadPoolExecutor(
        min(MOST_WORKERS, torch.get_num_threads()), "probe", torch.set_num_threads, (1,)
    ) as workers:
        return median_seconds(pack, seconds)


def _teacher(job: Job, batch: Batch, needs: frozenset[str], seconds: float) -> tuple[float, Outputs]:
    """Return the seconds of a teacher's pass, and what it gives."""
    teacher = job.new_teacher().eval()

    def teach() -> Outputs:
        with torch.no_grad(), precision(job.world.device):
            outputs: Outputs = teacher(batch.inputs[DEFAULT_GROUP], needs)
        if job.world.device.type == "cuda":
            torch.cuda.synchronize(job.world.device)
        return outputs

    return median_seconds(teach, seconds), teach()


def _student(job: Job, loader: _Repeated, outputs: Outputs, seconds: float) -> float:
    """Return the seconds of a student's step, taken by the loop itself on a batch that is there."""
    watch, distill = Stopwatch(seconds), job.recipe.distill
    assert distill.learning_rate is not None
    zeros = torch.zeros(len(loader.batch), len(job.labeled.classes), device=job.world.device)
    fixed = Outputs(logits=zeros if outputs.logits is None else outputs.logits.float())
    phase = Phase(
        "probe",
        loader,
        {"logits": (Logits(), 1.0)},
        Schedule(
            steps=WARM + TURNS,
            batch_size=loader.batch_size,
            learning_rate=distill.learning_rate,
            average=distill.average,
        ),
        teachers={"teacher": lambda batch, groups, needs: {DEFAULT_GROUP: fixed}},
    )
    with suppress(EnoughError):
        train(phase, job.new_student(), world=job.world, seed=job.recipe.seed, progress=watch)
    return watch.median


class _Held:
    """Images that are in memory."""

    at_hand = True

    def __init__(self, images: Sequence[Tensor]) -> None:
        self._images = images

    def get(self, rows: IntArray) -> list[Tensor]:
        return [self._images[row] for row in rows]


class _Repeated(Loader):
    """A loader whose every batch is the same one, which is there already."""

    batch: Batch

    def batches(self, start: int, stop: int) -> Iterator[Batch]:
        for _ in range(start, stop):
            yield self.batch

    def epoch(self, number: int, *, start: int = 0) -> Iterator[Batch]:
        yield self.batch
