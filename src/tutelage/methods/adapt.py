"""Stage 1 of task-oriented transfer: adapt the teacher to the task with the few labels."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

from pydantic import Field

from tutelage.ledger import Cost, measured
from tutelage.methods.choose import Choice, ranked
from tutelage.methods.fit import Mode, Rate, SupervisedSettings, new_fit
from tutelage.methods.job import LABELS, Job
from tutelage.models.model import Model, parameter_count, weight_hash
from tutelage.models.weights import load_weights, save_weights
from tutelage.run import Stage

DENSE = 2
"""How many times as many passes a dense task takes over its labeled images: its head is no linear one."""

MODES: tuple[Mode, ...] = get_args(Mode)


class AdaptSettings(SupervisedSettings):
    """How the teacher is adapted; epochs, batch size and the like are finetuning's.

    Attributes:
        modes: ``probe`` fits a linear head on cached features; ``finetune`` trains the whole teacher
            with a new head. The better one on held-out labels teaches, unless the method names the one.
        learning_rates: Peak rates that finetuning chooses from, and where a dense task's head is trained alone, this.
            If not given, 1e-4, 3e-4 and 1e-3; of dense tasks, whose head starts at random, three times as high, and
            of texts a third of them.
    """

    modes: tuple[Mode, ...] = Field(default=("probe", "finetune"), min_length=1)
    learning_rates: tuple[Rate, ...] | None = Field(default=None, min_length=1)

    def resolved(self, labels: int, *, dense: bool = False, texts: bool = False) -> AdaptSettings:
        """Fill in what suits this many labels; those of a dense task are images."""
        rates = (3e-4, 1e-3, 3e-3) if dense else (3e-5, 1e-4, 3e-4) if texts else (1e-4, 3e-4, 1e-3)
        return self.model_copy(
            update={
                "epochs": self.epochs or max(5, round((DENSE if dense else 1) * 24 * math.sqrt(50 / labels))),
                "learning_rates": self.learning_rates or rates,
                "batch_size": self.batch_size if not dense else self.dense_batch,
                "statistics": self.statistics or "kept",
            }
        )

    @property
    def rates(self) -> tuple[float, ...]:
        """Peak learning rates to choose from, once resolved."""
        assert self.learning_rates is not None
        return self.learning_rates

    def of(self, mode: Mode) -> dict[str, Any]:
        """Return the settings that a mode reads, plain data."""
        probe = {"penalties", "probe_views"}
        data = self.model_dump(mode="json", exclude={"modes"})
        return {key: value for key, value in data.items() if (key in probe) == (mode == "probe")}


def adapt_in(mode: Mode, job: Job, stages: Mapping[str, Stage], *, always: bool = False) -> Stage | None:
    """Adapt the teacher in one mode, if the recipe asks for it, or ``always``.

    Writes ``MODE.safetensors``, fitted on all labels with the settings that predicted held-out labels best.
    """
    settings = job.recipe.adapt
    if not always and mode not in settings.modes:
        return None
    inputs = {"teacher": job.recipe.teacher, "adapt": settings.of(mode), **job.recipe.choosing}
    return job.stage(f"adapt-{mode}", (), inputs, functools.partial(_work, job, mode), reads=LABELS)


def adapt(job: Job, stages: Mapping[str, Stage]) -> Stage:
    """Choose the mode that predicts held-out labels best; results name the ``chosen`` one."""
    adapted = {mode: stages[f"adapt-{mode}"] for mode in MODES if f"adapt-{mode}" in stages}

    def work(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
        judged = [Choice(**choice) for stage in adapted.values() for choice in stage.results["judged"]]
        best = {mode: Choice(**stage.results["judged"][0]) for mode, stage in adapted.items()}
        results = {
            "chosen": ranked(job.task, list(best.values()))[0].group,
            "modes": {mode: choice.as_dict() for mode, choice in best.items()},
            "judged": [choice.as_dict() for choice in judged],
            "teacher": next(iter(adapted.values())).results["teacher"],
        }
        return results, Cost().as_dict()

    return job.stage("adapt", adapted.values(), {"modes": list(adapted)}, work)


def adapted_by(stages: Mapping[str, Stage], mode: str | None = None) -> Stage:
    """Return the stage that adapted the teacher in a mode; in the chosen one if none is named."""
    return stages[f"adapt-{mode or stages['adapt'].results['chosen']}"]


def load_adapted(stage: Stage, teacher: Model) -> None:
    """Give a teacher the weights that a stage adapted."""
    load_weights(stage.folder / f"{stage.name.rpartition('-')[2]}.safetensors", teacher)


def _work(job: Job, mode: Mode, folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    cost = Cost()
    with measured(cost, job.world.device):
        teacher = job.new_teacher()
        identity = {"name": teacher.encoder.name, "hash": weight_hash(teacher.encoder)}
        # Finetuning has a new head, not the probe's: in training, batch statistics move the features that one was
        # fitted on.
        fit = new_fit(mode, job, teacher, job.recipe.adapt, shown="finetune the teacher")
        choices = fit.choices(folder, cost)
        state = fit.fitted(choices[0], folder, cost)
        if job.world.first:
            save_weights(folder / f"{mode}.safetensors", state)
    results = {
        "judged": [choice.as_dict() for choice in choices],
        "teacher": {**identity, "params": parameter_count(teacher), **teacher.encoder.source},
    }
    return results, cost.as_dict()
