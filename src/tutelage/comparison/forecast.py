"""What each stage of a method will cost, from what one image costs: for predictions and for equal budgets.

FLOPs are exact but for rounding of batches, seconds as good as the measured speeds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from tutelage.comparison.bank_speed import BANKS, bank_share
from tutelage.comparison.grid import Budget
from tutelage.comparison.speeds import Speeds
from tutelage.comparison.table import Spent
from tutelage.data.leaks import other_rows
from tutelage.errors import RecipeError
from tutelage.methods import METHODS
from tutelage.methods.fit import SupervisedSettings
from tutelage.methods.job import Job
from tutelage.methods.probe import augmented_views
from tutelage.methods.regularizers import betas_of
from tutelage.recipe import Recipe

NOTHING = Spent(0.0, 0.0)


def total(parts: Iterable[Spent]) -> Spent:
    """Return the sum."""
    found = NOTHING
    for part in parts:
        found = Spent(found.seconds + part.seconds, found.flops + part.flops)
    return found


def times(count: float, *each: Spent) -> Spent:
    """Return what so many times some pieces of work cost."""
    one = total(each)
    return Spent(count * one.seconds, count * one.flops)


def stage_cost(name: str, job: Job, speeds: Speeds) -> Spent:
    """Return what a stage of a method will cost.

    Args:
        name: Of the stage; what only reads finished ones costs nothing.
        job: Resolved.
        speeds: Of its models.
    """
    recipe, view = job.recipe, speeds.view
    distilling, pretraining = recipe.distill, recipe.pretrain
    lesson = METHODS[recipe.method].lesson
    if name == "adapt-probe" and job.dense:
        return _finetune(job, recipe.adapt, recipe.adapt.rates, "teacher-head", speeds)
    if name == "adapt-probe":
        return _probe(job, recipe.adapt, "teacher", speeds)
    if name == "adapt-finetune":
        return _finetune(job, recipe.adapt, recipe.adapt.rates, "teacher", speeds)
    if name in ("targets", "align") and METHODS[recipe.method].pairing is not None:
        return _pairs(name, job, speeds)
    if name == "targets" and distilling.targets == "cached":
        return times(len(job.transfer) * (distilling.views or 1), view, speeds.passes[_plainly("teacher", job)])
    if name == "distill":
        assert lesson is not None
        assert distilling.epochs is not None
        assert distilling.batch_size is not None
        live = [speeds.passes[_plainly("teacher", job)]] if distilling.targets == "live" else []
        learning = _training(len(job.transfer), distilling.epochs, distilling.batch_size, lesson.name, speeds, *live)
        return total((learning, _banks(job, speeds))) if distilling.uses_banks(lesson) else learning
    if name == "pretrain":
        assert job.pretraining is not None
        assert pretraining.epochs is not None
        assert pretraining.batch_size is not None
        what = "student-plain" if job.dense else "student"
        return _training(len(job.pretraining), pretraining.epochs, pretraining.batch_size, what, speeds)
    if name == "self-distill":
        assert recipe.dino.epochs is not None
        assert recipe.dino.batch_size is not None
        size, steps = _steps(len(job.transfer), recipe.dino.epochs, recipe.dino.batch_size)
        return speeds.training[name].training_cost(steps, size)  # its views are in it
    if name == "features":
        return times(len(job.labeled) * (recipe.regularize.views or 1), view, speeds.passes["teacher"])
    if name == "rate":
        if METHODS[recipe.method].held and len(recipe.finetune.rates) == 1:
            return NOTHING
        return times(len(recipe.finetune.rates), _choosing(job, recipe.finetune, "student", speeds))
    if name == "finetune" and "rate" in METHODS[recipe.method].stages:
        held = METHODS[recipe.method].held
        betas = betas_of(held, recipe.regularize, recipe.modality) if held else ()
        once = _once(job, recipe.finetune, "student", speeds)
        return total((times(len(betas), _choosing(job, recipe.finetune, "student", speeds)), once))
    if name == "finetune":
        settings = recipe.finetune
        assert settings.learning_rates is not None
        parts = {
            "probe": lambda: _probe(job, settings, "student", speeds),
            "finetune": lambda: _finetune(job, settings, settings.rates, "student", speeds),
        }
        return total(parts[mode]() for mode in settings.modes or ())
    if name.startswith(("label-", "train-")):
        kind, _, number = name.partition("-")
        if int(number) > recipe.pseudo_label.rounds:
            return NOTHING
        return _labeling(job, speeds) if kind == "label" else _round(job, speeds)
    if name == "judge":
        return times(len(job.labeled), speeds.decode, speeds.passes["student"])
    return NOTHING


def _plainly(model: str, job: Job) -> str:
    """Return the name of a model's speed in a method's lesson, which may know nothing of a dense task."""
    lesson = METHODS[job.recipe.method].lesson
    return f"{model}-plain" if job.dense and lesson is not None and not lesson.adapted else model


def method_cost(job: Job, speeds: Speeds) -> Spent:
    """Return what a method will cost all in all: every stage that it runs, choices included, and a curation's."""
    modes = job.recipe.adapt.modes
    both = (
        "adapt-probe" in METHODS[job.recipe.method].stages and "adapt-finetune" in METHODS[job.recipe.method].stages
    )
    left_out = {f"adapt-{mode}" for mode in ("probe", "finetune") if both and mode not in modes}
    stages = [name for name in METHODS[job.recipe.method].stages if name not in left_out]
    curating = NOTHING
    if job.curation is not None and METHODS[job.recipe.method].needs_transfer:
        curating = Spent(float(job.curation.cost["seconds"]), float(job.curation.cost["flops"]))
    return total((curating, *(stage_cost(name, job, speeds) for name in stages)))


