"""What a student saves once it is trained: its time and parameters beside those of its teachers."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tutelage.analysis.medians import Ratio, median_ratio
from tutelage.data.batch import moved_to
from tutelage.data.samples import Samples
from tutelage.methods.job import Job
from tutelage.models.model import Model, parameter_count
from tutelage.models.preprocess import ImagePreprocess, PairInputs, PairPreprocess, RawInputs
from tutelage.models.tokens import Corpus, TextInputs

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
        size: Side of its input, in pixels; ``None`` if it reads texts alone.
        passes: By batch size.
        tokens: Of the text that is timed, as the model reads it: the middle one of the labeled texts by its length;
            ``None`` if it reads images alone.
    """

    name: str
    params: int
    size: int | None
    passes: Mapping[int, PassTime]
    tokens: int | None = None


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
    student, corpus = job.new_student().eval(), _middle(job.labeled)
    ours: dict[int, list[float]] = {size: [] for size in batches}
    found = []
    for name in job.recipe.teachers:
        teacher = job.new_teacher(name).eval()
        passes = {}
        for size in batches:
            works = {
                name: _passes(model, size, corpus) for name, model in (("student", student), ("teacher", teacher))
            }
            taken = side_by_side(works, rounds=rounds, seconds=seconds)
            ratio = median_ratio(taken["teacher"], taken["student"])
            passes[size] = PassTime(statistics.median(taken["teacher"]), ratio)
            ours[size] += taken["student"]
        found.append(_inference(name, teacher, passes, corpus))
        del teacher  # one at a time: several may not fit beside each other
    own = {size: PassTime(statistics.median(taken)) for size, taken in ours.items()}
    return [_inference(job.recipe.student, student, own, corpus), *found]


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


def _passes(model: Model, size: int, corpus: Corpus | None) -> Callable[[], Tensor]:
    device = next(model.parameters()).device
    views = moved_to(_views(model, size, corpus), device)

    @torch.no_grad()
    def work() -> Tensor:
        logits: Tensor = model(views, {"logits"}).require("logits")
        return logits.cpu()

    return work


def _views(model: Model, size: int, corpus: Corpus | None) -> RawInputs:
    """Return a batch of what a model reads; what a picture shows does not change how long it takes."""
    side = _side(model)
    images = None if side is None else torch.rand(size, 3, side, side, generator=torch.Generator().manual_seed(0))
    # A text's tokens are made once, in the turn that is not counted.
    texts = None if corpus is None else TextInputs(corpus, np.zeros(size, np.int64))
    if isinstance(model.encoder.preprocess, PairPreprocess):
        assert images is not None
        assert texts is not None
        return PairInputs(images, texts)
    found = texts if images is None else images
    assert found is not None
    return found


def _middle(samples: Samples) -> Corpus | None:
    """Return the text of middle length; ``None`` where there are no texts."""
    if samples.texts is None:
        return None
    by_length = sorted(samples.texts, key=len)
    return Corpus([by_length[len(by_length) // 2]])


def _inference(name: str, model: Model, passes: Mapping[int, PassTime], corpus: Corpus | None) -> Inference:
    preprocess = model.encoder.preprocess
    reader = preprocess.text if isinstance(preprocess, PairPreprocess) else preprocess
    tokens = None
    if corpus is not None and not isinstance(reader, ImagePreprocess):
        tokens = int(corpus.tokens(reader).lengths[0])
    return Inference(name, parameter_count(model), _side(model), passes, tokens)


def _side(model: Model) -> int | None:
    preprocess = model.encoder.preprocess
    image = preprocess.image if isinstance(preprocess, PairPreprocess) else preprocess
    return image.size if isinstance(image, ImagePreprocess) else None
