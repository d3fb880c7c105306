"""Training a model on labels, from a given start; adapting by finetuning and the final finetuning are both this."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from torch import Tensor

from tutelage.data.samples import Samples
from tutelage.ledger import Cost
from tutelage.methods.choose import Candidate
from tutelage.methods.job import Job, Split
from tutelage.models.model import Model
from tutelage.objectives import Supervised
from tutelage.progress import Quiet
from tutelage.training.loop import State, Trained, train
from tutelage.training.phase import Phase
from tutelage.training.schedule import Schedule


@dataclass(frozen=True)
class SupervisedFit:
    """A way to train one model on labels.

    Attributes:
        job: Task, views, device.
        name: The candidate's name.
        model: Trained in place; its weights are set from ``start`` each time.
        start: The weights to start from, given the labels that may be used.
        schedule: For so many labels as are given.
        label_smoothing: Of the loss.
        trained: ``all`` or ``head``.
    """

    job: Job
    name: str
    model: Model
    start: Callable[[Samples], State]
    schedule: Callable[[int], Schedule]
    label_smoothing: float
    trained: Literal["all", "head"] = "all"

    def fit(self, samples: Samples, *, checkpoint: Path | None = None, shown: str = "") -> Trained:
        """Train on all of ``samples``; shown in the progress when it has a name."""
        self.model.load_state_dict(self.start(samples))
        schedule = self.schedule(len(samples))
        loader = self.job.loader(samples, schedule.batch_size)
        objective = Supervised(self.job.task, label_smoothing=self.label_smoothing)
        phase = Phase(shown or self.name, loader, {"supervised": (objective, 1.0)}, schedule, self.trained)
        progress = self.job.progress if shown else Quiet()
        seed = self.job.recipe.seed
        return train(phase, self.model, world=self.job.world, seed=seed, progress=progress, checkpoint=checkpoint)

    def outcomes(self, trained: Trained, samples: Samples) -> tuple[Mapping[str, Tensor], Cost]:
        """Return the logits of ``samples`` under each variant of the trained weights."""
        found: dict[str, Tensor] = {}
        cost = Cost()
        for variant in ("raw", "average"):
            state = weights(trained, variant)
            if state is not None:
                self.model.load_state_dict(state)
                found[variant] = self.job.predict(self.model, samples, cost=cost)
        return found, cost

    def candidate(self, group: str) -> Candidate:
        """Return this fit as a candidate."""

        def held_out(turn: int, split: Split) -> tuple[Mapping[str, Tensor], Cost]:
            trained = self.fit(split[0])
            found, cost = self.outcomes(trained, split[1])
            cost.add(trained.cost)
            return found, cost

        return Candidate(self.name, group, held_out)


def weights(trained: Trained, variant: str) -> State | None:
    """Return the weights called ``raw`` or ``average``."""
    return trained.raw if variant == "raw" else trained.average
