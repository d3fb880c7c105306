"""What every stage of a method works with."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from tutelage.data.batch import DEFAULT_GROUP
from tutelage.data.images import short_side
from tutelage.data.loader import Loader, ViewGroup
from tutelage.data.samples import Samples
from tutelage.data.splits import folds
from tutelage.evaluation.predict import predict_outputs
from tutelage.ledger import Cost
from tutelage.models.model import Model
from tutelage.models.preprocess import ImagePreprocess
from tutelage.models.sources import build_encoder
from tutelage.progress import Progress
from tutelage.run import Outputs, Run, Stage, Work
from tutelage.store.packs import Packs
from tutelage.tasks import Task
from tutelage.training.distributed import World

if TYPE_CHECKING:
    from tutelage.recipe import Recipe

Part = Literal["labeled", "validation", "transfer", "pretraining", "pairs"]
"""Data that a stage may train or choose with."""

LABELS: tuple[Part, ...] = ("labeled", "validation")
"""What a stage reads that learns from labels and chooses by them."""

Split = tuple[Samples, Samples]
"""What to train on, and what to choose by."""


@dataclass(frozen=True)
class Job:
    """A resolved recipe, its data, and where the work happens.

    Attributes:
        recipe: Resolved: no key is left open.
        task: What is to be learned.
        labeled: The labels that may be used.
        validation: Given validation data, or ``None``.
        transfer: Unlabeled data.
        run: The run folder.
        world: Device and processes.
        progress: Shows where work is.
        packs: The data's images, decoded once.
        pretraining: Labeled data of another task to pretrain on, or ``None``.
        pairs: Images with a text each to pretrain on, or ``None``.
        prefix: Put before stage names, for baselines inside another run.
    """

    recipe: Recipe
    task: Task
    labeled: Samples
    validation: Samples | None
    transfer: Samples
    run: Run
    world: World
    progress: Progress
    packs: Packs
    pretraining: Samples | None = None
    pairs: Samples | None = None
    prefix: str = ""

    def splits(self) -> list[Split]:
        """Return what hyper-parameters are chosen with: given validation data, or folds of the labels."""
        if self.validation is not None:
            return [(self.labeled, self.validation)]
        pairs = folds(self.labeled.labels(), seed=self.recipe.seed, **self.recipe.choosing)
        return [(self.labeled.subset(fit), self.labeled.subset(held)) for fit, held in pairs]

    def stage(
        self,
        name: str,
        after: Iterable[Stage],
        settings: Mapping[str, Any],
        work: Work,
        *,
        reads: Sequence[Part] = (),
        outputs: Outputs = (),
    ) -> Stage:
        """Run one stage in the run folder (see :meth:`Run.stage`).

        Args:
            name: What it does.
            after: The stages that it builds on.
            settings: All else that decides its outcome, besides seed and views.
            work: What it does.
            reads: The data that it reads itself; others do not count, so that what does not depend on the labels is
                the same stage for any number of them.
            outputs: Files that it makes outside its folder.
        """
        data = {part: getattr(self, part) for part in reads}
        inputs = {
            "after": [stage.fingerprint for stage in after],
            "data": {part: None if samples is None else samples.fingerprint for part, samples in data.items()},
            "seed": self.recipe.seed,
            "views": self.recipe.views.model_dump(mode="json"),
            **settings,
        }
        return self.run.stage(self.prefix + name, inputs, work, outputs=outputs)

    def new_student(self, classes: int | None = None) -> Model:
        """Build the student at its start, the same for the same seed.

        Args:
            classes: That its head tells apart; those of the task if not given.
        """
        views = self.recipe.views
        pretrained = self.recipe.start == "pretrained"
        model = self._build(self.recipe.student, pretrained=pretrained, size=views.student_size, classes=classes)
        preprocess = model.encoder.preprocess
        assert isinstance(preprocess, ImagePreprocess)
        # What it is evaluated on is what it is deployed with: the center square, resized once, as views are.
        model.encoder.preprocess = replace(preprocess, crop=views.crop or 1.0, interpolation="bilinear")
        return model

    def new_teacher(self, name: str | None = None) -> Model:
        """Build a pretrained teacher with a new head; the only one if none is named."""
        if name is None:
            (name,) = self.recipe.teachers
        return self._build(name, pretrained=True, size=self.recipe.views.teacher_size)

    def _build(self, name: str, *, pretrained: bool, size: int | None, classes: int | None = None) -> Model:
        torch.manual_seed(self.recipe.seed)
        encoder = build_encoder(name, pretrained=pretrained, size=size)
        model = Model(encoder, self.task.head(encoder.widths["features"], classes or len(self.labeled.classes)))
        model.to(self.world.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        return model

    def predict(self, model: Model, samples: Samples, *, output: str = "logits", cost: Cost) -> Tensor:
        """Return an output of a model for samples in their evaluation view, at the model's own size."""
        preprocess = model.encoder.preprocess
        assert isinstance(preprocess, ImagePreprocess)
        crop = self.recipe.views.crop or 1.0
        return predict_outputs(model, samples, size=preprocess.size, crop=crop, output=output, cost=cost)

    def loader(
        self,
        samples: Samples,
        batch_size: int,
        *,
        views: int | None = None,
        mixed: bool = True,
        groups: Mapping[str, ViewGroup] | None = None,
        parts: Sequence[Samples] = (),
    ) -> Loader:
        """Return a loader of augmented views for training.

        Args:
            samples: What to load.
            batch_size: Samples a step.
            views: Different views a sample has; new ones in every epoch if not given.
            mixed: Whether views are mixed, where the policy says so.
            groups: View groups by name, of views no larger than the recipe's; a single one of the recipe's own views
                if not given.
            parts: Samples that these are made of, one after the other, where their images are packed apart.
        """
        settings = self.recipe.views
        assert settings.policy is not None
        assert settings.size is not None
        policy = settings.policy if mixed else settings.policy.model_copy(update={"mix": 0.0})
        images = self.packs.joined(parts or (samples,), short_side(settings.size))
        return Loader(
            samples,
            {DEFAULT_GROUP: ViewGroup(policy, settings.size)} if groups is None else groups,
            batch_size=batch_size,
            seed=self.recipe.seed,
            images=images,
            views=views,
            inline=self.world.device.type == "cpu" and images.at_hand,
            device=self.world.device,
            rank=self.world.rank,
            world=self.world.size,
        )
