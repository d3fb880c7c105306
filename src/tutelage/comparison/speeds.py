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
from tutelage.objectives import Objective, Supervised
from tutelage.training.loop import train
from tutelage.training.phase import LiveTeacher, Phase, TargetSource
from tutelage.training.precision import precision
from tutelage.training.schedule import Schedule
from tutelage.training.stopwatch import Stopwatch, median_seconds

STEPS = 6
"""Steps of a training that are timed; the first two allocate, and do not count."""

SECONDS = 0.3
"""Time that each measurement of a pass may take, besides its first turns."""

IMAGES = 64
"""Most images that are looked at, and the larger of the two batches that are timed."""

FEW = 16
"""Images of the smaller batch, about what is trained on with few labels: there, much of a step is not its images."""

FREE = Spent(0.0, 0.0)


@dataclass(frozen=True)
class StepSpeed:
    """What a training step costs, linear in its images.

    Attributes:
        fixed: Seconds of any step, whatever its size.
        image: Seconds more for each image.
        flops: Of each image.
    """

    fixed: float
    image: float
    flops: float

    def training_cost(self, steps: float, batch_size: float) -> Spent:
        """Return what so many steps cost on batches of so many images."""
        return Spent(steps * (self.fixed + batch_size * self.image), steps * batch_size * self.flops)


