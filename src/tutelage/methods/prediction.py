"""What storing a teacher's targets will take, and what it will save, before any of it is spent."""

from __future__ import annotations

import sys
from typing import Any

from tutelage.data.images import short_side
from tutelage.methods import METHODS
from tutelage.methods.job import Job
from tutelage.methods.targets import target_shapes, taught_in
from tutelage.store.packs import packed_bytes
from tutelage.store.plan import plan_targets
from tutelage.store.probe import probe


def predict_targets(job: Job) -> dict[str, Any]:
    """Measure a job's speed for a few seconds, and predict sizes and times from it.

    Args:
        job: Resolved, with a method that has a teacher.

    Returns:
        Plain data: ``decided`` (mode, views), ``images``, ``epochs``, ``views`` (what the numbers are for:
        those of the plan, or what it would store by default), ``forms``, ``rates`` (images a second of each step
        alone), ``packs`` and ``targets`` (bytes; seconds to build), ``epoch`` and ``all_epochs`` (seconds ``live``
        and ``cached``; the latter with building), ``break_even`` (epochs).

    Raises:
        RecipeError: Stored targets are asked for and do not fit.
    """
    lesson = METHODS[job.recipe.method].lesson
    assert lesson is not None
    job = taught_in(job, lesson)
    recipe, images, settings = job.recipe, len(job.transfer), job.recipe.distill
    assert settings.epochs is not None
    shapes = target_shapes(recipe, lesson, len(job.labeled.classes))
    found = probe(job, frozenset(shapes))
    timing, epochs = found.timing, settings.epochs
    stored = plan_targets(
        "cached",
        epochs=epochs,
        images=images,
        shapes=shapes,
        # Where the teacher runs live, the numbers say what storing would take, whether or not there is room.
        max_bytes=sys.maxsize if settings.targets == "live" else recipe.store.max_bytes,
        views=settings.views,
        top_k=settings.top_k,
    )
    packing, building = timing.pack_build(images), timing.target_build(images, stored.views)
    pictures = job.transfer.images
    packed = 0 if pictures is None else images * packed_bytes(pictures, short_side(recipe.views.size or 0))
    live, cached = timing.live_epoch(images), timing.cached_epoch(images)
    steps = {"decode": timing.pack, "view": timing.view, "teacher": timing.teacher, "student": timing.student}
    if pictures is None:  # texts are neither decoded nor augmented
        del steps["decode"], steps["view"]
    return {
        "decided": {"mode": settings.targets, "views": settings.views if settings.targets == "cached" else None},
        "images": images,
        "epochs": epochs,
        "views": stored.views,
        "forms": dict(stored.forms),
        "rates": {name: 1 / seconds for name, seconds in steps.items()},
        "packs": {"bytes": packed, "seconds": packing},
        "targets": {"bytes": stored.bytes, "seconds": building},
        "epoch": {"live": live, "cached": cached},
        "all_epochs": {"live": epochs * live, "cached": building + epochs * cached},
        "break_even": timing.break_even(stored.views),
    }
