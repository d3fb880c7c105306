"""Training a model on labels, from a given start: all of it over learning rates, or a linear probe over penalties.

Adapting a teacher, the final finetuning, and the methods that hold a student by a teacher's features are all this.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol

import torch
from pydantic import Field, SerializerFunctionWrapHandler, model_serializer
from torch import Tensor

from tutelage.data.samples import Samples
from tutelage.ledger import Cost
from tutelage.methods.choose import Candidate, Choice, judge
from tutelage.methods.features import StoredFeatures
from tutelage.methods.job import Job, Split
from tutelage.methods.probe import CachedFeatures, cache_features, fit_probe
from tutelage.methods.regularizers import make_regularizer
from tutelage.models.model import Model
from tutelage.models.weights import save_weights
from tutelage.objectives import Objective, Supervised
from tutelage.progress import Quiet
from tutelage.run import write_json
from tutelage.settings import Settings
from tutelage.training.loop import State, Trained, train
from tutelage.training.phase import Phase, Statistics
from tutelage.training.schedule import Schedule, few_label_batch

DENSE_BATCH = 16
"""Most images a step of a dense task, unless the recipe says otherwise."""

OPTIMIZER = ("weight_decay", "warmup", "clip")
"""Settings of the optimizer, which are written down only where they are not the usual ones."""

Rate = Annotated[float, Field(gt=0)]
Mode = Literal["probe", "finetune"]


class SupervisedSettings(Settings):
    """What every training on labels has.

    Attributes:
        epochs: Passes over the labels; more for fewer labels where not given.
        batch_size: Most images a step.
        label_smoothing: Of the loss.
        average: Decay of the weights' moving average; validation chooses it or the raw weights.
        weight_decay: Decoupled weight decay of matrices and kernels; with 0, AdamW is Adam.
        warmup: Share of the steps in which the rate rises from 0.
        clip: Largest norm of the gradient; null does not clip it.
        statistics: BatchNorm's: ``kept`` as they are, or ``batch``; kept for weights that have learned something if
            not given.
        penalties: L2 penalties that a probe chooses from.
        probe_views: Augmented views of each image that a probe is fitted on, besides the evaluation view; fewer where
            all views together would be more than a million.
    """

    epochs: int | None = Field(default=None, ge=1)
    batch_size: int = Field(default=64, ge=1)
    label_smoothing: float = Field(default=0.1, ge=0, lt=1)
    average: float = Field(default=0.9995, ge=0, lt=1)
    weight_decay: float = Field(default=0.05, ge=0)
    warmup: float = Field(default=0.1, ge=0, lt=1)
    clip: float | None = Field(default=1.0, gt=0)
    statistics: Statistics | None = None
    penalties: tuple[Rate, ...] = Field(default=(1e-3, 1e-2, 1e-1), min_length=1)
    probe_views: int = Field(default=7, ge=0)

    @model_serializer(mode="wrap")
    def _without_usual_optimizer(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # Fingerprints are taken of this: those of trainings with the usual optimizer are older than these settings.
        data: dict[str, Any] = serialize(self)
        usual = {name: SupervisedSettings.model_fields[name].default for name in OPTIMIZER}
        return {key: value for key, value in data.items() if key not in usual or value != usual[key]}

    @property
    def dense_batch(self) -> int:
        """Most images a step of a dense task: as given, else 16, whose activations are those of many small ones."""
        return self.batch_size if "batch_size" in self.model_fields_set else DENSE_BATCH

    def schedule(self, learning_rate: float, labels: int) -> Schedule:
        """Return the schedule on this many labels, once the settings are resolved."""
        assert self.epochs is not None
        batch = few_label_batch(self.batch_size, labels)
        return Schedule(
            steps=self.epochs * max(1, labels // batch),
            batch_size=batch,
            learning_rate=learning_rate,
            average=self.average,
            weight_decay=self.weight_decay,
            warmup=self.warmup,
            clip=self.clip,
        )

    @property
    def rates(self) -> tuple[float, ...]:
        """Peak learning rates to choose from, once the settings are resolved."""
        raise NotImplementedError


class Fit(Protocol):
    """A way to fit a model to labels: chosen on held-out ones, then fitted on all."""

    def choices(self, folder: Path, cost: Cost) -> list[Choice]:
        """Judge every candidate; the best first. Judgments are kept in the folder."""
        ...

    def fitted(self, choice: Choice, folder: Path, cost: Cost) -> State:
        """Return the weights of a candidate and variant, fitted on all labels."""
        ...


@dataclass(frozen=True)
class Held:
    """A student that is held by teachers' features while it learns from labels.

    Attributes:
        name: Key of ``REGULARIZERS``.
        features: Of all labeled images.
        betas: Weights of the regularizer to choose from.
    """

    name: str
    features: StoredFeatures
    betas: tuple[float, ...]


@dataclass(frozen=True)
class Trial:
    """What a training on labels tries.

    Attributes:
        rate: Peak learning rate.
        beta: Weight of the regularizer, if there is one.
        group: ``finetune``, or the regularizer.
    """

    rate: float
    beta: float | None = None
    group: str = "finetune"

    @property
    def name(self) -> str:
        """As results write it."""
        return f"{self.group}-{self.rate:g}" if self.beta is None else f"{self.group}-{self.beta:g}"


def rate_of(rates: Iterable[float], candidate: str) -> float:
    """Return the peak learning rate of a finetuning's candidate, by its name."""
    return next(rate for rate in rates if Trial(rate).name == candidate)


