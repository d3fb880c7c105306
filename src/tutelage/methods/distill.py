"""Stage 2 of task-oriented transfer: the student matches the adapted teacher's predictions on unlabeled data."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import Field

from tutelage.ledger import Cost, measured
from tutelage.methods.job import Job
from tutelage.models.weights import load_weights, save_weights
from tutelage.objectives import Logits
from tutelage.run import Stage, write_json
from tutelage.settings import Settings
from tutelage.training.loop import train
from tutelage.training.phase import LiveTeacher, Phase
from tutelage.training.schedule import Schedule


class DistillSettings(Settings):
    """How the student learns from the teacher.

    Attributes:
        epochs: Passes over the transfer set; where not given, about 64,000 views for 1,000 images, growing with
            the square root of their number.
        batch_size: Images a step; where not given, a sixteenth of the transfer set, 16 to 128.
        learning_rate: Peak rate.
        temperature: Of both softmaxes.
        average: Decay of the weights' moving average, which the student keeps; 0 keeps the raw weights.
    """

    epochs: int | None = Field(default=None, ge=1)
    batch_size: int | None = Field(default=None, ge=1)
    learning_rate: float = Field(default=2e-3, gt=0)
    temperature: float = Field(default=1.0, gt=0)
    average: float = Field(default=0.9995, ge=0, lt=1)

    def resolved(self, images: int) -> DistillSettings:
        """Fill in what suits a transfer set of this size."""
        batch_size = self.batch_size or min(128, max(16, 2 ** round(math.log2(max(1, images / 16)))))
        epochs = self.epochs or math.ceil(64 * math.sqrt(1000 / images))
        return self.model_copy(update={"epochs": epochs, "batch_size": batch_size})


def distill(job: Job, stages: Mapping[str, Stage]) -> Stage:
    """Pretrain the student, head included, on the transfer set; writes ``student.safetensors``."""
    adapted = stages["adapt"]
    recipe = job.recipe
    inputs = {"student": recipe.student, "start": recipe.start, "distill": recipe.distill.model_dump(mode="json")}
    return job.stage("distill", (adapted,), inputs, functools.partial(_work, job, adapted))


def _work(job: Job, adapted: Stage, folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    settings, world = job.recipe.distill, job.world
    assert settings.batch_size is not None
    assert settings.epochs is not None
    cost = Cost()
    with measured(cost, world.device):
        teacher = job.new_teacher()
        load_weights(adapted.folder / f"{adapted.results['chosen']}.safetensors", teacher)
        student = job.new_student()
        loader = job.loader(job.transfer, settings.batch_size)
        schedule = Schedule(
            steps=settings.epochs * loader.steps_per_epoch,
            batch_size=settings.batch_size,
            learning_rate=settings.learning_rate,
            average=settings.average,
        )
        phase = Phase(
            "distill",
            loader,
            {"logits": (Logits(temperature=settings.temperature), 1.0)},
            schedule,
            teachers={"teacher": LiveTeacher(teacher)},
        )
        trained = train(
            phase,
            student,
            world=world,
            seed=job.recipe.seed,
            progress=job.progress,
            checkpoint=folder / "distill.checkpoint",
        )
        cost.add(trained.cost)
        if world.first:
            save_weights(folder / "student.safetensors", trained.raw if trained.average is None else trained.average)
            write_json(folder / "history.json", {"distill": trained.history})
    return {"steps": schedule.steps, "loss": trained.history[-1]["loss"]}, cost.as_dict()
