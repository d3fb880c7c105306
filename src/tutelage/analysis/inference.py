"""What a student saves once it is trained: its time and parameters beside those of its teachers."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from tutelage.analysis.medians import Ratio, median_ratio
from tutelage.methods.job import Job
from tutelage.models.model import Model, parameter_count
from tutelage.models.preprocess import ImagePreprocess

BATCHES = (1, 64)

ROUNDS = 15
"""Most rounds, in each of which every model has its turn."""

SECONDS = 8.0
"""After which no other round is begun."""


@dataclass(frozen=True)
class PassTime:
    """A forward pass.

    Attributes:
        seconds: Of a whole batch; the median.
        ratio: Of a teacher, its time over the student's in the same rounds.
    """

    seconds: float
    ratio: Ratio | None = None


@dataclass(frozen=True)
class Inference:
    """A model as it runs after training.

    Attributes:
        name: As the recipe has it.
        params: Parameters, the head included.
        size: Side of its input, in pixels.
        passes: By batch size.
    """

    name: str
    params: int
    size: int
    passes: Mapping[int, PassTime]


def inference_times(
    job: Job, *, batches: tuple[int, ...] = BATCHES, rounds: int = ROUNDS, seconds: float = SECONDS
) -> list[Inference]:
    """Return the student, then each teacher beside it, all as torch runs them on the run's device.

    Args:
        job: Of the run.
        batches: Batch sizes.
        rounds: Most rounds of each pair of models.
        seconds: After which no other round of a pair is begun.
    """
    student = job.new_student().eval()
    ours: dict[int, list[float]] = {size: [] for size in batches}
    found = []
    for name in job.recipe.teachers:
        teacher = job.new_teacher(name).eval()
        passes = {}
        for size in batches:
            works = {"student": _passes(student, size), "teacher": _passes(teacher, size)}
            taken = side_by_side(works, rounds=rounds, seconds=seconds)
            ratio = median_ratio(taken["teacher"], taken["student"])
            passes[size] = PassTime(statistics.median(taken["teacher"]), ratio)
            ours[size] += taken["student"]
        found.append(Inference(name, parameter_count(teacher), _side(teacher), passes))
        del teacher  # one at a time: several may not fit beside each other
    own = {size: PassTime(statistics.median(taken)) for size, taken in ours.items()}
    return [Inference(job.recipe.student, parameter_count(student), _side(student), own), *found]


def side_by_side(works: Mapping[str, Callable[[], object]], *, rounds: int, seconds: float) -> dict[str, list[float]]:
    """Take the time of pieces of work in turn, after one turn of each that is not counted.

    Args:
        works: By name.
        rounds: Most rounds; at least one is taken.
        seconds: After which no other round is begun.

    Returns:
        Seconds of each piece of work, round by round.
    """
    for work in works.values():
        work()
    taken: dict[str, list[float]] = {name: [] for name in works}
    began = time.perf_counter()
    for number in range(rounds):
        if number and time.perf_counter() - began > seconds:
            break
        for name, work in works.items():
            start = time.perf_counter()
            work()
            taken[name].append(time.perf_counter() - start)
    return taken


def _passes(model: Model, size: int) -> Callable[[], Tensor]:
    device = next(model.parameters()).device
    side = _side(model)
    views = torch.rand(size, 3, side, side, generator=torch.Generator().manual_seed(0)).to(device)

    @torch.no_grad()
    def work() -> Tensor:
        logits: Tensor = model(views, {"logits"}).require("logits")
        return logits.cpu()

    return work


def _side(model: Model) -> int:
    preprocess = model.encoder.preprocess
    assert isinstance(preprocess, ImagePreprocess)
    return preprocess.size
