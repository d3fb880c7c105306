"""Stage 3 of every method: the student learns from the labels."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from tutelage.ledger import Cost, measured
from tutelage.methods.fit import SupervisedSettings, choose_fit
from tutelage.methods.job import Job
from tutelage.models.weights import load_weights, save_weights
from tutelage.run import Stage

Rate = Annotated[float, Field(gt=0)]


class FinetuneSettings(SupervisedSettings):
    """How the student learns from labels.

    Attributes:
        learning_rates: Peak rates to choose from; if not given, three after pretraining, and from random weights the
            highest of the source's range alone, which won wherever we looked.
    """

    learning_rates: tuple[Rate, ...] | None = Field(default=None, min_length=1)

    def resolved(self, labels: int, *, from_random: bool) -> FinetuneSettings:
        """Fill in what suits this many labels, with weights that have learned nothing yet or something."""
        epochs = max(20, 240 * math.sqrt(50 / labels)) if from_random else max(10, 20 * math.sqrt(50 / labels))
        rates = (3e-3,) if from_random else (1e-4, 3e-4, 1e-3)
        return self.model_copy(
            update={
                "epochs": self.epochs or round(epochs),
                "learning_rates": self.learning_rates or rates,
                "statistics": self.statistics or ("batch" if from_random else "kept"),
            }
        )


def finetune(job: Job, stages: Mapping[str, Stage]) -> Stage:
    """Train the student on the labels, from the pretraining stage if there is one, else from its start.

    Writes ``student.safetensors``, trained on all labels with the settings that predicted held-out labels best.
    Without given validation data, those labels also taught the teacher, so that the held-out metrics of a
    distilled student are optimistic; they still rank the candidates.
    """
    pretrained = stages.get("distill")
    recipe = job.recipe
    inputs = {
        "student": recipe.student,
        "start": recipe.start,
        "finetune": recipe.finetune.model_dump(mode="json"),
        "folds": recipe.folds,
    }
    after = [pretrained] if pretrained is not None else []
    return job.stage("finetune", after, inputs, functools.partial(_work, job, pretrained))


def _work(job: Job, pretrained: Stage | None, folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    settings = job.recipe.finetune
    assert settings.learning_rates is not None
    cost = Cost()
    with measured(cost, job.world.device):
        student = job.new_student()
        if pretrained is not None:
            load_weights(pretrained.folder / "student.safetensors", student)
        choices, state = choose_fit(
            job, student, settings, settings.learning_rates, folder, cost, shown="finetune the student"
        )
        if job.world.first:
            save_weights(folder / "student.safetensors", state)
    results = {"chosen": choices[0].as_dict(), "judged": [choice.as_dict() for choice in choices]}
    return results, cost.as_dict()