@dataclass(frozen=True)
class FinetuneFit:
    """The whole model, trained on labels.

    Attributes:
        job: Task, views, device.
        model: Trained in place; its weights are set to ``start`` each time.
        start: The weights to start from.
        settings: Resolved.
        shown: What progress calls it.
        mixed: Whether views are mixed, where the policy says so.
        held: What holds the model, if something does; then views are not mixed, and there is one learning rate.
        trained: ``head`` leaves the encoder as it is.
    """

    job: Job
    model: Model
    start: State
    settings: SupervisedSettings
    shown: str
    mixed: bool = True
    held: Held | None = None
    trained: Literal["all", "head"] = "all"

    @property
    def trials(self) -> list[Trial]:
        """What there is to choose from."""
        if self.held is None:
            group = "finetune" if self.trained == "all" else "probe"
            return [Trial(rate, group=group) for rate in self.settings.rates]
        (rate,) = self.settings.rates
        return [Trial(rate, beta, self.held.name) for beta in self.held.betas]

    def choices(self, folder: Path, cost: Cost) -> list[Choice]:
        """Judge every trial."""

        def candidate(trial: Trial) -> Candidate:
            return Candidate(trial.name, trial.group, functools.partial(self._held_out, trial))

        return judge(self.job, [candidate(trial) for trial in self.trials], folder, cost)

    def fitted(self, choice: Choice, folder: Path, cost: Cost) -> State:
        """Train as was chosen on all labels; its curve goes to ``history.json``.

        What a regularizer has learned goes to ``regularizer.safetensors``.
        """
        trial = next(trial for trial in self.trials if trial.name == choice.candidate)
        holds = self._holds()
        trained = self._train(trial, holds, self.job.labeled, checkpoint=folder / "checkpoint", shown=self.shown)
        cost.add(trained.cost)
        if self.job.world.first:
            write_json(folder / "history.json", {self.shown: trained.history})
            for regularizer in holds.values():
                save_weights(folder / "regularizer.safetensors", regularizer.state_dict())
        return trained.variants()[choice.variant]

    def _holds(self) -> dict[str, Objective]:
        """Return what holds the model, at its start; the same for the same seed."""
        if self.held is None:
            return {}
        torch.manual_seed(self.job.recipe.seed)
        regularizer = make_regularizer(
            self.held.name,
            self.model.encoder.widths,
            self.held.features.widths,
            reads=self.job.modality,
            classes=len(self.job.labeled.classes),
            seed=self.job.recipe.seed,
            settings=self.job.recipe.regularize,
        )
        return {self.held.name: regularizer.to(self.job.world.device)}

    def _train(
        self,
        trial: Trial,
        holds: Mapping[str, Objective],
        samples: Samples,
        *,
        checkpoint: Path | None = None,
        shown: str = "",
    ) -> Trained:
        """Train on all of ``samples``; progress is shown when it has a name."""
        self.model.load_state_dict(self.start)
        schedule = self.settings.schedule(trial.rate, len(samples))
        supervised = Supervised(self.job.task, label_smoothing=self.settings.label_smoothing)
        phase = Phase(
            shown,
            self.job.loader(
                samples,
                schedule.batch_size,
                views=None if self.held is None else self.job.recipe.regularize.views,
                mixed=self.mixed and self.held is None,
            ),
            {"supervised": (supervised, 1.0), **{name: (each, trial.beta or 0.0) for name, each in holds.items()}},
            schedule,
            trained=self.trained,
            statistics=self.settings.statistics or "batch",
            teachers={} if self.held is None else self.held.features.of(samples),
        )
        progress = self.job.progress if shown else Quiet()
        seed = self.job.recipe.seed
        return train(phase, self.model, world=self.job.world, seed=seed, progress=progress, checkpoint=checkpoint)

    def _held_out(self, trial: Trial, split: Split, checkpoint: Path) -> tuple[Mapping[str, Tensor], Cost]:
        """Train on a split's first part, and return the outcomes of its second under each variant of the weights."""
        trained = self._train(trial, self._holds(), split[0], checkpoint=checkpoint)
        found: dict[str, Tensor] = {}
        for variant, state in trained.variants().items():
            self.model.load_state_dict(state)
            found[variant] = self.job.outcomes(self.model, split[1], cost=trained.cost)
        return found, trained.cost


