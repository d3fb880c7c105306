"""Between adapting and distilling: what the adapted teacher says about the transfer set, stored once."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tutelage.data.batch import DEFAULT_GROUP
from tutelage.data.loader import Loader
from tutelage.ledger import Cost, measured
from tutelage.methods.job import Job
from tutelage.models.model import Model
from tutelage.models.weights import load_weights
from tutelage.run import Stage
from tutelage.store.plan import Mode, TargetPlan, logits_form, plan_targets
from tutelage.store.spec import StoredOutput, TargetSpec, target_spec, teacher_identity
from tutelage.store.targets import CachedTargets, build_targets, open_targets

if TYPE_CHECKING:
    from tutelage.recipe import Recipe


def targets(job: Job, stages: Mapping[str, Stage]) -> Stage:
    """Store the adapted teacher's targets, or find them stored; nothing where it is to run live.

    What is stored lies in the folder of all stores, for other runs to find. The stage's cost is what storing cost
    whoever did it: a run that finds it made still could not do without.
    """
    settings, adapted = job.recipe.distill, stages["adapt"]
    if settings.targets == "live":
        results = {"mode": "live", "why": _why(job, "auto")}
        inputs = {"targets": {"mode": "live"}}
        return job.stage("targets", (adapted,), inputs, lambda folder: (results, Cost().as_dict()))
    stored = {"targets": {"mode": "cached", "views": settings.views, "top_k": settings.top_k}}
    return job.stage("targets", (adapted,), stored, functools.partial(_work, job, adapted))


def adapted_teacher(job: Job, adapted: Stage) -> Model:
    """Return the teacher with the weights of its better mode."""
    teacher = job.new_teacher()
    load_weights(adapted.folder / f"{adapted.results['chosen']}.safetensors", teacher)
    return teacher


def stored_targets(job: Job, stages: Mapping[str, Stage], loader: Loader) -> CachedTargets:
    """Open what the stage has stored; the teacher is loaded only if it has been removed or damaged since.

    Args:
        job: A job with stored targets.
        stages: The finished ones.
        loader: Of the transfer set.
    """
    spec, views = _spec(job, loader, stages["targets"].results["teacher"]), _views(job)
    found = open_targets(_root(job), spec, views)
    if found is not None:
        return found
    job.progress.say(f"{stages['targets'].results['folder']}: has been removed or damaged; targets are stored again")
    return _build(job, spec, adapted_teacher(job, stages["adapt"]), loader)


def _work(job: Job, adapted: Stage, folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    assert job.recipe.distill.batch_size is not None
    teacher = adapted_teacher(job, adapted)
    with measured(Cost(), job.world.device) as packing:
        loader = job.loader(job.transfer, job.recipe.distill.batch_size)
    spec = _spec(job, loader, teacher_identity(teacher))
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
        "why": _why(job, "cached"),
        "teacher": dict(spec.teacher),
    }
    cost = stored.cost
    cost.seconds += packing.seconds
    return results, cost.as_dict()


def _build(job: Job, spec: TargetSpec, teacher: Model, loader: Loader) -> CachedTargets:
    return build_targets(
        _root(job), job.recipe.store.max_bytes, spec, _views(job), teacher, loader, progress=job.progress
    )


def _spec(job: Job, loader: Loader, teacher: Mapping[str, Any]) -> TargetSpec:
    classes = len(job.labeled.classes)
    outputs = {"logits": StoredOutput(logits_form(classes, job.recipe.distill.top_k), (classes,))}
    return target_spec(teacher, loader, {DEFAULT_GROUP: outputs}, seed=job.recipe.seed, device=job.world.device)


def planned_bytes(recipe: Recipe, *, classes: int, images: int) -> int:
    """Return the bytes that a resolved recipe's targets will take, so that nothing else takes their room."""
    if recipe.distill.targets != "cached":
        return 0
    return _planned(recipe, "cached", classes=classes, images=images).bytes


def _planned(recipe: Recipe, mode: Mode, *, classes: int, images: int) -> TargetPlan:
    assert recipe.distill.epochs is not None
    return plan_targets(
        mode,
        epochs=recipe.distill.epochs,
        images=images,
        shapes={"logits": (classes,)},
        max_bytes=recipe.store.max_bytes,
        views=recipe.distill.views,
        top_k=recipe.distill.top_k,
    )


def _why(job: Job, mode: Mode) -> str:
    planned = _planned(job.recipe, mode, classes=len(job.labeled.classes), images=len(job.transfer))
    if mode == "auto" and planned.mode != "live":
        return _why(job, "live")  # a resolved recipe no longer says whether it was asked for or planned
    return planned.why


def _root(job: Job) -> Path:
    return job.recipe.store.root(job.run.folder)


def _views(job: Job) -> int:
    assert job.recipe.distill.views is not None
    return job.recipe.distill.views
