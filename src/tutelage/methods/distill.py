"""Pretraining by a teacher: the student matches what it says about unlabeled data."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import Field

from tutelage.ledger import Cost, measured
from tutelage.methods.contrast import ContrastSettings, image_maker, planned_banks
from tutelage.methods.job import Job
from tutelage.methods.lessons import LESSONS, Lesson, Shapes, widths_of
from tutelage.methods.pretraining import Share, pretrained, pretraining_batch, pretraining_epochs
from tutelage.methods.targets import stored_targets, taught_by, taught_in, teacher_of, transfer_loader
from tutelage.objectives.banks import remove_banks
from tutelage.run import Stage
from tutelage.settings import Settings
from tutelage.store.plan import kept_classes, plan_targets
from tutelage.training.phase import LiveTeacher, Phase, TargetSource
from tutelage.training.schedule import Schedule


class DistillSettings(Settings):
    """How the student learns from the teacher.

    Attributes:
        epochs: Passes over the transfer set; where not given, about 64,000 views for 1,000 images, growing with
            the square root of their number.
        steps: Where epochs are not given, about so many optimizer steps, in whole epochs: as many for a small
            transfer set as for a large one.
        batch_size: Images a step; where not given, a sixteenth of the transfer set, 16 to 128.
        learning_rate: Peak rate; 2e-3 if not given, and 5e-4 for texts.
        temperature: Of both softmaxes.
        average: Decay of the weights' moving average, which the student keeps; 0 keeps the raw weights.
        targets: ``live`` runs the teacher on every batch; ``cached`` stores what it says about a few views of each
            image once and reads it in every epoch; ``auto`` stores where that halves the teacher's passes and fits
            into ``store.max_gb`` (see :func:`tutelage.store.plan.plan_targets`).
        views: Different views of each image, which later epochs repeat: of stored targets 16 or fewer if not given,
            else new ones in every epoch.
        top_k: Largest predictions stored of each view, and the probability of all others together; 0 stores all of
            them, as is done where they fit if not given.
        snapshots: Shares of the training, in 0..1, after which a checkpoint is kept, for accuracy against compute.
        contrast: What image embeddings are told apart from, in ``agnostic-image``.
    """

    epochs: int | None = Field(default=None, ge=1)
    steps: int | None = Field(default=None, ge=1)
    batch_size: int | None = Field(default=None, ge=1)
    learning_rate: float | None = Field(default=None, gt=0)
    temperature: float = Field(default=1.0, gt=0)
    average: float = Field(default=0.9995, ge=0, lt=1)
    targets: Literal["auto", "live", "cached"] = "auto"
    views: int | None = Field(default=None, ge=1)
    top_k: int | None = Field(default=None, ge=0)
    snapshots: tuple[Share, ...] = ()
    contrast: ContrastSettings = ContrastSettings()

    def resolved(
        self,
        images: int,
        *,
        shapes: Callable[[], Shapes],
        max_bytes: int,
        most: int | None = None,
        texts: bool = False,
    ) -> DistillSettings:
        """Fill in what suits a transfer set of this size.

        Args:
            images: In the transfer set.
            shapes: Returns the shapes of what the teacher gives; called only where targets may be stored.
            max_bytes: Most that stores may hold.
            most: Images a step unless the recipe says otherwise, if there is a limit.
            texts: Whether the student reads texts, each of which has a single view.

        Raises:
            RecipeError: Stored targets are asked for and do not fit.
        """
        usual = pretraining_batch(images)
        batch_size = self.batch_size or (min(usual, most) if most else usual)
        epochs = self.epochs or pretraining_epochs(images, steps=self.steps, batch_size=batch_size)
        contrast = self.contrast.resolved(images)
        found = self.model_copy(
            update={
                "epochs": epochs,
                "batch_size": batch_size,
                "contrast": contrast,
                "learning_rate": self.learning_rate or (5e-4 if texts else 2e-3),
            }
        )
        plan = plan_targets(
            self.targets,
            epochs=epochs,
            images=images,
            shapes={} if self.targets == "live" else shapes(),
            max_bytes=max_bytes,
            views=1 if texts else self.views,
            top_k=self.top_k,
        )
        if plan.mode == "live":
            return found.model_copy(update={"targets": "live"})
        top_k = kept_classes(plan.forms) if self.top_k is None and "logits" in plan.forms else self.top_k
        return found.model_copy(update={"targets": "cached", "views": plan.views, "top_k": top_k})

    def uses_banks(self, lesson: Lesson) -> bool:
        """Return whether a lesson is learned against memory banks."""
        return lesson.contrasts and self.contrast.against == "banks"

    def deciding(self, lesson: Lesson) -> dict[str, Any]:
        """Return what a lesson's student depends on, plain data."""
        data = self.model_dump(mode="json", exclude={"contrast"})
        return {**data, "contrast": self.contrast.deciding} if lesson.contrasts else data


