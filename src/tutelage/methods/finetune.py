"""Last stage of nearly every method: the student learns from the labels."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import Field

from tutelage.ledger import Cost, measured
from tutelage.methods.choose import Choice, ranked
from tutelage.methods.fit import Mode, Rate, SupervisedSettings, new_fit
from tutelage.methods.job import LABELS, Job
from tutelage.methods.pretraining import after_pretraining, started
from tutelage.models.model import Model
from tutelage.models.weights import save_weights
from tutelage.run import Stage
from tutelage.training.loop import State


class FinetuneSettings(SupervisedSettings):
    """How the student learns from labels.

    Attributes:
        learning_rates: Peak rates to choose from; if not given, three after a pretraining, and from random weights
            the highest of the source's range alone, which won wherever we looked. For texts a third of these.
        modes: ``finetune`` trains the whole student, ``probe`` the head alone; held-out labels choose. If not given,
            both after a pretraining, else ``finetune``.
        penalties: As in every training on labels; larger ones than for a teacher, whose features are better.
        probe_views: As in every training on labels; fewer than for a teacher, since a probe is fitted for every
            checkpoint and label count.
    """

    learning_rates: tuple[Rate, ...] | None = Field(default=None, min_length=1)
    modes: tuple[Mode, ...] | None = Field(default=None, min_length=1)
    penalties: tuple[Rate, ...] = Field(default=(1e-2, 1e-1, 1.0), min_length=1)
    probe_views: int = Field(default=3, ge=0)

    def resolved(
        self, labels: int, *, pretrained: bool, kept: bool, dense: bool = False, texts: bool = False
    ) -> FinetuneSettings:
        """Fill in what suits this many labels.

        Args:
            labels: How many.
            pretrained: Whether the student has learned something before.
            kept: Whether that was on so many images that the statistics of a few can only be worse.
            dense: Whether every pixel is told apart.
            texts: Whether the student reads texts.
        """
        root = math.sqrt(50 / labels)
        rates = (3e-4, 1e-3, 3e-3) if pretrained else (3e-3,)
        if texts:  # transformers, which higher rates throw off
            rates = (1e-4, 3e-4, 1e-3) if pretrained else (1e-3,)
        epochs = max(30, 120 * root) if pretrained else max(20, 240 * root)
        return self.model_copy(
            update={
                "epochs": self.epochs or round(epochs),
                "learning_rates": self.learning_rates or rates,
                "modes": self.modes or (("finetune", "probe") if pretrained and not dense else ("finetune",)),
                "batch_size": self.batch_size if not dense else self.dense_batch,
                "statistics": self.statistics or ("kept" if kept else "batch"),
            }
        )

    @property
    def rates(self) -> tuple[float, ...]:
        """Peak learning rates to choose from, once resolved."""
        assert self.learning_rates is not None
        return self.learning_rates


def finetune(job: Job, stages: Mapping[str, Stage]) -> Stage:
    """Train the student on the labels, from the pretraining stage if there is one, else from its start.

    Writes ``student.safetensors``, trained on all labels with the settings that predicted held-out labels best.
    Without given validation data, those labels also taught the teacher, so that the held-out metrics of a
    distilled student are optimistic; they still rank the candidates.
    """
    recipe = job.recipe
    inputs = {
        "student": recipe.student,
        "start": recipe.start,
        "finetune": recipe.finetune.model_dump(mode="json"),
        **recipe.choosing,
    }
    work = functools.partial(_work, job, stages)
    return job.stage("finetune", after_pretraining(stages), inputs, work, reads=LABELS)


def refit(job: Job, stages: Mapping[str, Stage], student: Model, folder: Path, cost: Cost) -> State:
    """Train another student on the labels as the finished stage has chosen to; return its weights."""
    choice = Choice(**stages["finetune"].results["chosen"])
    mode: Mode = "probe" if choice.group == "probe" else "finetune"
    with measured(cost, job.world.device):
        return new_fit(mode, job, student, job.recipe.finetune, shown=SHOWN).fitted(choice, folder, cost)


def _work(job: Job, stages: Mapping[str, Stage], folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    settings = job.recipe.finetune
    assert settings.modes is not None
    cost = Cost()
    with measured(cost, job.world.device):
        student = started(job, stages)
        fits = {mode: new_fit(mode, job, student, settings, shown=SHOWN) for mode in settings.modes}
        choices = ranked(job.task, [choice for fit in fits.values() for choice in fit.choices(folder, cost)])
        best: Mode = "probe" if choices[0].group == "probe" else "finetune"
        state = fits[best].fitted(choices[0], folder, cost)
        if job.world.first:
            save_weights(folder / "student.safetensors", state)
    results = {"chosen": choices[0].as_dict(), "judged": [choice.as_dict() for choice in choices]}
    return results, cost.as_dict()


SHOWN = "finetune the student"
