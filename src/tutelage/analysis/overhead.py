"""How much longer a training step takes while teachers' stored features hold the student."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from tutelage.analysis.medians import Ratio, median_ratio
from tutelage.ledger import Cost
from tutelage.methods.choose import Choice
from tutelage.methods.features import stored_features
from tutelage.methods.finetune import SHOWN, FinetuneSettings
from tutelage.methods.fit import FinetuneFit, Held
from tutelage.methods.job import Job
from tutelage.models.model import Model
from tutelage.run import Stage
from tutelage.training.loop import State
from tutelage.training.stopwatch import EnoughError, Stopwatch

ROUNDS = 15
"""Pairs of short trainings, without the regularizer and with it."""

SECONDS = 0.2
"""Time of each that counts, after its first steps."""

MOST = 60.0
"""Seconds after which no other pair is begun."""

EPOCHS = 100
"""Of two batches each at most, so that the loop shows, and with that ends, every single step."""


@dataclass(frozen=True)
class StepTimes:
    """A training step without and with the regularizer.

    Attributes:
        batch_size: Images of a step.
        alone: Seconds of a step on the labels alone, cutting views included; the median.
        held: The same with the regularizer, and with reading the teachers' features.
        ratio: Held over alone, pair by pair.
    """

    batch_size: int
    alone: float
    held: float
    ratio: Ratio


def training_overhead(
    job: Job, stages: Mapping[str, Stage], *, rounds: int = ROUNDS, seconds: float = SECONDS, most: float = MOST
) -> StepTimes:
    """Take the time of training steps of a finished run's student, with what held it and without.

    Args:
        job: The run's.
        stages: Its stages, by name.
        rounds: Most pairs.
        seconds: Of each short training.
        most: Seconds after which no other pair is begun.
    """
    found = stages["finetune"].results
    held = Held(found["regularizer"]["name"], stored_features(job, stages), (found["regularizer"]["beta"],))
    size = job.recipe.finetune.schedule(found["rate"], len(job.labeled)).batch_size
    some = np.linspace(0, len(job.labeled) - 1, min(len(job.labeled), 2 * size)).astype(np.int64)
    few = replace(job, labeled=job.labeled.subset(some))
    changes = {"batch_size": size, "epochs": EPOCHS, "learning_rates": (found["rate"],)}
    settings = job.recipe.finetune.model_copy(update=changes)
    student = job.new_student()
    start = {key: value.detach().clone() for key, value in student.state_dict().items()}
    alone_taken: list[float] = []
    held_taken: list[float] = []
    turns = [(alone_taken, None), (held_taken, held)]
    began = time.monotonic()
    for number in range(rounds):
        if number and time.monotonic() - began > most:
            break
        for taken, holding in turns[:: 1 if number % 2 else -1]:
            taken.append(_step(few, student, start, settings, holding, seconds))
    ratio = median_ratio(held_taken, alone_taken)
    return StepTimes(size, statistics.median(alone_taken), statistics.median(held_taken), ratio)


def _step(
    job: Job, student: Model, start: State, settings: FinetuneSettings, held: Held | None, seconds: float
) -> float:
    """Return the median seconds of a step of a short training."""
    watch = Stopwatch(seconds)
    fit = FinetuneFit(replace(job, progress=watch), student, start, settings, SHOWN, mixed=False, held=held)
    (trial,) = fit.trials
    with tempfile.TemporaryDirectory(prefix="tutelage-analysis-") as folder, suppress(EnoughError):
        fit.fitted(Choice(trial.name, trial.group, "raw", {}), Path(folder), Cost())
    return watch.median
