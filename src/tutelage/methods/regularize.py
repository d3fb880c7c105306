"""Standard transfer learning, and the methods that hold a student by teachers' features as it learns from labels.

The student starts from its own weights, as a rule pretrained ones, or as a pretraining by a teacher has left it.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tutelage.ledger import Cost, measured
from tutelage.methods.choose import Choice
from tutelage.methods.features import stored_features
from tutelage.methods.finetune import SHOWN, FinetuneSettings
from tutelage.methods.fit import FinetuneFit, Held, rate_of
from tutelage.methods.job import LABELS, Job
from tutelage.methods.pretraining import after_pretraining, started
from tutelage.methods.regularizers import betas_of, settings_of
from tutelage.models.model import Model
from tutelage.models.weights import save_weights
from tutelage.run import Stage
from tutelage.training.loop import State


def rate(job: Job, stages: Mapping[str, Stage], *, always: bool = False) -> Stage | None:
    """Choose the learning rate of finetuning on held-out labels, the student held by nothing.

    One choice serves all methods that start alike; their regularizers are then weighed at that rate. Left out where
    the recipe names a single rate, unless ``always``.
    """
    settings = job.recipe.finetune
    if not always and len(settings.rates) == 1:
        return None

    def work(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
        cost = Cost()
        with measured(cost, job.world.device):
            choices = _fit(job, started(job, stages), settings, None).choices(folder, cost)
        results = {"chosen": choices[0].as_dict(), "judged": [choice.as_dict() for choice in choices]}
        return {**results, "rate": rate_of(settings.rates, choices[0].candidate)}, cost.as_dict()

    return job.stage("rate", after_pretraining(stages), _inputs(job, settings), work, reads=LABELS)


def regularize(job: Job, stages: Mapping[str, Stage], name: str | None = None) -> Stage:
    """Train the student on the labels, held by a regularizer if one is named; writes ``student.safetensors``.

    The regularizer's weight is chosen on held-out labels, then the student is trained on all of them.
    """
    settings = job.recipe.finetune
    chosen = settings.rates[0] if "rate" not in stages else float(stages["rate"].results["rate"])
    settings = settings.model_copy(update={"learning_rates": (chosen,)})
    inputs = _inputs(job, settings)
    if name is not None:
        inputs["regularizer"] = {"name": name, **settings_of(name, job.recipe.regularize, job.modality)}
    after = (*after_pretraining(stages), *(stages[each] for each in ("features", "rate") if each in stages))
    return job.stage("finetune", after, inputs, functools.partial(_work, job, stages, settings, name), reads=LABELS)


def refit_held(job: Job, stages: Mapping[str, Stage], student: Model, folder: Path, cost: Cost) -> State:
    """Train another student on the labels, held as the finished stage has chosen to; return its weights."""
    found = stages["finetune"].results
    settings = job.recipe.finetune.model_copy(update={"learning_rates": (found["rate"],)})
    held = _held(job, stages, found["regularizer"]["name"])
    with measured(cost, job.world.device):
        return _fit(job, student, settings, held).fitted(Choice(**found["chosen"]), folder, cost)


def _held(job: Job, stages: Mapping[str, Stage], name: str) -> Held:
    return Held(name, stored_features(job, stages), betas_of(name, job.recipe.regularize, job.modality))


def _work(
    job: Job, stages: Mapping[str, Stage], settings: FinetuneSettings, name: str | None, folder: Path
) -> tuple[dict[str, Any], dict[str, Any]]:
    cost = Cost()
    # Not measured: what storing features cost is known, even if it has to be done a second time.
    held = None if name is None else _held(job, stages, name)
    with measured(cost, job.world.device):
        fit = _fit(job, started(job, stages), settings, held)
        if held is None:  # the stage before has judged all that there is to choose from
            choices = [Choice(**choice) for choice in stages["rate"].results["judged"]]
        else:
            choices = fit.choices(folder, cost)
        state = fit.fitted(choices[0], folder, cost)
        if job.world.first:
            save_weights(folder / "student.safetensors", state)
    results: dict[str, Any] = {
        "chosen": choices[0].as_dict(),
        "judged": [choice.as_dict() for choice in choices],
        "rate": settings.rates[0],
    }
    if held is not None:
        beta = next(trial.beta for trial in fit.trials if trial.name == choices[0].candidate)
        results["regularizer"] = {"name": name, "beta": beta, "widths": dict(held.features.widths)}
    return results, cost.as_dict()


def _fit(job: Job, student: Model, settings: FinetuneSettings, held: Held | None) -> FinetuneFit:
    start = {key: value.detach().clone() for key, value in student.state_dict().items()}
    # None of these methods mixes views, so that a stored feature is of one image and all of them learn from the same.
    return FinetuneFit(job, student, start, settings, SHOWN, mixed=False, held=held)


def _inputs(job: Job, settings: FinetuneSettings) -> dict[str, Any]:
    return {
        "student": job.recipe.student,
        "start": job.recipe.start,
        "finetune": settings.model_dump(mode="json", exclude={"modes", "penalties", "probe_views"}),
        **job.recipe.choosing,
    }