@dataclass(frozen=True)
class Speeds:
    """What one image costs, each piece of work alone.

    Attributes:
        view: Decoding aside, cutting one view (no FLOPs).
        decode: Decoding an image (no FLOPs).
        passes: A forward pass of ``student`` and ``teacher``; of all teachers together if there are several.
        steps: A training step on an image of a large batch: ``student``, ``teacher`` on labels, and each lesson by
            its name, the teacher's own pass left out.
        training: The same of batches of any size.
    """

    view: Spent
    decode: Spent
    passes: Mapping[str, Spent]
    steps: Mapping[str, Spent]
    training: Mapping[str, StepSpeed]

    def with_more(self, other: Speeds) -> Speeds:
        """Return these, and what another measurement has besides."""
        return Speeds(
            self.view,
            self.decode,
            {**other.passes, **self.passes},
            {**other.steps, **self.steps},
            {**other.training, **self.training},
        )

    def as_dict(self) -> dict[str, Any]:
        """Return plain data."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Speeds:
        """Return what :meth:`as_dict` gave, of an earlier version as well: it took a step to be its images alone."""
        passes, steps = ({name: Spent(**each) for name, each in data[part].items()} for part in ("passes", "steps"))
        training = {name: StepSpeed(0.0, step.seconds, step.flops) for name, step in steps.items()}
        training |= {name: StepSpeed(**each) for name, each in data.get("training", {}).items()}
        return cls(Spent(**data["view"]), Spent(**data["decode"]), passes, steps, training)


@dataclass(frozen=True)
class Step:
    """A training step that was timed.

    Attributes:
        images: How many.
        seconds: Of the step, its views left out.
        flops: Of the step.
    """

    images: int
    seconds: float
    flops: float


def step_speed(small: Step, large: Step) -> StepSpeed:
    """Return the line through two steps, neither of whose parts is negative.

    Args:
        small: Of few images.
        large: Of as many or more; its FLOPs count.
    """
    more = large.images - small.images
    image = max(0.0, (large.seconds - small.seconds) / more) if more else large.seconds / large.images
    fixed = large.seconds - large.images * image
    if fixed < 0:
        fixed, image = 0.0, large.seconds / large.images
    return StepSpeed(fixed, image, large.flops / large.images)


def measure_speeds(job: Job, lessons: Mapping[str, Lesson], *, teacher: bool, adapted: bool = True) -> Speeds:
    """Measure a comparison's models on a few of its labeled images: a few seconds, and nothing is kept.

    Args:
        job: Resolved; its device and threads are those of the runs to come.
        lessons: That will be taught.
        teacher: Whether there is one; several only teach without lessons.
        adapted: Whether the teacher will be trained, too.
    """
    bench = _Bench(job)
    student = job.new_student()
    passes = {"student": bench.forward(student)}
    timed = {"student": bench.steps(student, {"supervised": Supervised(job.task)})}
    for name in job.recipe.teachers if teacher else ():
        taught = job.new_teacher(name)
        own = bench.forward(taught)
        others = passes.get("teacher", FREE)
        passes["teacher"] = Spent(others.seconds + own.seconds, others.flops + own.flops)
        for lesson in lessons.values():
            objective = lesson.of(student, lesson.shapes_of(taught, len(job.labeled.classes)), temperature=1.0)
            timed[lesson.name] = bench.steps(student, {lesson.name: objective}, taught, own)
        if adapted:
            taught.requires_grad_(True)
            timed["teacher"] = bench.steps(taught, {"supervised": Supervised(job.task)})
    return Speeds(
        Spent(bench.viewing, 0.0),
        Spent(bench.decoding, 0.0),
        passes,
        steps={
            name: Spent(large.seconds / large.images, large.flops / large.images)
            for name, (_, large) in timed.items()
        },
        training={name: step_speed(*both) for name, both in timed.items()},
    )


class _Bench:
    """Some labeled images, on which models are timed; ``viewing`` and ``decoding`` are seconds an image."""

    def __init__(self, job: Job) -> None:
        self._job, self._count = job, min(IMAGES, len(job.labeled))
        rows = np.arange(self._count)
        self._some = job.labeled.subset(rows)
        settings = job.recipe.views
        assert settings.size is not None
        assert self._some.images is not None
        self._images = DecodedImages(self._some.images, short_side(settings.size))
        loader = self._loader(self._count)
        self.decoding = median_seconds(lambda: self._images.get(rows), SECONDS) / self._count
        whole = median_seconds(lambda: list(loader.view(0, rows)), SECONDS) / self._count
        self.viewing = max(0.0, whole - self.decoding)
        self._batch = next(loader.view(0, rows)).to(job.world.device)

    def forward(self, model: Model) -> Spent:
        """Time a forward pass; returns what an image costs."""

        def run() -> None:
            with torch.no_grad(), precision(self._job.world.device):
                model(self._batch.inputs[DEFAULT_GROUP], frozenset({"logits"}))

        model.eval()
        images = len(self._batch)
        return Spent(median_seconds(run, SECONDS) / images, counted(run)[1] / images)

    def steps(
        self,
        model: Model,
        objectives: Mapping[str, Objective],
        teacher: Model | None = None,
        own: Spent = FREE,
    ) -> tuple[Step, Step]:
        """Time training steps on a few images, and on all.

        Args:
            model: That is trained.
            objectives: Each with the weight 1.
            teacher: That runs beside it.
            own: What its pass costs an image, which is left out.
        """
        sources: dict[str, TargetSource] = {} if teacher is None else {"teacher": LiveTeacher(teacher)}
        weighted = {name: (objective, 1.0) for name, objective in objectives.items()}
        found = []
        for wanted in (min(FEW, max(2, self._count // 2)), self._count):
            loader = self._loader(wanted)
            size = loader.batch_size
            schedule = Schedule(steps=STEPS, batch_size=size, learning_rate=1e-4)
            watch = Stopwatch(math.inf)
            phase = Phase("speed", loader, weighted, schedule, teachers=sources)
            trained = train(phase, model, world=self._job.world, seed=0, progress=watch)
            # A step's loader cuts its views in the time that is measured, and they are counted on their own.
            seconds = watch.median - size * (self.viewing + self.decoding + own.seconds)
            found.append(Step(size, max(0.0, seconds), max(0.0, trained.cost.flops / STEPS - size * own.flops)))
        return found[0], found[1]

    def _loader(self, batch_size: int) -> Loader:
        settings, device = self._job.recipe.views, self._job.world.device
        assert settings.policy is not None
        assert settings.size is not None
        return Loader(
            self._some,
            {DEFAULT_GROUP: ViewGroup(settings.policy, settings.size)},
            batch_size=batch_size,
            seed=0,
            images=self._images,
            inline=device.type == "cpu",  # as in the trainings to come: nothing is ready before its step begins
            device=device,
        )
