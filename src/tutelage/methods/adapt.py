"""Stage 1 of task-oriented transfer: adapt the teacher to the task with the few labels."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field
from torch import Tensor

from tutelage.ledger import Cost, measured
from tutelage.methods.choose import Candidate, Choice, judge, ranked
from tutelage.methods.fit import SupervisedSettings, choose_fit
from tutelage.methods.job import Job, Split
from tutelage.methods.probe import cache_features, fit_probe
from tutelage.models.model import Model, parameter_count, weight_hash
from tutelage.models.weights import save_weights
from tutelage.run import Stage
from tutelage.training.loop import State

Rate = Annotated[float, Field(gt=0)]


class AdaptSettings(SupervisedSettings):
    """How the teacher is adapted; epochs, batch size and the like are finetuning's.

    Attributes:
        modes: ``probe`` fits a linear head on cached features; ``finetune`` trains the whole teacher
            with a new head. The better one on held-out labels teaches.
        penalties: L2 penalties that the probe chooses from.
        probe_views: Augmented views of each image that the probe is fitted on, besides the evaluation view.
        learning_rates: Peak rates that finetuning chooses from.
    """

    modes: tuple[Literal["probe", "finetune"], ...] = Field(default=("probe", "finetune"), min_length=1)
    penalties: tuple[Rate, ...] = Field(default=(1e-3, 1e-2, 1e-1), min_length=1)
    probe_views: int = Field(default=7, ge=0)
    learning_rates: tuple[Rate, ...] = Field(default=(1e-4, 3e-4, 1e-3), min_length=1)

    def resolved(self, labels: int) -> AdaptSettings:
        """Fill in what suits this many labels."""
        return self.model_copy(
            update={
                "epochs": self.epochs or max(5, round(24 * math.sqrt(50 / labels))),
                "statistics": self.statistics or "kept",
            }
        )


def adapt(job: Job, stages: Mapping[str, Stage]) -> Stage:
    """Adapt the teacher in every mode, and choose the mode that predicts held-out labels best.

    Writes ``probe.safetensors`` and ``finetune.safetensors``, each fitted on all labels with its mode's best
    settings; results name the ``chosen`` one.
    """
    settings = job.recipe.adapt
    inputs = {"teacher": job.recipe.teacher, "adapt": settings.model_dump(mode="json"), "folds": job.recipe.folds}
    return job.stage("adapt", (), inputs, functools.partial(_work, job))


def _work(job: Job, folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    cost = Cost()
    judged: list[Choice] = []
    best: dict[str, Choice] = {}
    with measured(cost, job.world.device):
        teacher = job.new_teacher()
        identity = {"name": teacher.encoder.name, "hash": weight_hash(teacher.encoder)}
        pretrained = {key: value.detach().clone() for key, value in teacher.state_dict().items()}
        for mode in job.recipe.adapt.modes:
            teacher.load_state_dict(pretrained)
            choices, state = MODES[mode](job, teacher, pretrained, folder, cost)
            judged += choices
            best[mode] = choices[0]
            if job.world.first:
                save_weights(folder / f"{mode}.safetensors", state)
    results = {
        "chosen": ranked(job.task, list(best.values()))[0].group,
        "modes": {mode: choice.as_dict() for mode, choice in best.items()},
        "judged": [choice.as_dict() for choice in judged],
        "teacher": {**identity, "params": parameter_count(teacher), **teacher.encoder.source},
    }
    return results, cost.as_dict()


def _probe(job: Job, teacher: Model, pretrained: State, folder: Path, cost: Cost) -> tuple[list[Choice], State]:
    settings, classes = job.recipe.adapt, len(job.labeled.classes)
    features = cache_features(job, teacher, job.labeled, settings.probe_views, cost)
    given = job.validation
    held_features = None if given is None else cache_features(job, teacher, given, 0, cost)

    def candidate(penalty: float) -> Candidate:
        def held_out(split: Split) -> tuple[Mapping[str, Tensor], Cost]:
            fit, held = split
            values = (held_features or features).of(held).values[0]
            weight, bias = fit_probe(features.of(fit), classes, penalty=penalty)
            return {"raw": values @ weight.T + bias}, Cost()

        return Candidate(f"probe-{penalty:g}", "probe", held_out)

    penalties = {f"probe-{penalty:g}": penalty for penalty in settings.penalties}
    choices = judge(job, [candidate(penalty) for penalty in penalties.values()], folder, cost)
    weight, bias = fit_probe(features, classes, penalty=penalties[choices[0].candidate])
    return choices, {**pretrained, "head.linear.weight": weight, "head.linear.bias": bias}


def _finetune(job: Job, teacher: Model, pretrained: State, folder: Path, cost: Cost) -> tuple[list[Choice], State]:
    # With a new head, not the probe's: in training, batch statistics move the features that one was fitted on.
    settings = job.recipe.adapt
    return choose_fit(job, teacher, settings, settings.learning_rates, folder, cost, shown="finetune the teacher")


MODES = {"probe": _probe, "finetune": _finetune}
"""How a teacher is adapted: each returns its choices, the best first, and the weights fitted on all labels."""