def distill(job: Job, stages: Mapping[str, Stage], lesson: Lesson = LESSONS["logits"]) -> Stage:
    """Pretrain the student on the transfer set, head included if that is the lesson; writes ``student.safetensors``.

    Some checkpoints on the way are kept as ``at-SHARE.safetensors`` where the recipe asks for them.
    """
    job = taught_in(job, lesson)
    recipe = job.recipe
    inputs = {
        "student": recipe.student,
        "start": recipe.start,
        "classes": len(job.labeled.classes),
        "lesson": lesson.name,
        "distill": recipe.distill.deciding(lesson),
    }
    after = (*taught_by(stages, lesson), stages["targets"])
    work = functools.partial(_work, job, stages, lesson)
    return job.stage("distill", after, inputs, work, reads=("transfer",))


def _work(
    job: Job, stages: Mapping[str, Stage], lesson: Lesson, folder: Path
) -> tuple[dict[str, Any], dict[str, Any]]:
    settings, world, classes = job.recipe.distill, job.world, len(job.labeled.classes)
    assert settings.batch_size is not None
    assert settings.epochs is not None
    assert settings.learning_rate is not None
    cost = Cost()
    with measured(cost, world.device):
        loader = transfer_loader(job, lesson, views=settings.views)
    # Not measured: what storing them cost is known, even if it has to be done a second time.
    stored = stored_targets(job, stages, lesson, loader) if settings.targets == "cached" else None
    with measured(cost, world.device):
        source: TargetSource
        shapes: Shapes
        if stored is not None:
            source, shapes = stored, stored.shapes
        else:
            teacher = teacher_of(job, stages, lesson)
            source, shapes = LiveTeacher(teacher), lesson.shapes_of(teacher, classes)
        student = job.new_student()
        banks = planned_banks(job, settings.contrast, widths_of(shapes)) if settings.uses_banks(lesson) else None
        if banks is not None:
            job.progress.say(f"memory banks: {banks.why}; {banks.negatives:,} negatives an image")
        torch.manual_seed(job.recipe.seed)  # of the objective's projectors
        image = image_maker(settings.contrast, banks, folder, seed=job.recipe.seed)
        objective = lesson.of(student, shapes, temperature=settings.temperature, image=image)
        schedule = Schedule(
            steps=settings.epochs * loader.steps_per_epoch,
            batch_size=settings.batch_size,
            learning_rate=settings.learning_rate,
            average=settings.average,
        )
        phase = Phase("distill", loader, {lesson.name: (objective, 1.0)}, schedule, teachers={"teacher": source})
        trained = pretrained(job, phase, student, settings.snapshots, folder, cost, head=lesson.adapted)
        remove_banks(folder)
    results: dict[str, Any] = {"steps": schedule.steps, "loss": trained.history[-1]["loss"]}
    if banks is not None:
        results["banks"] = banks.as_dict()
    return results, cost.as_dict()
