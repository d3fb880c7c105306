"""Stage 2 of task-oriented transfer: the student matches the adapted teacher's predictions on unlabeled data."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from tutelage.ledger import Cost, measured
from tutelage.methods.job import Job
from tutelage.methods.targets import adapted_teacher, stored_targets
from tutelage.models.weights import save_weights
from tutelage.objectives import Logits
from tutelage.run import Stage, write_json
from tutelage.settings import Settings
from tutelage.store.plan import kept_classes, plan_targets
from tutelage.training.loop import train
from tutelage.training.phase import LiveTeacher, Phase, TargetSource
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
        targets: ``live`` runs the teacher on every batch; ``cached`` stores what it says about a few views of each
            image once and reads it in every epoch; ``auto`` stores where that halves the teacher's passes and fits
            into ``store.max_gb`` (see :func:`tutelage.store.plan.plan_targets`).
        views: Different views of each image, which later epochs repeat: of stored targets 16 or fewer if not given,
            else new ones in every epoch.
        top_k: Largest predictions stored of each view, and the probability of all others together; 0 stores all of
            them, as is done where they fit if not given.
    """

    epochs: int | None = Field(default=None, ge=1)
    batch_size: int | None = Field(default=None, ge=1)
    learning_rate: float = Field(default=2e-3, gt=0)
    temperature: float = Field(default=1.0, gt=0)
    average: float = Field(default=0.9995, ge=0, lt=1)
    targets: Literal["auto", "live", "cached"] = "auto"
    views: int | None = Field(default=None, ge=1)
    top_k: int | None = Field(default=None, ge=0)

    def resolved(self, images: int, *, classes: int, max_bytes: int) -> DistillSettings:
        """Fill in what suits a transfer set of this size.

        Args:
            images: In the transfer set.
            classes: That the teacher tells apart.
            max_bytes: Most that stores may hold.

        Raises:
            RecipeError: Stored targets are asked for and do not fit.
        """
        batch_size = self.batch_size or min(128, max(16, 2 ** round(math.log2(max(1, images / 16)))))
        epochs = self.epochs or math.ceil(64 * math.sqrt(1000 / images))
        found = self.model_copy(update={"epochs": epochs, "batch_size": batch_size})
        plan = plan_targets(
            self.targets,
            epochs=epochs,
            images=images,
            shapes={"logits": (classes,)},
            max_bytes=max_bytes,
            views=self.views,
            top_k=self.top_k,
        )
        if plan.mode == "live":
            return found.model_copy(update={"targets": "live"})
        top_k = kept_classes(plan.forms) if self.top_k is None else self.top_k
        return found.model_copy(update={"targets": "cached", "views": plan.views, "top_k": top_k})


def distill(job: Job, stages: Mapping[str, Stage]) -> Stage:
    """Pretrain the student, head included, on the transfer set; writes ``student.safetensors``."""
    recipe = job.recipe
    inputs = {"student": recipe.student, "start": recipe.start, "distill": recipe.distill.model_dump(mode="json")}
    after = (stages["adapt"], stages["targets"])
    return job.stage("distill", after, inputs, functools.partial(_work, job, stages))


def _work(job: Job, stages: Mapping[str, Stage], folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    settings, world = job.recipe.distill, job.world
    assert settings.batch_size is not None
    assert settings.epochs is not None
    cost = Cost()
    with measured(cost, world.device):
        loader = job.loader(job.transfer, settings.batch_size, views=settings.views)
    # Not measured: what storing them cost is known, even if it has to be done a second time.
    stored = stored_targets(job, stages, loader) if settings.targets == "cached" else None
    with measured(cost, world.device):
        source: TargetSource = stored or LiveTeacher(adapted_teacher(job, stages["adapt"]))
        student = job.new_student()
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
            teachers={"teacher": source},
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
