"""Self-supervised pretraining: the student learns from its own moving average on unlabeled data (DINO)."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import torch
from pydantic import Field, model_validator

from tutelage.data.loader import Loader, ViewGroup
from tutelage.errors import ModelError, RecipeError
from tutelage.ledger import Cost, measured
from tutelage.methods.job import Job
from tutelage.methods.pretraining import Share, pretrained, pretraining_batch, pretraining_epochs
from tutelage.models.model import Model
from tutelage.models.sizes import grid
from tutelage.models.sources import build_encoder
from tutelage.objectives.collapse import collapse
from tutelage.objectives.self_distillation import GLOBAL, LOCAL, SelfDistillation
from tutelage.run import Stage
from tutelage.settings import Settings
from tutelage.training.phase import Phase
from tutelage.training.schedule import Schedule
from tutelage.views.settings import ViewSettings

if TYPE_CHECKING:
    from tutelage.recipe import Recipe

Positive = Annotated[float, Field(gt=0)]
Area = Annotated[float, Field(gt=0, le=1)]

LOCAL_SHARE = 96 / 224
"""Side of a small view as a share of a large one's, in the source."""

IMAGES_A_PROTOTYPE = 16
"""About as many as the source has: 1.28 million images and 65,536 prototypes."""

FEW = 10_000
"""Transfer images below which the teacher starts sharper: its steps are too few to get there by themselves."""

CROPS = ((0.4, 1.0), (0.05, 0.4))
"""Shares of the image's area in large and in small views, in the source."""

LIGHT_CROPS = ((0.6, 1.0), (0.2, 0.6))
"""The same of small images, of which a twentieth shows nothing."""

JUDGED = 0.1
"""Share of the training, its last, by which a collapse is judged."""


