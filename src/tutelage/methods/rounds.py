"""A training on labels and pseudo-labels together, and the choice of its rate and weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from tutelage.data.samples import Samples, joined
from tutelage.ledger import Cost
from tutelage.methods.choose import Candidate, Choice, judge, ranked
from tutelage.methods.fit import Trial, rate_of
from tutelage.methods.job import Job, Split
from tutelage.models.model import Model
from tutelage.objectives import Supervised
from tutelage.progress import Quiet
from tutelage.training.loop import State, Trained, train
from tutelage.training.phase import Phase
from tutelage.training.schedule import Schedule


@dataclass(frozen=True)
class Round:
    """A training on labels and pseudo-labels.

    Attributes:
        job: Task, views, device.
        student: Trained in place; its weights are set to ``start`` each time.
        start: The weights to start from.
        pseudo: Unlabeled images, with the pseudo-labels that are learned.
    """

    job: Job
    student: Model
    start: State
    pseudo: Samples

    def train(self, rate: float, labeled: Samples, checkpoint: Path, *, shown: str = "") -> Trained:
        """Train on labels and pseudo-labels; progress is shown when it has a name."""
        settings = self.job.recipe.pseudo_label
        assert settings.epochs is not None
        assert settings.batch_size is not None
        self.student.load_state_dict(self.start)
        together = joined(labeled, self.pseudo)
        loader = self.job.loader(together, settings.batch_size, parts=(labeled, self.pseudo))
        schedule = Schedule(
            steps=settings.epochs * loader.steps_per_epoch,
            batch_size=settings.batch_size,
            learning_rate=rate,
            average=settings.average,
        )
        objective = Supervised(self.job.task, label_smoothing=settings.label_smoothing)
        return train(
            Phase(shown, loader, {"supervised": (objective, 1.0)}, schedule),
            self.student,
            world=self.job.world,
            seed=self.job.recipe.seed,
            progress=self.job.progress if shown else Quiet(),
            checkpoint=checkpoint,
        )

    def predicted(self, trained: Trained, held: Samples) -> dict[str, Tensor]:
        """Return the logits of held-out images under each variant of the weights."""
        found: dict[str, Tensor] = {}
        for variant, state in trained.variants().items():
            self.student.load_state_dict(state)
            found[variant] = self.job.predict(self.student, held, cost=trained.cost)
        return found

    def candidate(self, rate: float) -> Candidate:
        """Return a rate as a candidate."""

        def held_out(split: Split, checkpoint: Path) -> tuple[Mapping[str, Tensor], Cost]:
            trained = self.train(rate, split[0], checkpoint)
            return self.predicted(trained, split[1]), trained.cost

        trial = Trial(rate)
        return Candidate(trial.name, trial.group, held_out)


def train_chosen(
    rounds: Round, rates: tuple[float, ...], shown: str, folder: Path, cost: Cost
) -> tuple[list[Choice], Trained]:
    """Choose rate and weights on held-out labels, and train on all labels.

    Args:
        rounds: The round.
        rates: Peak learning rates to choose from.
        shown: What progress calls it.
        folder: The stage's; what is done of the work is kept here.
        cost: Gets what it takes.

    Returns:
        A choice for each rate and variant of the weights, the best first, and the training with its rate.
    """
    job, checkpoint = rounds.job, folder / "checkpoint"
    if job.validation is not None and len(rates) == 1:
        # What is judged has learned from all labels, and is what would be trained again.
        trained = rounds.train(rates[0], job.labeled, checkpoint, shown=shown)
        logits, trial = rounds.predicted(trained, job.validation), Trial(rates[0])
        targets = torch.from_numpy(job.validation.labels())
        choices = [
            Choice(trial.name, trial.group, variant, job.task.metrics(values, targets))
            for variant, values in logits.items()
        ]
    else:
        splits = job.splits()[: job.recipe.pseudo_label.folds]
        choices = judge(job, [rounds.candidate(rate) for rate in rates], folder, cost, splits)
        trained = rounds.train(rate_of(rates, choices[0].candidate), job.labeled, checkpoint, shown=shown)
    cost.add(trained.cost)
    return ranked(job.task, choices), trained
