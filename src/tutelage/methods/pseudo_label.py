"""Semi-supervised learning by pseudo-labels: in rounds, the student learns from what it takes unlabeled images for.

Lee, *Pseudo-Label: the simple and efficient semi-supervised learning method for deep neural networks* (workshops of
ICML 2013), in the rounds that Vemulapalli et al. (ICML 2024, appendix C.3, Table 12) compare with. The first round is
finetuning on the labels. In every further one the student of the round before labels the transfer set, and a new one,
from the same weights as the first, learns from labels and pseudo-labels together. No finetuning follows.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from tutelage.data.leaks import other_rows
from tutelage.data.samples import Samples
from tutelage.errors import DataError, RecipeError
from tutelage.ledger import Cost, measured
from tutelage.methods.fit import Rate, rate_of
from tutelage.methods.job import LABELS, Job
from tutelage.methods.labeling import agreement, counts, label_images, read_labels, unlabeled_rows
from tutelage.methods.pretraining import pretraining_batch, pretraining_epochs, started
from tutelage.methods.rounds import Round, train_chosen
from tutelage.models.weights import load_weights, save_weights
from tutelage.run import Stage, write_json
from tutelage.settings import Settings

if TYPE_CHECKING:
    from tutelage.recipe import Recipe

MOST_ROUNDS = 10

NAMED = 10
"""Most classes without an image that a message names."""

STUDENT = "student.safetensors"


class PseudoLabelSettings(Settings):
    """How the student learns from its own predictions.

    Attributes:
        rounds: Trainings from the same weights, the first of them on the labels alone; the source has three.
        threshold: Least probability of a pseudo-label that is learned; 0 takes all, as the source does.
        soft: Whether the student's probabilities of all classes are learned, in place of the likeliest class.
        learning_rates: Peak rates to choose from in each round but the first; where not given, the one that held-out
            labels preferred in finetuning the whole student in the first.
        folds: How many of the recipe's folds judge a round: each takes a training of its own. With given validation
            data and a single rate nothing is trained twice.
        epochs: Passes over labels and pseudo-labels together; as many as over the transfer set in distillation where
            not given.
        steps: Where epochs are not given, about so many optimizer steps, in whole epochs, for as many images as the
            transfer set has.
        batch_size: Images a step; a sixteenth of the transfer set, 16 to 128, where not given.
        label_smoothing: Of the loss, on labels and pseudo-labels alike.
        average: Decay of the weights' moving average; held-out labels choose it or the raw weights.
    """

    rounds: int = Field(default=3, ge=2, le=MOST_ROUNDS)
    threshold: float = Field(default=0.0, ge=0, le=1)
    soft: bool = False
    learning_rates: tuple[Rate, ...] | None = Field(default=None, min_length=1)
    folds: int = Field(default=1, ge=1)
    epochs: int | None = Field(default=None, ge=1)
    steps: int | None = Field(default=None, ge=1)
    batch_size: int | None = Field(default=None, ge=1)
    label_smoothing: float = Field(default=0.1, ge=0, lt=1)
    average: float = Field(default=0.9995, ge=0, lt=1)

    def resolved(self, images: int) -> PseudoLabelSettings:
        """Fill in what suits a transfer set of this size."""
        batch_size = self.batch_size or pretraining_batch(images)
        epochs = self.epochs or pretraining_epochs(images, steps=self.steps, batch_size=batch_size)
        return self.model_copy(update={"epochs": epochs, "batch_size": batch_size})


def check_pseudo_labels(recipe: Recipe, method: str) -> None:
    """Check that there will be a learning rate for the rounds after the first.

    Raises:
        RecipeError: None is given, and the first round tries none on the whole student.
    """
    modes = recipe.baseline_finetune.get(method, recipe.finetune).modes
    if recipe.pseudo_label.learning_rates is None and modes is not None and "finetune" not in modes:
        raise RecipeError(
            f"pseudo_label.learning_rates: method {method!r} takes the rate that was best in finetuning the whole "
            "student, which finetune.modes leaves out; give one, or add finetune to the modes"
        )


def check_unlabeled(transfer: Samples, labeled: Samples) -> None:
    """Check that there will be images to label; none is read.

    Raises:
        DataError: All of them are labeled.
    """
    if not len(other_rows(transfer, labeled)):
        raise _nothing_unlabeled(transfer)


def label(job: Job, stages: Mapping[str, Stage], *, number: int) -> Stage | None:
    """Label the transfer set for a round with the student of the round before; nothing after the last round.

    Images that are labeled ones are left out. Writes a table of all pseudo-labels (see
    :mod:`tutelage.methods.labeling`); its results say how many of them the threshold keeps, and of which classes.
    """
    settings = job.recipe.pseudo_label
    if number > settings.rounds:
        return None
    after = [stages[student_stage(number - 1)], *([stages[f"label-{number - 1}"]] if number > 2 else [])]
    inputs = {
        "student": job.recipe.student,
        "start": job.recipe.start,
        "threshold": settings.threshold,
        "soft": settings.soft,
    }
    work = functools.partial(_label, job, stages, number)
    return job.stage(f"label-{number}", after, inputs, work, reads=("labeled", "transfer"))


def train_round(job: Job, stages: Mapping[str, Stage], *, number: int) -> Stage | None:
    """Train a round's student on labels and pseudo-labels, from the start of the first; nothing after the last round.

    Writes ``student.safetensors``, trained on all labels with the settings that predicted held-out labels best.
    Labeled images have their labels and nothing else. But without given validation data, held-out labels have taught
    the student that made the pseudo-labels, so that a round's held-out metrics are optimistic; they still rank its
    candidates.
    """
    settings = job.recipe.pseudo_label
    if number > settings.rounds:
        return None
    inputs = {
        "student": job.recipe.student,
        "start": job.recipe.start,
        "pseudo_label": settings.model_dump(mode="json", exclude={"rounds"}),
        **job.recipe.choosing,
    }
    after = [stages[f"label-{number}"]]
    work = functools.partial(_train, job, stages, number)
    return job.stage(f"train-{number}", after, inputs, work, reads=(*LABELS, "transfer"))


def student_stage(number: int) -> str:
    """Return the name of the stage that makes the student of a round."""
    return "finetune" if number == 1 else f"train-{number}"


def round_students(stages: Mapping[str, Stage]) -> list[Stage]:
    """Return the stage that made the student of each round; none for a method without rounds."""
    names = [student_stage(number) for number in range(1, MOST_ROUNDS + 1)]
    return [stages[name] for name in names if name in stages] if student_stage(2) in stages else []


def found_in_rounds(stages: Mapping[str, Stage]) -> list[dict[str, Any]]:
    """Return what each round found, plain data: ``round``, ``val`` (metrics on held-out labels), and what it learned.

    The latter is ``None`` in the first round, else the results of :func:`label`.
    """
    return [
        {
            "round": number,
            "val": dict(stage.results["chosen"]["metrics"]),
            "learned": dict(stages[f"label-{number}"].results) if number > 1 else None,
        }
        for number, stage in enumerate(round_students(stages), 1)
    ]


def _label(job: Job, stages: Mapping[str, Stage], number: int, folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    settings, names = job.recipe.pseudo_label, job.labeled.classes
    cost = Cost()
    with measured(cost, job.world.device):
        before = read_labels(stages[f"label-{number - 1}"].folder) if number > 2 else None
        rows = unlabeled_rows(job.transfer, job.labeled) if before is None else before.rows
        if not len(rows):
            raise _nothing_unlabeled(job.transfer)
        student = job.new_student()
        load_weights(stages[student_stage(number - 1)].folder / STUDENT, student)
        labels = label_images(job, student, rows, folder, cost, soft=settings.soft)
    kept = labels.at_least(settings.threshold)
    if not len(kept):
        raise DataError(
            f"pseudo_label.threshold={settings.threshold:g}: none of {len(labels):,} pseudo-labels is that sure, the "
            f"surest has {labels.confidence.max():.3f}; lower it, or use another method"
        )
    found = counts(kept, names)
    missing = [name for name, count in found.items() if not count]
    without = f"; none of class {', '.join(missing[:NAMED])}{', …' * (len(missing) > NAMED)}" if missing else ""
    job.progress.say(f"round {number}: {len(kept):,} of {len(labels):,} pseudo-labels are learned{without}")
    results = {
        "images": len(labels),
        "kept": len(kept),
        "classes": found,
        "missing": missing,
        "agreement": None if before is None else agreement(labels, before),
    }
    return results, cost.as_dict()


def _train(job: Job, stages: Mapping[str, Stage], number: int, folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    settings = job.recipe.pseudo_label
    cost = Cost()
    with measured(cost, job.world.device):
        kept = read_labels(stages[f"label-{number}"].folder).at_least(settings.threshold)
        student = started(job, stages)
        start = {key: value.detach().clone() for key, value in student.state_dict().items()}
        rounds = Round(job, student, start, kept.samples(job.transfer, job.labeled.classes))
        rates = settings.learning_rates or (_first_rate(job, stages["finetune"]),)
        choices, trained = train_chosen(rounds, rates, f"train round {number}", folder, cost)
        if job.world.first:
            save_weights(folder / STUDENT, trained.variants()[choices[0].variant])
            write_json(folder / "history.json", {f"round {number}": trained.history})
    results = {
        "chosen": choices[0].as_dict(),
        "judged": [choice.as_dict() for choice in choices],
        "labels": len(job.labeled),
        "pseudo_labels": len(kept),
    }
    return results, cost.as_dict()


def _first_rate(job: Job, first: Stage) -> float:
    """Return the learning rate that held-out labels preferred in the first round, the head alone left aside."""
    candidate = next(each["candidate"] for each in first.results["judged"] if each["group"] == "finetune")
    return rate_of(job.recipe.finetune.rates, candidate)


def _nothing_unlabeled(transfer: Samples) -> DataError:
    return DataError(
        f"{transfer.origin or 'data.transfer'}: every transfer image is a labeled one, and none is left to label; "
        "give other images (data.transfer), or use fewer labels (data.labels)"
    )