class DinoSettings(Settings):
    """How the student learns from itself.

    Attributes:
        epochs: Passes over the transfer set; as many images as in distillation where not given.
        steps: Where epochs are not given, about so many optimizer steps, in whole epochs.
        batch_size: Images a step, each in all of its views; a sixteenth of the transfer set, 16 to 128, where not
            given.
        learning_rate: Peak rate.
        weight_decay: Of matrices and kernels, at the start and at the end.
        clip: Largest norm of the gradient.
        average: Decay of the weights' moving average, which the student keeps; 0 keeps the raw weights.
        snapshots: Shares of the training, in 0..1, after which a checkpoint is kept, for accuracy against compute.
        prototypes: Outputs of the head; where not given, a power of two near a sixteenth of the transfer set, 256 to
            65,536.
        hidden: Width of the head's two hidden layers; twice the prototypes, 256 to 2,048, where not given.
        bottleneck: Width of the embedding that is compared with the prototypes; a quarter of them, 32 to 256, where
            not given.
        student_temperature: Of the student's softmax.
        teacher_temperature: Of the teacher's.
        warmup_temperature: Of the teacher's at the start.
        warmup_epochs: In which it becomes ``teacher_temperature``; where not given, half of all for a transfer set of
            fewer than 10,000 images, else none.
        momentum: Decay of the teacher's moving average at the start; it becomes 1 by the end.
        center_momentum: Decay of the center's.
        freeze_epochs: In which the student's prototypes stay as they are.
        global_crop: Smallest and largest share of the image's area in each of the two large views; 0.4 to 1 where not
            given, 0.6 to 1 for small images.
        local_crop: The same in the small ones; 0.05 to 0.4, 0.2 to 0.6 for small images.
        local_views: How many small ones.
        local_size: Their side, in pixels; where not given, 96/224 of the student's input, in steps that it takes.
    """

    epochs: int | None = Field(default=None, ge=1)
    steps: int | None = Field(default=None, ge=1)
    batch_size: int | None = Field(default=None, ge=2)
    learning_rate: float = Field(default=2e-3, gt=0)
    weight_decay: tuple[Positive, Positive] = (0.04, 0.4)
    clip: float = Field(default=3.0, gt=0)
    average: float = Field(default=0.9995, ge=0, lt=1)
    snapshots: tuple[Share, ...] = ()
    prototypes: int | None = Field(default=None, ge=2)
    hidden: int | None = Field(default=None, ge=1)
    bottleneck: int | None = Field(default=None, ge=1)
    student_temperature: float = Field(default=0.1, gt=0)
    teacher_temperature: float = Field(default=0.04, gt=0)
    warmup_temperature: float = Field(default=0.02, gt=0)
    warmup_epochs: int | None = Field(default=None, ge=0)
    momentum: float = Field(default=0.996, ge=0, le=1)
    center_momentum: float = Field(default=0.9, ge=0, le=1)
    freeze_epochs: int = Field(default=1, ge=0)
    global_crop: tuple[Area, Area] | None = None
    local_crop: tuple[Area, Area] | None = None
    local_views: int = Field(default=8, ge=0, le=64)
    local_size: int | None = Field(default=None, ge=8, le=4096)

    @model_validator(mode="after")
    def _smallest_first(self) -> DinoSettings:
        for name in ("global_crop", "local_crop"):
            crop = getattr(self, name)
            if crop is not None and crop[0] > crop[1]:
                raise ValueError(f"{name}: the smallest share comes first")
        return self

    def resolved(self, images: int, *, student: str, views: ViewSettings) -> DinoSettings:
        """Fill in what suits a transfer set of this size.

        Args:
            images: In the transfer set.
            student: Its name.
            views: Resolved; small images are those that it augments lightly.
        """
        assert views.student_size is not None
        batch_size = self.batch_size or max(2, pretraining_batch(images))
        epochs = self.epochs or pretraining_epochs(images, steps=self.steps, batch_size=batch_size)
        prototypes = self.prototypes or default_prototypes(images)
        warmup = epochs // 2 if images < FEW else 0
        large, small = LIGHT_CROPS if views.augment == "light" else CROPS
        return self.model_copy(
            update={
                "epochs": epochs,
                "batch_size": batch_size,
                "prototypes": prototypes,
                "hidden": self.hidden or min(2048, max(256, 2 * prototypes)),
                "bottleneck": self.bottleneck or min(256, max(32, prototypes // 4)),
                "warmup_epochs": warmup if self.warmup_epochs is None else self.warmup_epochs,
                "global_crop": self.global_crop or large,
                "local_crop": self.local_crop or small,
                "local_size": self.local_size or default_local_size(student, views.student_size),
            }
        )

    @property
    def step(self) -> dict[str, Any]:
        """What the cost of a step depends on, once resolved; plain data."""
        head = {"prototypes": self.prototypes, "hidden": self.hidden, "bottleneck": self.bottleneck}
        return {**head, "views": self.local_views, "size": self.local_size}


def default_prototypes(images: int) -> int:
    """Return how many prototypes suit a transfer set: the power of two next to a sixteenth of it, 256 to 65,536."""
    return min(65_536, max(256, 1 << round(math.log2(max(1, images / IMAGES_A_PROTOTYPE)))))


def default_local_size(student: str, student_size: int) -> int:
    """Return the side of small views: 96/224 of the student's, in steps that it takes, and no larger than that."""
    step = grid(student)
    return min(student_size, step * max(1, round(LOCAL_SHARE * student_size / step)))


def check_self_distillation(recipe: Recipe, images: int) -> None:
    """Check what can be known before the first step of a resolved recipe's self-distillation.

    Args:
        recipe: Resolved.
        images: In the transfer set.

    Raises:
        RecipeError: There are too few images to tell apart, or small views are larger than large ones.
        ModelError: The student does not run on the small views.
    """
    settings, size = recipe.dino, recipe.views.student_size
    assert settings.local_size is not None
    assert size is not None
    if images < 2:
        raise RecipeError(
            f"data.transfer: self-distillation learns to tell images apart, and the transfer set has {images}; add "
            "images, or use another method"
        )
    if not settings.local_views:
        return
    if settings.local_size > size:
        raise RecipeError(
            f"dino.local_size: small views of {settings.local_size} pixels are larger than large ones "
            f"(views.student_size: {size}); at most {size} fits"
        )
    _check_local(recipe.student, size, settings.local_size)


@functools.lru_cache(maxsize=16)
def _check_local(student: str, size: int, local_size: int) -> None:
    encoder = build_encoder(student, pretrained=False, size=size).train()
    try:
        with torch.no_grad():  # in train mode, where BatchNorm refuses a single value a channel
            encoder(torch.zeros(2, 3, local_size, local_size), size=local_size)
    except (RuntimeError, AssertionError, ValueError, IndexError) as error:
        reason = str(error).strip().split("\n")[0]
        raise ModelError(
            f"dino.local_size: {student} does not run on small views of {local_size} pixels ({reason}); give a size "
            f"that it takes, such as its own, {size}"
        ) from error


def view_groups(recipe: Recipe) -> dict[str, ViewGroup]:
    """Return the large and small views of a resolved recipe: its augmentation with crops of their own, not mixed."""
    settings, policy = recipe.dino, recipe.views.policy
    assert policy is not None
    assert recipe.views.student_size is not None
    assert settings.local_size is not None
    assert settings.global_crop is not None
    assert settings.local_crop is not None
    plain = policy.model_copy(update={"mix": 0.0, "mixup": 0.0, "cutmix": 0.0, "erase": 0.0})
    groups = {
        GLOBAL: ViewGroup(plain.model_copy(update={"crop": settings.global_crop}), recipe.views.student_size, count=2)
    }
    if settings.local_views:
        small = plain.model_copy(update={"crop": settings.local_crop})
        groups[LOCAL] = ViewGroup(small, settings.local_size, count=settings.local_views)
    return groups


def self_distillation_phase(job: Job, student: Model, loader: Loader) -> Phase:
    """Return the phase in which a student learns from itself.

    Args:
        job: Resolved.
        student: At its start.
        loader: Of the groups that :func:`view_groups` returns.
    """
    settings = job.recipe.dino
    assert settings.epochs is not None
    assert settings.prototypes is not None
    assert settings.hidden is not None
    assert settings.bottleneck is not None
    assert settings.warmup_epochs is not None
    assert settings.batch_size is not None
    assert settings.local_size is not None
    torch.manual_seed(job.recipe.seed)  # of the head
    objective = SelfDistillation(
        student,
        settings.prototypes,
        local=settings.local_views > 0,
        hidden=settings.hidden,
        bottleneck=settings.bottleneck,
        student_temperature=settings.student_temperature,
        teacher_temperature=settings.teacher_temperature,
        warmup_temperature=settings.warmup_temperature,
        warmup=min(1.0, settings.warmup_epochs / settings.epochs),
        momentum=settings.momentum,
        center_momentum=settings.center_momentum,
        frozen=min(1.0, settings.freeze_epochs / settings.epochs),
        weight_decay=settings.weight_decay[0],
    )
    schedule = Schedule(
        steps=settings.epochs * loader.steps_per_epoch,
        batch_size=settings.batch_size,
        learning_rate=settings.learning_rate,
        weight_decay=settings.weight_decay[0],
        final_weight_decay=settings.weight_decay[1],
        clip=settings.clip,
        average=settings.average,
    )
    objectives = {"self-distillation": (objective, 1.0)}
    return Phase("self-distill", loader, objectives, schedule, sizes={LOCAL: settings.local_size})


def self_distill(job: Job, stages: Mapping[str, Stage]) -> Stage:
    """Pretrain the student's encoder on the transfer set alone; writes ``student.safetensors``, with a new head.

    Its results say whether its outputs have ``collapsed``, and if so how (``why``). Some checkpoints on the way are
    kept as ``at-SHARE.safetensors`` where the recipe asks for them.
    """
    job = job.plain()
    recipe = job.recipe
    inputs = {
        "student": recipe.student,
        "start": recipe.start,
        "classes": len(job.labeled.classes),
        "dino": recipe.dino.model_dump(mode="json"),
    }
    return job.stage("self-distill", (), inputs, functools.partial(_work, job), reads=("transfer",))


def _work(job: Job, folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    settings = job.recipe.dino
    assert settings.batch_size is not None
    assert settings.prototypes is not None
    cost = Cost()
    with measured(cost, job.world.device):
        loader = job.loader(job.transfer, settings.batch_size, groups=view_groups(job.recipe))
        student = job.new_student()
        phase = self_distillation_phase(job, student, loader)
        trained = pretrained(job, phase, student, settings.snapshots, folder, cost, head=False)
    watched = last_watched(trained.history)
    why = collapse(**watched, prototypes=settings.prototypes)
    results = {
        "steps": phase.schedule.steps,
        "loss": trained.history[-1]["loss"],
        "prototypes": settings.prototypes,
        **watched,
        "collapsed": why is not None,
        "why": why,
    }
    return results, cost.as_dict()


def last_watched(history: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return what was watched at the end: means over the points in the last tenth of the training."""
    last = [point for point in history if point["step"] > (1 - JUDGED) * history[-1]["step"]]
    return {name: sum(point[name] for point in last) / len(last) for name in sorted(SelfDistillation.watched)}
