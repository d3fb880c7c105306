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
from tutelage.evaluation.pixels import count_pixels
from tutelage.evaluation.predict import predict_outputs
from tutelage.ledger import Cost
from tutelage.models.model import Model
from tutelage.models.preprocess import ImagePreprocess, Modality, PairPreprocess, Preprocess
from tutelage.models.sources import build_encoder, modality
from tutelage.progress import Progress
from tutelage.run import Outputs, Run, Stage, Work
from tutelage.store.packs import Packs
from tutelage.tasks import TASKS, Task
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
        curation: The stage that curated the transfer set, or ``None``.
        prefix: Put before stage names, for baselines inside another run.
        whole: The job that this one pretrains for, where that differs (see :meth:`plain`).
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
    curation: Stage | None = None
    prefix: str = ""
    whole: Job | None = None

    @property
    def dense(self) -> bool:
        """Whether every pixel is told apart."""
        return self.task.stride is not None

    @property
    def modality(self) -> Modality:
        """What the samples are, which is what the student reads."""
        return self.recipe.modality

    @property
    def view_seed(self) -> int:
        """Seed of the views that what is stored of a sample belongs to; a text has one view, whatever the seed."""
        return 0 if self.modality == "text" else self.recipe.seed

    def plain(self) -> Job:
        """Return the job of a pretraining that knows nothing of the task.

        For a dense task the student learns then as classification's does, in views of its own size and at its own
        stride; its weights are those of the dense student, but for the head. Else it is this job.
        """
        if not self.dense:
            return self
        return replace(self, task=TASKS["classification"], recipe=self.recipe.plain(), whole=self)

    def fresh_head(self) -> dict[str, Tensor]:
        """Return the weights of the student's head at its start, by their names in the student."""
        head = (self.whole or self).new_student().head
        return {f"head.{key}": value for key, value in head.state_dict().items()}

    def splits(self) -> list[Split]:
        """Return what hyper-parameters are chosen with: given validation data, or folds of the labels."""
        if self.validation is not None:
            return [(self.labeled, self.validation)]
        strata = None if self.dense else self.labeled.labels()
        pairs = folds(strata, count=len(self.labeled), seed=self.recipe.seed, **self.recipe.choosing)
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
        task = (self.whole or self).task
        if task.stride is not None:
            inputs["task"] = task.name
            inputs["decoder"] = self.recipe.decoder.model_dump(mode="json")
        if self.modality != "image":
            inputs["text"] = self.recipe.text.model_dump(mode="json")
        return self.run.stage(self.prefix + name, inputs, work, outputs=outputs)

    def new_student(self, classes: int | None = None) -> Model:
        """Build the student at its start, the same for the same seed.

        Args:
            classes: That its head tells apart; those of the task if not given.
        """
        pretrained = self.recipe.start == "pretrained"
        size = self.recipe.views.student_size
        model = self._build(self.recipe.student, pretrained=pretrained, size=size, classes=classes)
        model.encoder.preprocess = self._deployed(model.encoder.preprocess)
        return model

    def _deployed(self, preprocess: Preprocess) -> Preprocess:
        """Return a preprocess that makes of a sample in use what evaluation makes of it.

        That is the center square of an image, or all of a dense task's, resized once, as views are.
        """
        if isinstance(preprocess, ImagePreprocess):
            return replace(preprocess, crop=self.recipe.views.crop or 1.0, interpolation="bilinear")
        if isinstance(preprocess, PairPreprocess):
            image = self._deployed(preprocess.image)
            assert isinstance(image, ImagePreprocess)
            return replace(preprocess, image=image)
        return preprocess

    def new_teacher(self, name: str | None = None) -> Model:
        """Build a pretrained teacher with a new head; the only one if none is named."""
        if name is None:
            (name,) = self.recipe.teachers
        size = self.recipe.views.teacher_size if modality(name) != "text" else None
        return self._build(name, pretrained=True, size=size, teaches=True)

    def _build(
        self,
        name: str,
        *,
        pretrained: bool,
        size: int | None,
        classes: int | None = None,
        teaches: bool = False,
    ) -> Model:
        torch.manual_seed(self.recipe.seed)
        encoder = build_encoder(name, pretrained=pretrained, size=size, stride=self.task.stride)
        encoder.preprocess = self.recipe.text.read(encoder.preprocess, teaches=teaches, name=name)
        if self.dense:
            assert isinstance(encoder.preprocess, ImagePreprocess)
            encoder.preprocess = replace(encoder.preprocess, fit="letterbox")
        model = Model(
            encoder, self.task.head(encoder.widths, classes or len(self.labeled.classes), self.recipe.decoder)
        )
        model.to(self.world.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        return model

    def predict(self, model: Model, samples: Samples, *, output: str = "logits", cost: Cost) -> Tensor:
        """Return an output of a model for samples in their evaluation view, at the model's own size."""
        return predict_outputs(model, samples, crop=self.recipe.views.crop or 1.0, output=output, cost=cost)

    def outcomes(self, model: Model, samples: Samples, *, cost: Cost) -> Tensor:
        """Return what a model makes of labeled samples, one row a sample, as the task's metrics read it.

        That is its logits [N, C], or what was counted of its pixels [N, C, 3].
        """
        if not self.dense:
            return self.predict(model, samples, cost=cost)
        size, window = self.recipe.views.student_size, self.recipe.views.window
        assert size is not None
        return count_pixels(model, samples, classes=len(self.labeled.classes), size=size, window=window, cost=cost)

    def truth(self, samples: Samples) -> Tensor:
        """Return what outcomes are judged against, one row a sample; an empty one where they hold it already."""
        return torch.empty(len(samples), 0) if self.dense else torch.from_numpy(samples.labels())

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
        if self.modality == "text":
            return self._text_loader(samples, batch_size, groups)
        assert settings.size is not None
        policy = settings.policy if mixed else settings.policy.model_copy(update={"mix": 0.0})
        images = self.packs.joined(parts or (samples,), short_side(settings.size))
        told = self.dense and samples.masks is not None
        masks = self.packs.masks(samples, short_side(settings.size)) if told else None
        return Loader(
            samples,
            {DEFAULT_GROUP: ViewGroup(policy, settings.size)} if groups is None else groups,
            batch_size=batch_size,
            seed=self.recipe.seed,
            images=images,
            masks=masks,
            views=views,
            inline=self.world.device.type == "cpu" and images.at_hand,
            device=self.world.device,
            rank=self.world.rank,
            world=self.world.size,
        )

    def _text_loader(self, samples: Samples, batch_size: int, groups: Mapping[str, ViewGroup] | None) -> Loader:
        policy = self.recipe.views.policy
        assert policy is not None
        return Loader(
            samples,
            {DEFAULT_GROUP: ViewGroup(policy, 0)} if groups is None else groups,
            batch_size=batch_size,
            seed=self.recipe.seed,
            views=1,
            inline=self.world.device.type == "cpu",
            device=self.world.device,
            rank=self.world.rank,
            world=self.world.size,
        )
