"""What is checked before the first expensive step, and what fills a recipe's open keys."""

from __future__ import annotations

from tutelage.curation.stage import assumed, check_gallery, check_queries
from tutelage.data.prepare import PreparedData, prepare_data
from tutelage.data.readers import check_data
from tutelage.data.samples import Samples
from tutelage.data.settings import DataSettings
from tutelage.data.splits import folds, share_of
from tutelage.errors import ModelError, RecipeError
from tutelage.methods import METHODS
from tutelage.methods.contrast import check_contrast
from tutelage.methods.pairs import check_towers
from tutelage.methods.pseudo_label import check_unlabeled
from tutelage.methods.regularizers import check_pair_teachers
from tutelage.methods.self_distill import check_self_distillation
from tutelage.methods.targets import planned_bytes
from tutelage.models.preprocess import TEXTUAL
from tutelage.models.sources import check_name, modality
from tutelage.recipe import Recipe
from tutelage.tasks import TASKS
from tutelage.training.distributed import pick_device


def check(recipe: Recipe) -> tuple[PreparedData, Recipe]:
    """Check everything that can be checked before the first expensive step.

    Returns:
        The data, with stand-ins for a transfer set that is to be curated, and the recipe with every open key filled
        in.

    Raises:
        TutelageError: What is wrong, where, and what to do.
    """
    data = prepare(recipe)
    if recipe.curates:
        data = assumed(recipe, data)
    return data, settle(recipe, data)


def prepare(recipe: Recipe, *, curates: bool = False) -> PreparedData:
    """Check places, models and data, and return the data; a transfer set that is to be curated is not there yet.

    Args:
        recipe: What is asked for.
        curates: Whether a transfer set is curated even if no method learns from it.

    Raises:
        TutelageError: What is wrong, where, and what to do.
    """
    pick_device(recipe.device)
    check_places(recipe.data)
    check_models(recipe)
    curates = curates or recipe.curates
    if curates:
        check_gallery(recipe)
    data = prepare_data(recipe.data, seed=recipe.seed, task=recipe.task, modality=recipe.modality)
    check_texts(recipe, data)
    if data.validation is None:
        check_folds(recipe, data.labeled, seed=recipe.seed)
    if curates:
        check_queries(recipe, data)
    return data


def check_texts(recipe: Recipe, data: PreparedData) -> None:
    """Check that the recipe's template fits the texts.

    Raises:
        TutelageError: It asks for two texts, and some samples have one.
    """
    for samples in (data.labeled, data.validation, data.test, data.transfer):
        recipe.text.check((samples and samples.texts) or ())


def settle(recipe: Recipe, data: PreparedData) -> Recipe:
    """Return a recipe with every open key filled in, checked once more with what these are.

    Raises:
        TutelageError: What is wrong, where, and what to do.
    """
    resolved = resolve(recipe, data)
    check_models(resolved)
    for name in resolved.baselines:
        lesson = METHODS[name].lesson
        if lesson is not None:  # raises where it stores larger outputs than the method does, and they do not fit
            planned_bytes(resolved, lesson, classes=len(data.labeled.classes), images=len(data.transfer))
    return resolved


def check_folds(recipe: Recipe, labeled: Samples, *, seed: int) -> None:
    """Check that settings can be chosen on labels that are held out.

    Raises:
        DataError: There are too few.
    """
    strata = None if recipe.dense else labeled.labels()
    folds(strata, count=len(labeled), seed=seed, **recipe.choosing)


def check_places(settings: DataSettings) -> None:
    """Check that there are data where the recipe says, before any is read.

    Raises:
        DataError: There are none.
    """
    held = [where for where in (settings.validation, settings.test) if where and share_of(where) is None]
    for where in (settings.labeled, *held, settings.transfer, settings.pretraining, settings.pairs):
        if where is not None:
            check_data(where)


def check_models(recipe: Recipe) -> None:
    """Check that a recipe's models can be had, at the sizes that it names.

    Raises:
        UnknownNameError: There is no such model.
        ModelError: It has no weights, its package is missing, a size does not fit, a method wants texts read that
            the model cannot read, or a teacher reads something else than the student.
        RecipeError: A method is not for what the student reads.
    """
    found = (METHODS[name].pairing for name in (recipe.method, *recipe.baselines))
    check_towers(recipe, {pairing for pairing in found if pairing is not None})
    kinds = [(recipe.views, TASKS[recipe.task].stride), *([(recipe.plain().views, None)] if recipe.dense else [])]
    for views, stride in kinds:
        for name in recipe.teachers:
            size = recipe.text.teacher_length if modality(name) == "text" else views.teacher_size
            check_name(name, pretrained=True, size=size, stride=stride)
        pretrained = recipe.start == "pretrained"
        size = recipe.text.student_length if recipe.modality == "text" else views.student_size
        check_name(recipe.student, pretrained=pretrained, size=size, stride=stride)
    _check_modality(recipe)


def _check_modality(recipe: Recipe) -> None:
    reads, what = recipe.modality, TEXTUAL[recipe.modality]
    if recipe.dense and reads != "image":
        raise RecipeError(f"student: {recipe.student} reads {what}, and {recipe.task} is about the pixels of images")
    for name in (recipe.method, *recipe.baselines):
        if reads not in METHODS[name].reads:
            able = ", ".join(key for key, each in METHODS.items() if reads in each.reads)
            student = f"the student {recipe.student} reads {what}"
            raise RecipeError(f"method {name!r}: {student}, for which there are {able}")
    if reads == "pair":
        _check_teachers_of_pairs(recipe)
    for teacher in recipe.teachers:
        theirs = modality(teacher)
        if theirs != reads and reads != "pair":
            raise ModelError(
                f"teacher: {teacher} reads {TEXTUAL[theirs]}, and the student {recipe.student} reads {what}; name a "
                "teacher that reads the same"
            )


def _check_teachers_of_pairs(recipe: Recipe) -> None:
    methods = [(name, METHODS[name]) for name in (recipe.method, *recipe.baselines)]
    if any(method.held for _, method in methods):
        check_pair_teachers(recipe.teachers, recipe.regularize)
    for name, method in methods:
        if method.lesson is not None and any(modality(teacher) != "pair" for teacher in recipe.teachers):
            raise ModelError(
                f"teacher: method {name!r} learns what the teacher makes of pairs, and {recipe.teacher} does not "
                "read them; name one such as pair:IMAGE+TEXT"
            )


def resolve(recipe: Recipe, data: PreparedData) -> Recipe:
    """Return a recipe with every open key filled in with what suits the data.

    Raises:
        RecipeError: Something is asked for that these data do not allow.
        DataError: There is nothing to pseudo-label.
        ModelError: The student does not run on the views that a method has for it.
    """
    resolved = recipe.resolved(
        short_side=data.short_side,
        labels=len(data.labeled),
        transfer=len(data.transfer),
        classes=len(data.labeled.classes),
        pretraining=0 if data.pretraining is None else len(data.pretraining),
        pairs=0 if data.pairs is None else len(data.pairs),
    )
    if any(METHODS[name].rounds for name in (resolved.method, *resolved.baselines)):
        check_unlabeled(data.transfer, data.labeled)
    lessons = [METHODS[name].lesson for name in (resolved.method, *resolved.baselines)]
    if any(lesson is not None and lesson.contrasts for lesson in lessons):
        check_contrast(resolved.distill, len(data.transfer))
    if any("self-distill" in METHODS[name].stages for name in (resolved.method, *resolved.baselines)):
        check_self_distillation(resolved.plain(), len(data.transfer))
    return resolved