def point_cost(job: Job, speeds: Speeds) -> Spent:
    """Return what finetuning one checkpoint on the way costs: with the settings that were chosen for the last one."""
    return _once(job, job.recipe.finetune, "student", speeds)


def evaluation_cost(images: int, model: str, speeds: Speeds) -> Spent:
    """Return what evaluating a model on so many test images costs."""
    return times(images, speeds.decode, speeds.view, speeds.passes[model])


def within(budget: Budget, resolve: Callable[[int], tuple[Recipe, Spent]]) -> Recipe:
    """Return the longest training of a method that a budget allows.

    Args:
        budget: What may be spent.
        resolve: Returns the recipe with so many epochs of what can be made longer, and what it will cost.

    Raises:
        RecipeError: Not even one epoch fits.
    """

    def spent(epochs: int) -> float:
        cost = resolve(epochs)[1]
        return cost.seconds if budget.seconds else cost.flops

    least = spent(1)
    if least > budget.amount:
        unit = "seconds" if budget.seconds else "FLOPs"
        raise RecipeError(f"a budget of {budget.name} is too small: with one epoch it takes {least:.3g} {unit}")
    low, high = 1, 2
    while spent(high) <= budget.amount:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if spent(middle) <= budget.amount else (low, middle)
    return resolve(low)[0]


def _once(job: Job, settings: SupervisedSettings, model: str, speeds: Speeds, labels: int | None = None) -> Spent:
    """Return what training on the labels costs once."""
    schedule = settings.schedule(1.0, labels or len(job.labeled))
    cut = times(schedule.steps * schedule.batch_size, speeds.view)
    return total((cut, speeds.training[model].training_cost(schedule.steps, schedule.batch_size)))


def _training(images: int, epochs: int, batch_size: int, what: str, speeds: Speeds, *beside: Spent) -> Spent:
    """Return what training for some epochs costs, with what runs beside it on each image."""
    size, steps = _steps(images, epochs, batch_size)
    return total((times(steps * size, speeds.view, *beside), speeds.training[what].training_cost(steps, size)))


def _banks(job: Job, speeds: Speeds) -> Spent:
    """Return what memory banks add to learning from a teacher."""
    settings = job.recipe.distill
    assert settings.epochs is not None
    assert settings.batch_size is not None
    size, steps = _steps(len(job.transfer), settings.epochs, settings.batch_size)
    return times(bank_share(job, size), speeds.training[BANKS].training_cost(steps, size))


def _pairs(name: str, job: Job, speeds: Speeds) -> Spent:
    """Return what storing a CLIP teacher's embeddings costs, or learning from pairs."""
    settings, mimics = job.recipe.clip, METHODS[job.recipe.method].pairing == "mimic"
    assert job.pairs is not None
    assert settings.epochs is not None
    assert settings.batch_size is not None
    taught = [speeds.passes[tower] for tower in ("teacher", "teacher-text")] if mimics else []
    if name == "align":
        live = taught if settings.targets == "live" else []
        return _training(len(job.pairs), settings.epochs, settings.batch_size, "align", speeds, *live)
    if settings.targets != "cached":
        return NOTHING
    images, texts = taught
    shown = times(len(job.pairs) * (settings.views or 1), speeds.view, images)
    return total((shown, times(len(job.pairs), texts)))


def _steps(images: int, epochs: int, batch_size: int) -> tuple[int, int]:
    """Return how many images a step has, and how many steps some epochs have."""
    size = min(batch_size, images)
    return size, epochs * max(1, images // size)


def _choosing(job: Job, settings: SupervisedSettings, model: str, speeds: Speeds) -> Spent:
    """Return what judging one candidate on held-out labels costs."""
    whole = model.removesuffix("-head")
    variants = 2 if settings.average else 1
    return total(
        total((_once(job, settings, model, speeds, len(fit)), times(variants * len(held), speeds.passes[whole])))
        for fit, held in job.splits()
    )


def _finetune(job: Job, settings: SupervisedSettings, rates: Iterable[float], model: str, speeds: Speeds) -> Spent:
    choosing = _choosing(job, settings, model, speeds)
    return total((times(len(list(rates)), choosing), _once(job, settings, model, speeds)))


def _labeling(job: Job, speeds: Speeds) -> Spent:
    """Return what labeling the unlabeled images costs, copies of labeled ones under other names counted in."""
    return times(len(other_rows(job.transfer, job.labeled)), speeds.decode, speeds.view, speeds.passes["student"])


def _round(job: Job, speeds: Speeds) -> Spent:
    """Return what a round's training costs with its choices, if all pseudo-labels are learned."""
    settings, unlabeled = job.recipe.pseudo_label, len(other_rows(job.transfer, job.labeled))
    variants, rates = 2 if settings.average else 1, len(settings.learning_rates or (1,))

    def once(labels: int) -> Spent:
        assert settings.epochs is not None
        assert settings.batch_size is not None
        return _training(labels + unlabeled, settings.epochs, settings.batch_size, "student", speeds)

    def judged(held: int) -> Spent:
        return times(variants * held, speeds.passes["student"])

    last = once(len(job.labeled))
    if job.validation is not None and rates == 1:
        return total((last, judged(len(job.validation))))
    splits = job.splits()[: settings.folds]
    choosing = total(total((once(len(fit)), judged(len(held)))) for fit, held in splits)
    return total((times(rates, choosing), last))


def _probe(job: Job, settings: SupervisedSettings, model: str, speeds: Speeds) -> Spent:
    held = 0 if job.validation is None else len(job.validation)
    views = len(job.labeled) * (1 + augmented_views(settings.probe_views, len(job.labeled))) + held
    return times(views, speeds.view, speeds.passes[model])