class ProbeFit:
    """A linear head alone, on the features of an encoder that stays as it is.

    Args:
        job: Task, views, device.
        model: Gives the features.
        start: Its weights.
        settings: Resolved.
        shown: Not used: it takes no time that is worth a bar.
    """

    def __init__(self, job: Job, model: Model, start: State, settings: SupervisedSettings, shown: str) -> None:
        self._job, self._model, self._start, self._settings = job, model, start, settings
        self._cached: CachedFeatures | None = None

    def choices(self, folder: Path, cost: Cost) -> list[Choice]:
        """Judge every penalty."""
        features, job = self._features(cost), self._job
        classes = len(job.labeled.classes)
        held_features = None if job.validation is None else cache_features(job, self._model, job.validation, 0, cost)

        def candidate(penalty: float) -> Candidate:
            def held_out(split: Split, checkpoint: Path) -> tuple[Mapping[str, Tensor], Cost]:
                fit, held = split
                values = (held_features or features).of(held).values[0]
                weight, bias = fit_probe(features.of(fit), classes, penalty=penalty)
                return {"raw": values @ weight.T + bias}, Cost()

            return Candidate(f"probe-{penalty:g}", "probe", held_out)

        return judge(job, [candidate(penalty) for penalty in self._settings.penalties], folder, cost)

    def fitted(self, choice: Choice, folder: Path, cost: Cost) -> State:
        """Fit the head with a choice's penalty on all labels."""
        penalty = next(each for each in self._settings.penalties if f"probe-{each:g}" == choice.candidate)
        weight, bias = fit_probe(self._features(cost), len(self._job.labeled.classes), penalty=penalty)
        return {**self._start, "head.linear.weight": weight, "head.linear.bias": bias}

    def _features(self, cost: Cost) -> CachedFeatures:
        if self._cached is None:
            self._model.load_state_dict(self._start)
            self._cached = cache_features(self._job, self._model, self._job.labeled, self._settings.probe_views, cost)
        return self._cached


def new_fit(mode: Mode, job: Job, model: Model, settings: SupervisedSettings, *, shown: str) -> Fit:
    """Return a way to fit a model from the weights that it has now; a choice's group is its mode.

    A probe leaves the encoder as it is: a linear head is fitted to its optimum on cached features, that of a dense
    task is trained.
    """
    start = {key: value.detach().clone() for key, value in model.state_dict().items()}
    if mode == "finetune":
        return FinetuneFit(job, model, start, settings, shown)
    if job.dense:
        return FinetuneFit(job, model, start, settings, shown, trained="head")
    return ProbeFit(job, model, start, settings, shown)
