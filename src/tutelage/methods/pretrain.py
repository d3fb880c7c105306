"""Supervised pretraining: the student learns another task from its labels first."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import Field

from tutelage.ledger import Cost, measured
from tutelage.methods.job import Job
from tutelage.methods.pretraining import Share, pretrained, pretraining_batch, pretraining_epochs
from tutelage.objectives import Supervised
from tutelage.run import Stage
from tutelage.settings import Settings
from tutelage.training.phase import Phase
from tutelage.training.schedule import Schedule


class PretrainSettings(Settings):
    """How the student is pretrained on another labeled set (``data.pretraining``).

    Attributes:
        epochs: Passes over that set; as many images as in distillation for a set of its size where not given.
        steps: Where epochs are not given, about so many optimizer steps, in whole epochs.
        batch_size: Images a step; a sixteenth of the set, 16 to 128, where not given.
        learning_rate: Peak rate; 2e-3 if not given, and 5e-4 for texts.
        label_smoothing: Of the loss.
        average: Decay of the weights' moving average, which the student keeps; 0 keeps the raw weights.
        snapshots: Shares of the training, in 0..1, after which a checkpoint is kept, for accuracy against compute.
    """

    epochs: int | None = Field(default=None, ge=1)
    steps: int | None = Field(default=None, ge=1)
    batch_size: int | None = Field(default=None, ge=1)
    learning_rate: float | None = Field(default=None, gt=0)
    label_smoothing: float = Field(default=0.1, ge=0, lt=1)
    average: float = Field(default=0.9995, ge=0, lt=1)
    snapshots: tuple[Share, ...] = ()

    def resolved(self, images: int, *, texts: bool = False) -> PretrainSettings:
        """Fill in what suits a pretraining set of this size, of images or of texts."""
        batch_size = self.batch_size or pretraining_batch(images)
        epochs = self.epochs or pretraining_epochs(images, steps=self.steps, batch_size=batch_size)
        rate = self.learning_rate or (5e-4 if texts else 2e-3)
        return self.model_copy(update={"epochs": epochs, "batch_size": batch_size, "learning_rate": rate})


def pretrain(job: Job, stages: Mapping[str, Stage]) -> Stage:
    """Train the student on the pretraining set; writes ``student.safetensors``, with a new head for the task."""
    job = job.plain()
    recipe = job.recipe
    inputs = {
        "student": recipe.student,
        "start": recipe.start,
        "pretrain": recipe.pretrain.model_dump(mode="json"),
        "classes": list(job.labeled.classes),
    }
    return job.stage("pretrain", (), inputs, functools.partial(_work, job), reads=("pretraining",))


def _work(job: Job, folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    settings, samples = job.recipe.pretrain, job.pretraining
    assert samples is not None
    assert settings.epochs is not None
    assert settings.batch_size is not None
    assert settings.learning_rate is not None
    cost = Cost()
    with measured(cost, job.world.device):
        loader = job.loader(samples, settings.batch_size)
        schedule = Schedule(
            steps=settings.epochs * loader.steps_per_epoch,
            batch_size=settings.batch_size,
            learning_rate=settings.learning_rate,
            average=settings.average,
        )
        objective = Supervised(job.task, label_smoothing=settings.label_smoothing)
        phase = Phase("pretrain", loader, {"supervised": (objective, 1.0)}, schedule)
        student = job.new_student(classes=len(samples.classes))
        trained = pretrained(job, phase, student, settings.snapshots, folder, cost, head=False)
    return {"steps": schedule.steps, "loss": trained.history[-1]["loss"]}, cost.as_dict()
