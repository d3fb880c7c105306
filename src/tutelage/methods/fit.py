"""Training a model on labels, from a given start; adapting by finetuning and the final finetuning are both this."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import Field
from torch import Tensor

from tutelage.data.samples import Samples
from tutelage.ledger import Cost
from tutelage.methods.choose import Candidate, Choice, judge
from tutelage.methods.job import Job, Split
from tutelage.models.model import Model
from tutelage.objectives import Supervised
from tutelage.progress import Quiet
from tutelage.run import write_json
from tutelage.settings import Settings
from tutelage.training.loop import State, Trained, train
from tutelage.training.phase import Phase, Statistics
from tutelage.training.schedule import Schedule, few_label_batch


class SupervisedSettings(Settings):
    """What every training on labels has.

    Attributes:
        epochs: Passes over the labels; more for fewer labels where not given.
        batch_size: Most images a step.
        label_smoothing: Of the loss.
        average: Decay of the weights' moving average; validation chooses it or the raw weights.
        statistics: BatchNorm's: ``kept`` as they are, or ``batch``; kept for weights that have learned something if
            not given.
    """

    epochs: int | None = Field(default=None, ge=1)
    batch_size: int = Field(default=64, ge=1)
    label_smoothing: float = Field(default=0.1, ge=0, lt=1)
    average: float = Field(default=0.9995, ge=0, lt=1)
    statistics: Statistics | None = None

    def schedule(self, learning_rate: float, labels: int) -> Schedule:
        """Return the schedule on this many labels, once the settings are resolved."""
        assert self.epochs is not None
        batch = few_label_batch(self.batch_size, labels)
        return Schedule(
            steps=self.epochs * max(1, labels // batch),
            batch_size=batch,
            learning_rate=learning_rate,
            average=self.average,
        )


@dataclass(frozen=True)
class SupervisedFit:
    """A way to train one model on labels.

    Attributes:
        job: Task, views, device.
        model: Trained in place; its weights are set to ``start`` each time.
        start: The weights to start from.
        settings: Resolved.
        learning_rate: Peak rate.
    """

    job: Job
    model: Model
    start: State
    settings: SupervisedSettings
    learning_rate: float

    def train(self, samples: Samples, *, checkpoint: Path | None = None, shown: str = "") -> Trained:
        """Train on all of ``samples``; progress is shown when it has a name."""
        self.model.load_state_dict(self.start)
        schedule = self.settings.schedule(self.learning_rate, len(samples))
        objective = Supervised(self.job.task, label_smoothing=self.settings.label_smoothing)
        loader = self.job.loader(samples, schedule.batch_size)
        phase = Phase(
            shown, loader, {"supervised": (objective, 1.0)}, schedule, statistics=self.settings.statistics or "batch"
        )
        progress = self.job.progress if shown else Quiet()
        seed = self.job.recipe.seed
        return train(phase, self.model, world=self.job.world, seed=seed, progress=progress, checkpoint=checkpoint)

    def held_out(self, split: Split) -> tuple[Mapping[str, Tensor], Cost]:
        """Train on a split's first part, and return the logits of its second under each variant of the weights."""
        trained = self.train(split[0])
        found: dict[str, Tensor] = {}
        for variant, state in trained.variants().items():
            self.model.load_state_dict(state)
            found[variant] = self.job.predict(self.model, split[1], cost=trained.cost)
        return found, trained.cost


def choose_fit(
    job: Job,
    model: Model,
    settings: SupervisedSettings,
    rates: Sequence[float],
    folder: Path,
    cost: Cost,
    *,
    shown: str,
) -> tuple[list[Choice], State]:
    """Choose a learning rate on held-out labels, then train with it on all labels, from the model's weights.

    Returns:
        The choices, the best first, and the weights.
    """
    start = {key: value.detach().clone() for key, value in model.state_dict().items()}
    fits = {f"finetune-{rate:g}": SupervisedFit(job, model, start, settings, rate) for rate in rates}
    candidates = [Candidate(name, "finetune", fit.held_out) for name, fit in fits.items()]
    choices = judge(job, candidates, folder, cost)
    trained = fits[choices[0].candidate].train(job.labeled, checkpoint=folder / "checkpoint", shown=shown)
    cost.add(trained.cost)
    if job.world.first:
        write_json(folder / "history.json", {shown: trained.history})
    return choices, trained.variants()[choices[0].variant]
