"""A short look at how fast a comparison's models are, from which its time and budgets are worked out."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from tutelage.comparison.table import Spent
from tutelage.data.batch import DEFAULT_GROUP
from tutelage.data.images import DecodedImages, short_side
from tutelage.data.loader import Loader, ViewGroup
from tutelage.ledger import counted
from tutelage.methods.job import Job
from tutelage.methods.lessons import Lesson
from tutelage.models.model import Model
from tutelage.objectives import Supervised
from tutelage.training.loop import precision, train
from tutelage.training.phase import LiveTeacher, Phase
from tutelage.training.schedule import Schedule
from tutelage.training.stopwatch import Stopwatch, median_seconds

STEPS = 6
"""Steps of a training that are timed; the first two allocate, and do not count."""

SECONDS = 0.3
"""Time that each measurement of a pass may take, besides its first turns."""

IMAGES = 64
"""Most images that are looked at."""


@dataclass(frozen=True)
class Speeds:
    """What one image costs, each piece of work alone.

    Attributes:
        view: Decoding aside, cutting one view (no FLOPs).
        decode: Decoding an image (no FLOPs).
        passes: A forward pass of ``student`` and ``teacher``.
        steps: A training step on an image: ``student``, ``teacher`` on labels, and each lesson by its name, the
            teacher's own pass left out.
    """

    view: Spent
    decode: Spent
    passes: Mapping[str, Spent]
    steps: Mapping[str, Spent]

    def as_dict(self) -> dict[str, Any]:
        """Return plain data."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Speeds:
        """Return what :meth:`as_dict` gave."""
        passes, steps = ({name: Spent(**each) for name, each in data[part].items()} for part in ("passes", "steps"))
        return cls(Spent(**data["view"]), Spent(**data["decode"]), passes, steps)


def measure_speeds(job: Job, lessons: Mapping[str, Lesson], *, teacher: bool) -> Speeds:
    """Measure a comparison's models on a few of its labeled images: a few seconds, and nothing is kept.

    Args:
        job: Resolved; its device and threads are those of the runs to come.
        lessons: That will be taught.
        teacher: Whether there is one.
    """
    count = min(IMAGES, len(job.labeled))
    some = job.labeled.subset(np.arange(count))
    rows = np.arange(count)
    settings = job.recipe.views
    assert settings.policy is not None
    assert settings.size is not None
    assert some.images is not None
    images = DecodedImages(some.images, short_side(settings.size))
    loader = Loader(
        some,
        {DEFAULT_GROUP: ViewGroup(settings.policy, settings.size)},
        batch_size=count,
        seed=0,
        images=images,
        device=job.world.device,
    )
    decoding = median_seconds(lambda: images.get(rows), SECONDS) / count
    viewing = max(0.0, median_seconds(lambda: list(loader.view(0, rows)), SECONDS) / count - decoding)
    batch = next(loader.view(0, rows)).to(job.world.device)
    raw = batch.inputs[DEFAULT_GROUP]

    def forward(model: Model) -> Spent:
        def run() -> None:
            with torch.no_grad(), precision(job.world.device):
                model(raw, frozenset({"logits"}))

        model.eval()
        return Spent(median_seconds(run, SECONDS) / count, counted(run)[1] / count)

    def step(model: Model, phase: Phase) -> Spent:
        watch = Stopwatch(math.inf)
        trained = train(phase, model, world=job.world, seed=0, progress=watch)
        # A step's loader cuts its views in the time that is measured, and they are counted on their own.
        seconds = max(0.0, watch.median / count - viewing - decoding)
        return Spent(seconds, trained.cost.flops / STEPS / count)

    schedule = Schedule(steps=STEPS, batch_size=count, learning_rate=1e-4)
    supervised = {"supervised": (Supervised(job.task), 1.0)}
    student = job.new_student()
    passes = {"student": forward(student)}
    steps = {"student": step(student, Phase("speed", loader, supervised, schedule))}
    if teacher:
        taught = job.new_teacher()
        passes["teacher"] = forward(taught)
        for name, lesson in lessons.items():
            objective = lesson.of(student, lesson.shapes_of(taught, len(job.labeled.classes)), temperature=1.0)
            phase = Phase(
                "speed", loader, {name: (objective, 1.0)}, schedule, teachers={"teacher": LiveTeacher(taught)}
            )
            found = step(student, phase)
            own = passes["teacher"]
            steps[name] = Spent(max(0.0, found.seconds - own.seconds), found.flops - own.flops)
        taught.requires_grad_(True)
        steps["teacher"] = step(taught, Phase("speed", loader, supervised, schedule))
    return Speeds(Spent(viewing, 0.0), Spent(decoding, 0.0), passes, steps)
