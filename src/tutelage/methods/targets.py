"""Before distilling: what the teacher says about the transfer set, stored once."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tutelage.data.batch import DEFAULT_GROUP
from tutelage.data.loader import Loader
from tutelage.ledger import Cost, measured
from tutelage.methods.adapt import adapted_by, load_adapted
from tutelage.methods.contrast import planned_banks
from tutelage.methods.job import Job
from tutelage.methods.lessons import LESSONS, Lesson, Shapes, widths_of
from tutelage.models.model import Model
from tutelage.run import Stage
from tutelage.store.plan import Mode, TargetPlan, plan_targets
from tutelage.store.spec import StoredOutput, TargetSpec, target_spec, teacher_identity
from tutelage.store.targets import CachedTargets, build_targets, open_targets
from tutelage.tasks import TASKS

if TYPE_CHECKING:
    from tutelage.recipe import Recipe


def targets(job: Job, stages: Mapping[str, Stage], lesson: Lesson = LESSONS["logits"]) -> Stage:
    """Store the teacher's targets for a lesson, or find them stored; nothing where it is to run live.

    What is stored lies in the folder of all stores, for other runs to find. The stage's cost is what storing cost
    whoever did it: a run that finds it made still could not do without.
    """
    job = taught_in(job, lesson)
    settings, after = job.recipe.distill, taught_by(stages, lesson)
    inputs: dict[str, Any] = {"teacher": job.recipe.teacher, "lesson": lesson.name}
    if settings.uses_banks(lesson):
        shapes = target_shapes(job.recipe, lesson, len(job.labeled.classes))
        planned_banks(job, settings.contrast, widths_of(shapes))  # raises before the teacher runs
        inputs["mixed"] = False
    if settings.targets == "live":
        results = {"mode": "live", "why": _why(job, lesson, "auto")}
        live = {**inputs, "targets": {"mode": "live"}}
        return job.stage("targets", after, live, lambda folder: (results, Cost().as_dict()), reads=("transfer",))
    stored = {**inputs, "targets": {"mode": "cached", "views": settings.views, "top_k": settings.top_k}}
    work = functools.partial(_work, job, stages, lesson)
    return job.stage("targets", after, stored, work, reads=("transfer",))


def taught_in(job: Job, lesson: Lesson) -> Job:
    """Return the job in which a lesson is taught: one that knows nothing of the task is taught without it."""
    return job if lesson.adapted else job.plain()


def taught_by(stages: Mapping[str, Stage], lesson: Lesson) -> tuple[Stage, ...]:
    """Return the stage that adapted the teacher of a lesson; none for a pretrained teacher."""
    return (adapted_by(stages),) if lesson.adapted else ()


def teacher_of(job: Job, stages: Mapping[str, Stage], lesson: Lesson) -> Model:
    """Build the teacher of a lesson."""
    teacher = job.new_teacher()
    for stage in taught_by(stages, lesson):
        load_adapted(stage, teacher)
    return teacher


def transfer_loader(job: Job, lesson: Lesson, *, views: int | None = None) -> Loader:
    """Return the loader of the transfer set: teacher and student see the same views, mixed ones but with banks.

    Args:
        job: Resolved.
        lesson: That is taught.
        views: Different views an image has; new ones in every epoch if not given.
    """
    settings = job.recipe.distill
    assert settings.batch_size is not None
    # A row of a memory bank is of one image.
    return job.loader(job.transfer, settings.batch_size, views=views, mixed=not settings.uses_banks(lesson))


def stored_targets(job: Job, stages: Mapping[str, Stage], lesson: Lesson, loader: Loader) -> CachedTargets:
    """Open what the stage has stored; the teacher is loaded only if it has been removed or damaged since.

    Raises:
        RunError: There is no room to store it again.
    """
    spec = _spec(job, lesson, loader, stages["targets"].results["teacher"])
    found = open_targets(_root(job), spec, _views(job))
    if found is not None:
        return found
    return _build(job, spec, teacher_of(job, stages, lesson), loader)


def _work(
    job: Job, stages: Mapping[str, Stage], lesson: Lesson, folder: Path
) -> tuple[dict[str, Any], dict[str, Any]]:
    teacher = teacher_of(job, stages, lesson)
    with measured(Cost(), job.world.device) as packing:
        loader = transfer_loader(job, lesson)
    spec = _spec(job, lesson, loader, teacher_identity(teacher))
    found = open_targets(_root(job), spec, _views(job))
    stored = found or _build(job, spec, teacher, loader)
    results = {
        "mode": "cached",
        "views": stored.views,
        "forms": {name: each.form for name, each in spec.outputs[DEFAULT_GROUP].items()},
        "bytes": stored.nbytes,
        "images": spec.images,
        "folder": str(stored.folder),
        "reused": found is not None,
        "why": _why(job, lesson, "cached"),
        "teacher": dict(spec.teacher),
    }
    cost = stored.cost
    cost.seconds += packing.seconds
    return results, cost.as_dict()


def _build(job: Job, spec: TargetSpec, teacher: Model, loader: Loader) -> CachedTargets:
    return build_targets(
        _root(job), job.recipe.store.max_bytes, spec, _views(job), teacher, loader, progress=job.progress
    )


def _spec(job: Job, lesson: Lesson, loader: Loader, teacher: Mapping[str, Any]) -> TargetSpec:
    shapes = target_shapes(job.recipe, lesson, len(job.labeled.classes))
    forms = target_plan(
        job.recipe, lesson, "cached", classes=len(job.labeled.classes), images=len(job.transfer)
    ).forms
    outputs = {name: StoredOutput(forms[name], shape) for name, shape in shapes.items()}
    return target_spec(teacher, loader, {DEFAULT_GROUP: outputs}, seed=job.view_seed, device=job.world.device)


def target_shapes(recipe: Recipe, lesson: Lesson, classes: int) -> Shapes:
    """Return the shape of a row of what a resolved recipe's teacher gives in a lesson."""
    (teacher,) = recipe.teachers
    views = recipe.views if lesson.adapted else recipe.plain().views
    return lesson.shapes(teacher, size=views.teacher_size, classes=classes, stride=TASKS[recipe.task].stride)


def planned_bytes(recipe: Recipe, lesson: Lesson, *, classes: int, images: int) -> int:
    """Return the bytes that a resolved recipe's targets will take, so that nothing else takes their room."""
    if recipe.distill.targets != "cached":
        return 0
    return target_plan(recipe, lesson, "cached", classes=classes, images=images).bytes


def target_plan(recipe: Recipe, lesson: Lesson, mode: Mode, *, classes: int, images: int) -> TargetPlan:
    """Return how a resolved recipe's student gets its targets.

    Raises:
        RecipeError: They are to be stored and do not fit.
    """
    assert recipe.distill.epochs is not None
    return plan_targets(
        mode,
        epochs=recipe.distill.epochs,
        images=images,
        shapes={} if mode == "live" else target_shapes(recipe, lesson, classes),
        max_bytes=recipe.store.max_bytes,
        views=recipe.distill.views,
        top_k=recipe.distill.top_k,
    )


def _why(job: Job, lesson: Lesson, mode: Mode) -> str:
    planned = target_plan(job.recipe, lesson, mode, classes=len(job.labeled.classes), images=len(job.transfer))
    if mode == "auto" and planned.mode != "live":
        return _why(job, lesson, "live")  # a resolved recipe no longer says whether it was asked for or planned
    return planned.why


def _root(job: Job) -> Path:
    return job.recipe.store.root(job.run.folder)


def _views(job: Job) -> int:
    assert job.recipe.distill.views is not None
    return job.recipe.distill.views
