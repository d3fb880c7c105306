"""How a comparison's models are timed: a few passes and steps of each on some of its images."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from tutelage.comparison.bank_speed import bank_turn
from tutelage.comparison.table import Spent
from tutelage.data.batch import DEFAULT_GROUP, Batch
from tutelage.data.images import DecodedImages, short_side
from tutelage.data.loader import Loader, ViewGroup
from tutelage.data.samples import Samples
from tutelage.ledger import counted
from tutelage.methods.align import pair_phase
from tutelage.methods.fit import DENSE_BATCH
from tutelage.methods.job import Job
from tutelage.methods.pairs import Pairing, pair_groups
from tutelage.methods.self_distill import self_distillation_phase, view_groups
from tutelage.models.model import Model
from tutelage.models.outputs import Outputs
from tutelage.objectives import Objective
from tutelage.objectives.objective import Needs, StudentOutputs, Targets
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


class Pooled(Objective):
    """Something to learn that takes what learning other labels takes, of images without such labels."""

    needs = Needs(student=frozenset({"logits"}))

    def forward(self, batch: Batch, student: StudentOutputs, targets: Targets) -> dict[str, Tensor]:
        """Return ``pooled``."""
        return {"pooled": student[DEFAULT_GROUP].require("logits").square().mean()}


class Bench:
    """Some labeled samples, on which models are timed; ``viewing`` and ``decoding`` are seconds an image."""

    def __init__(self, job: Job) -> None:
        # Of a dense task as many as its trainings take: each is the work of many that are told as a whole.
        self._job, self._count = job, min(DENSE_BATCH if job.dense else IMAGES, len(job.labeled))
        rows = np.arange(self._count)
        self._some = job.labeled.subset(rows)
        size, images = job.recipe.views.size, self._some.images
        self._images: DecodedImages | None = None
        self.decoding = 0.0
        if images is not None:
            assert size is not None
            decoded = self._images = DecodedImages(images, short_side(size))
            self.decoding = median_seconds(lambda: decoded.get(rows), SECONDS) / self._count
        self._masks = job.packs.masks(self._some, short_side(size or 0)) if job.dense else None
        loader = self._loader(self._count)
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
        *,
        trained: Literal["all", "head"] = "all",
    ) -> tuple[Step, Step]:
        """Time training steps on a few images, and on all.

        Args:
            model: That is trained.
            objectives: Each with the weight 1.
            teacher: That runs beside it.
            own: What its pass costs an image, which is left out.
            trained: What of the model.
        """
        sources: dict[str, TargetSource] = {} if teacher is None else {"teacher": LiveTeacher(teacher)}
        weighted = {name: (objective, 1.0) for name, objective in objectives.items()}

        def phase(loader: Loader) -> Phase:
            schedule = Schedule(steps=STEPS, batch_size=loader.batch_size, learning_rate=1e-4)
            return Phase("speed", loader, weighted, schedule, trained=trained, teachers=sources)

        # A step's loader cuts its views in the time that is measured, and they are counted on their own.
        beside = Spent(self.viewing + self.decoding + own.seconds, own.flops)
        return self._timed(model, phase, self._loader, beside)

    def self_distillation(self, student: Model) -> tuple[Step, Step]:
        """Time steps in which a student learns from itself, as :meth:`steps`; all of their views are counted."""
        groups = view_groups(self._job.recipe)

        def phase(loader: Loader) -> Phase:
            whole = self_distillation_phase(self._job, student, loader)
            return replace(whole, schedule=whole.schedule.model_copy(update={"steps": STEPS}))

        return self._timed(student, phase, lambda size: self._loader(size, groups), Spent(self.decoding, 0.0))

    def pairs(self, student: Model, pairing: Pairing) -> tuple[Step, Step]:
        """Time steps in which a student learns from pairs, as :meth:`steps`; what a teacher says is made up."""

        def made_up(batch: Batch, groups: Sequence[str], needs: frozenset[str]) -> Mapping[str, Outputs]:
            same = torch.ones(len(batch), 2, device=batch.indices.device)
            return {group: Outputs(embedding=same) for group in groups}

        def phase(loader: Loader) -> Phase:
            teachers = {"teacher": made_up, "teacher-text": made_up}
            whole, _ = pair_phase(self._job, student, loader, pairing, teachers)
            return replace(whole, schedule=whole.schedule.model_copy(update={"steps": STEPS}))

        beside = Spent(self.viewing + self.decoding, 0.0)
        told = replace(self._some.without_targets(), texts=self._captions())
        groups = pair_groups(self._job.recipe)
        return self._timed(student, phase, lambda size: self._loader(size, groups, told), beside)

    def texts(self, model: Model) -> Spent:
        """Time a text tower's pass; returns what a text costs."""
        captions = self._captions()

        def run() -> None:
            with torch.no_grad(), precision(self._job.world.device):
                model(captions, frozenset({"embedding"}))

        model.eval()
        return Spent(median_seconds(run, SECONDS) / self._count, counted(run)[1] / self._count)

    def _captions(self) -> list[str]:
        """Return a text for each image, of those that there will be."""
        assert self._job.pairs is not None
        assert self._job.pairs.texts is not None
        texts = self._job.pairs.texts
        return [texts[row % len(texts)] for row in range(self._count)]

    def _timed(
        self, model: Model, phase: Callable[[Loader], Phase], loader: Callable[[int], Loader], beside: Spent
    ) -> tuple[Step, Step]:
        """Train for a few steps on a few images, and on all; what an image costs ``beside`` is left out."""
        found = []
        for wanted in (min(FEW, max(2, self._count // 2)), self._count):
            batches = loader(wanted)
            size, watch = batches.batch_size, Stopwatch(math.inf)
            trained = train(phase(batches), model, world=self._job.world, seed=0, progress=watch)
            seconds = max(0.0, watch.median - size * beside.seconds)
            found.append(Step(size, seconds, max(0.0, trained.cost.flops / STEPS - size * beside.flops)))
        return found[0], found[1]

    def banks(self, widths: Mapping[str, int]) -> tuple[Step, Step]:
        """Time what memory banks add to steps on a few images, and on all."""
        found = []
        for images in (min(FEW, max(2, self._count // 2)), self._count):
            turn = bank_turn(widths, images, self._job.world.device)
            found.append(Step(images, median_seconds(turn, SECONDS), counted(turn)[1]))
        return found[0], found[1]

    def _loader(
        self, batch_size: int, groups: Mapping[str, ViewGroup] | None = None, samples: Samples | None = None
    ) -> Loader:
        settings, device = self._job.recipe.views, self._job.world.device
        assert settings.policy is not None
        return Loader(
            samples or self._some,
            groups or {DEFAULT_GROUP: ViewGroup(settings.policy, settings.size or 0)},
            batch_size=batch_size,
            seed=0,
            images=self._images,
            inline=device.type == "cpu",  # as in the trainings to come: nothing is ready before its step begins
            device=device,
            masks=self._masks if samples is None else None,
        )
