"""Training a model on labels, from a given start; adapting by finetuning and the final finetuning are both this."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from tutelage.data.samples import Samples
from tutelage.ledger import Cost
from tutelage.methods.choose import Candidate, Choice, judge
from tutelage.methods.job import Job, Split
from tutelage.models.model import Model
from tutelage.objectives import Supervised
from tutelage.progress import Quiet
from tutelage.run import write_json
from tutelage.training.loop import State, Trained, train
from tutelage.training.phase import Phase, Statistics
from tutelage.training.schedule import Schedule


@dataclass(frozen=True)
class SupervisedFit:
    """A way to train one model on labels.

    Attributes:
        job: Task, views, device.
        model: Trained in place; its weights are set to ``start`` each time.
        start: The weights to start from.
        schedule: For so many labels as are given.
        label_smoothing: Of the loss.
        statistics: What BatchNorm does (see :class:`tutelage.training.phase.Phase`).
    """

    job: Job
    model: Model
    start: State
    schedule: Callable[[int], Schedule]
    label_smoothing: float
    statistics: Statistics

    def train(self, samples: Samples, *, checkpoint: Path | None = None, shown: str = "") -> Trained:
        """Train on all of ``samples``; progress is shown when it has a name."""
        self.model.load_state_dict(self.start)
        schedule = self.schedule(len(samples))
        objective = Supervised(self.job.task, label_smoothing=self.label_smoothing)
        loader = self.job.loader(samples, schedule.batch_size)
        phase = Phase(shown, loader, {"supervised": (objective, 1.0)}, schedule, statistics=self.statistics)
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
    job: Job, fits: Mapping[str, SupervisedFit], folder: Path, cost: Cost, *, shown: str
) -> tuple[list[Choice], State]:
    """Choose among fits on held-out labels, then train the best on all labels.

    Returns:
        The choices, the best first, and its weights.
    """
    candidates = [Candidate(name, "finetune", fit.held_out) for name, fit in fits.items()]
    choices = judge(job, candidates, folder, cost)
    trained = fits[choices[0].candidate].train(job.labeled, checkpoint=folder / "checkpoint", shown=shown)
    cost.add(trained.cost)
    if job.world.first:
        write_json(folder / "history.json", {shown: trained.history})
    return choices, trained.variants()[choices[0].variant]
