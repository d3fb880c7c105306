"""What every stage of a method works with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from tutelage.data.samples import Samples
from tutelage.data.splits import folds
from tutelage.errors import ModelError
from tutelage.models.model import Model
from tutelage.models.sources import build_encoder
from tutelage.progress import Progress
from tutelage.run import Run, Stage
from tutelage.tasks import Task
from tutelage.training.distributed import World

if TYPE_CHECKING:
    from tutelage.recipe import Recipe

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
        view_size: Side of the raw views that student and teacher share.
        run: The run folder.
        world: Device and processes.
        progress: Shows where work is.
        before: Stages that everything here builds on.
        prefix: Put before stage names, for baselines inside another run.
    """

    recipe: Recipe
    task: Task
    labeled: Samples
    validation: Samples | None
    transfer: Samples
    view_size: int
    run: Run
    world: World
    progress: Progress
    before: tuple[Stage, ...] = ()
    prefix: str = ""

    def splits(self) -> list[Split]:
        """Return what hyper-parameters are chosen with: given validation data, or folds of the labels."""
        if self.validation is not None:
            return [(self.labeled, self.validation)]
        pairs = folds(self.labeled.labels(), seed=self.recipe.seed, most=self.recipe.folds)
        return [(self.labeled.subset(fit), self.labeled.subset(held)) for fit, held in pairs]

    def new_student(self) -> Model:
        """Build the student at its start, the same for the same seed."""
        torch.manual_seed(self.recipe.seed)
        encoder = build_encoder(
            self.recipe.student,
            pretrained=self.recipe.start == "pretrained",
            size=self.recipe.views.student_size,
        )
        return self._with_head(Model(encoder, self.task.head(encoder.widths["features"], len(self.labeled.classes))))

    def new_teacher(self) -> Model:
        """Build the pretrained teacher with a new head.

        Raises:
            ModelError: The recipe names none.
        """
        if self.recipe.teacher is None:
            raise ModelError("this method needs a teacher; name one, such as bundled:efficientnet-lite0")
        torch.manual_seed(self.recipe.seed)
        encoder = build_encoder(self.recipe.teacher, pretrained=True, size=self.recipe.views.teacher_size)
        return self._with_head(Model(encoder, self.task.head(encoder.widths["features"], len(self.labeled.classes))))

    def _with_head(self, model: Model) -> Model:
        return model.to(self.world.device, memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]

    def evaluation(self) -> dict[str, Any]:
        """Return the evaluation view, as :func:`tutelage.evaluation.predict.predict_outputs` takes it."""
        return {"size": self.view_size, "crop": self.recipe.views.crop}
