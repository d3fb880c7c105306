"""Image-text pairs that a student is pretrained on: what a recipe says about it, and how they are shown."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, model_validator

from tutelage.data.batch import DEFAULT_GROUP
from tutelage.data.loader import Loader, ViewGroup
from tutelage.methods.job import Job
from tutelage.methods.pretraining import Share, pretraining_batch, pretraining_epochs
from tutelage.models.text_towers import PRESETS, check_both_towers, check_text_tower, shared_width
from tutelage.settings import Settings
from tutelage.store.forms import FLOAT16
from tutelage.store.plan import Mode, TargetPlan, plan_targets, stored_bytes
from tutelage.views.policy import ViewPolicy

if TYPE_CHECKING:
    from tutelage.recipe import Recipe

Pairing = Literal["contrast", "mimic"]
"""What pairs teach: which text belongs to which image, or how alike a teacher finds all of them."""

TOWERS = {"tiny": 0, "small": 30_000, "base": 1_000_000}
"""Text towers that suit a set of pairs, and how many it has at least; ``base`` is as large as that of CLIP."""

Area = Annotated[float, Field(gt=0, le=1)]
Scale = Annotated[float, Field(gt=0)]


class TextSettings(Settings):
    """The text tower, which learns beside the student and is thrown away with what else only training needs.

    Attributes:
        tower: ``tiny``, ``small`` or ``base`` (as large as that of CLIP's ViT-B models), from random weights;
            ``openclip:NAME``, the text tower of one of open_clip's models, from random weights, and
            ``openclip:NAME/TAG``, with its pretrained ones; ``hf:NAME``, a pretrained text encoder, with a linear
            projection. If not given, ``small`` from 30,000 pairs on, and ``base`` from a million.
        length: Most tokens that it reads of a text, which is cut there; its own (77 for ``base``, 32 for the smaller
            two) if not given. These three are made no longer than the longest text.
    """

    tower: str | None = None
    length: int | None = Field(default=None, ge=3, le=4096)

    def resolved(self, pairs: int) -> TextSettings:
        """Fill in what suits so many pairs."""
        tower = self.tower or [name for name, least in TOWERS.items() if pairs >= least][-1]
        own = PRESETS[tower].length if tower in PRESETS else None
        return self.model_copy(update={"tower": tower, "length": self.length or own})


class ClipSettings(Settings):
    """How the student learns from image-text pairs (``data.pairs``).

    Attributes:
        epochs: Passes over the pairs; as many images as in distillation for a set of its size where not given.
        steps: Where epochs are not given, about so many optimizer steps, in whole epochs.
        batch_size: Pairs a step, told apart from each other; a sixteenth of the set, 16 to 128, where not given.
        learning_rate: Peak rate; if not given 2e-3, and the source's 5e-4 from a million pairs on.
        average: Decay of the weights' moving average, which the student keeps; 0 keeps the raw weights.
        snapshots: Shares of the training, in 0..1, after which a checkpoint is kept, for accuracy against compute.
        crop: Smallest and largest share of an image's area in its views. They are not augmented otherwise: a text
            tells colors, and left from right.
        width: Of the space that images and texts share; a text tower of open_clip's has one of its own.
        student_scale: What ``clip-mimic`` multiplies the student's cosines by; ``null`` learns it, as ``clip``
            always does, up to 100.
        teacher_scale: The same for the teacher's; ``null`` takes what the teacher has learned.
        targets: Of ``clip-mimic``: ``live`` runs both towers of the teacher on every batch; ``cached`` stores what it
            says about a few views of each image and about each text, once; ``auto`` stores where that halves the
            passes over images and fits into ``store.max_gb``.
        views: Different views of each image, which later epochs repeat: of stored targets 16 or fewer if not given,
            else new ones in every epoch.
        text: The text tower.
    """

    epochs: int | None = Field(default=None, ge=1)
    steps: int | None = Field(default=None, ge=1)
    batch_size: int | None = Field(default=None, ge=2)
    learning_rate: float | None = Field(default=None, gt=0)
    average: float = Field(default=0.9995, ge=0, lt=1)
    snapshots: tuple[Share, ...] = ()
    crop: tuple[Area, Area] = (0.9, 1.0)
    width: int = Field(default=512, ge=2)
    student_scale: Scale | None = 50.0
    teacher_scale: Scale | None = 50.0
    targets: Mode = "auto"
    views: int | None = Field(default=None, ge=1)
    text: TextSettings = TextSettings()

    @model_validator(mode="after")
    def _smallest_first(self) -> ClipSettings:
        if self.crop[0] > self.crop[1]:
            raise ValueError("crop: the smallest share comes first")
        return self

    def resolved(self, pairs: int, *, teacher: str | None, max_bytes: int) -> ClipSettings:
        """Fill in what suits so many pairs.

        Args:
            pairs: How many.
            teacher: Name of the CLIP model that is mimicked, if one is.
            max_bytes: Most that stores may hold.

        Raises:
            RecipeError: Stored targets are asked for and do not fit.
            ModelError: The teacher is no CLIP model of open_clip's.
        """
        batch_size = self.batch_size or max(2, pretraining_batch(pairs))
        found = self.model_copy(
            update={
                "epochs": self.epochs or pretraining_epochs(pairs, steps=self.steps, batch_size=batch_size),
                "batch_size": batch_size,
                "learning_rate": self.learning_rate or (2e-3 if pairs < TOWERS["base"] else 5e-4),
                "text": self.text.resolved(pairs),
            }
        )
        plan = None if teacher is None else found.target_plan(pairs, teacher, max_bytes=max_bytes)
        if plan is None or plan.mode == "live":
            return found.model_copy(update={"targets": "live"})
        return found.model_copy(update={"targets": "cached", "views": plan.views})

    def target_plan(self, pairs: int, teacher: str, *, max_bytes: int, mode: Mode | None = None) -> TargetPlan:
        """Return how a student gets its teacher's embeddings.

        Args:
            pairs: How many.
            teacher: Name of the CLIP model.
            max_bytes: Most that stores may hold.
            mode: What is asked for; what these settings say if not given.

        Raises:
            RecipeError: They are to be stored and do not fit.
            ModelError: The teacher is no CLIP model of open_clip's.
        """
        assert self.epochs is not None
        shapes = {"embedding": (shared_width(teacher),)}
        return plan_targets(
            mode or self.targets,
            epochs=self.epochs,
            images=pairs,
            shapes=shapes,
            max_bytes=max_bytes,
            views=self.views,
            beside=stored_bytes(pairs, 1, shapes, {"embedding": FLOAT16}),  # texts have no views
            section="clip",
        )

    def step(self, pairs: int) -> dict[str, Any]:
        """Return what the cost of a step on so many pairs depends on; plain data."""
        return {**self.text.resolved(pairs).model_dump(mode="json"), "width": self.width}

    def deciding(self, pairing: Pairing) -> dict[str, Any]:
        """Return what the student depends on, once resolved; plain data."""
        others: set[str] = set() if pairing == "mimic" else {"student_scale", "teacher_scale", "targets"}
        return {**self.model_dump(mode="json", exclude=others), "views": self.shown(pairing)}

    def shown(self, pairing: Pairing) -> int | None:
        """Return how many different views of an image are shown, once resolved; stored ones to who mimics alone."""
        return self.views if pairing == "mimic" or self.targets == "live" else None


def check_towers(recipe: Recipe, pairings: set[Pairing]) -> None:
    """Check what can be known of the text towers before anything is read or built.

    Args:
        recipe: Resolved or not.
        pairings: In its methods.

    Raises:
        UnknownNameError: There is no such tower or model.
        ModelError: A text tower reads no texts, or the teacher to mimic has none.
    """
    if pairings and recipe.clip.text.tower is not None:
        check_text_tower(recipe.clip.text.tower, length=recipe.clip.text.length)
    if "mimic" in pairings:
        (teacher,) = recipe.teachers
        check_both_towers(teacher)


def pair_groups(recipe: Recipe) -> dict[str, ViewGroup]:
    """Return the views of a resolved recipe's pairs: crops alone."""
    assert recipe.views.size is not None
    return {DEFAULT_GROUP: ViewGroup(ViewPolicy(crop=recipe.clip.crop), recipe.views.size)}


def pair_loader(job: Job, *, views: int | None = None) -> Loader:
    """Return the loader of the pairs: student and teacher see the same views.

    Args:
        job: Resolved.
        views: Different views an image has; new ones in every epoch if not given.
    """
    assert job.pairs is not None
    assert job.recipe.clip.batch_size is not None
    return job.loader(job.pairs, job.recipe.clip.batch_size, views=views, groups=pair_groups(job.recipe))
