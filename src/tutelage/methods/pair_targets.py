"""Before a CLIP teacher is mimicked: its embeddings of a few views of each image, and of each text, stored once."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tutelage.data.batch import DEFAULT_GROUP, Batch
from tutelage.data.loader import Loader, ViewGroup
from tutelage.data.samples import Samples
from tutelage.ledger import Cost, measured
from tutelage.methods.job import Job
from tutelage.methods.pairs import pair_loader
from tutelage.models.model import Head, Model
from tutelage.models.outputs import Outputs
from tutelage.models.sources.open_clip_models import TextTower
from tutelage.models.text_towers import build_teachers_text, shared_width
from tutelage.run import Stage
from tutelage.store.forms import FLOAT16
from tutelage.store.plan import Mode
from tutelage.store.spec import StoredOutput, TargetSpec, target_spec, teacher_identity
from tutelage.store.targets import CachedTargets, build_targets, open_targets
from tutelage.training.phase import LiveTeacher, TargetSource
from tutelage.views.policy import ViewPolicy

if TYPE_CHECKING:
    from tutelage.recipe import Recipe

TEXTS = 256
"""Texts of a batch of the teacher's."""


def pair_targets(job: Job, stages: Mapping[str, Stage]) -> Stage:
    """Store the teacher's embeddings of images and texts, or find them stored; nothing where it is to run live.

    As with other stored targets, the stage's cost is what storing cost whoever did it.
    """
    job = job.plain()
    settings = job.recipe.clip
    inputs = {"teacher": job.recipe.teacher, "pairs": "embedding", "crop": list(settings.crop)}
    if settings.targets == "live":
        results = {"mode": "live", "why": _why(job, "auto")}
        live = {**inputs, "targets": {"mode": "live"}}
        return job.stage("targets", (), live, lambda folder: (results, Cost().as_dict()), reads=("pairs",))
    stored = {**inputs, "targets": {"mode": "cached", "views": settings.views}}
    return job.stage("targets", (), stored, functools.partial(_work, job), reads=("pairs",))


def planned_pair_bytes(recipe: Recipe, pairs: int) -> int:
    """Return the bytes that a resolved recipe's embeddings will take, so that nothing else takes their room."""
    if recipe.clip.targets != "cached":
        return 0
    (teacher,) = recipe.teachers
    return recipe.clip.target_plan(pairs, teacher, max_bytes=recipe.store.max_bytes, mode="cached").bytes


def pair_sources(job: Job, stages: Mapping[str, Stage], loader: Loader) -> tuple[dict[str, TargetSource], float]:
    """Return where the teacher's embeddings of a loader's pairs come from, and what it multiplies their cosines by.

    Stored ones are opened; a tower of the teacher is loaded only if they have been removed or damaged since.

    Raises:
        RunError: There is no room to store them again.
    """
    kept = stages["targets"].results
    if kept["mode"] == "live":
        text = teachers_text(job)
        return {"teacher": LiveTeacher(teachers_images(job)), "teacher-text": LiveTeacher(text)}, scale_of(text)
    images = _spec(job, loader, kept["teacher"])
    texts = _text_spec(job, kept["text_teacher"])
    found = open_targets(_root(job), images, _views(job)) or _build(job, images, teachers_images(job), loader)
    said = open_targets(_root(job), texts, 1) or _build(job, texts, teachers_text(job), _text_loader(job), views=1)
    return {"teacher": found, "teacher-text": _OneView(said)}, kept["scale"]


def teachers_images(job: Job) -> Model:
    """Build the teacher's image tower, as a model without a head: what it says is the same for every task."""
    return Model(job.new_teacher().encoder, Head())


def teachers_text(job: Job) -> Model:
    """Build the teacher's text tower, as a model without a head."""
    (name,) = job.recipe.teachers
    return Model(build_teachers_text(name), Head()).to(job.world.device)


def scale_of(text: Model) -> float:
    """Return what a teacher, given its text tower, multiplies cosines by."""
    assert isinstance(text.encoder, TextTower)
    assert text.encoder.scale is not None
    return text.encoder.scale


class _OneView:
    """Targets of samples that look the same in every view."""

    def __init__(self, source: TargetSource) -> None:
        self._source = source

    def __call__(self, batch: Batch, groups: Sequence[str], needs: frozenset[str]) -> Mapping[str, Outputs]:
        """Return the outputs of the only view."""
        return self._source(replace(batch, view=0), groups, needs)


def _work(job: Job, folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    with measured(Cost(), job.world.device) as packing:
        loader = pair_loader(job)
    teacher = teachers_images(job)
    images = _spec(job, loader, teacher_identity(teacher))
    known = open_targets(_root(job), images, _views(job))
    found = known or _build(job, images, teacher, loader)
    del teacher  # not two towers at a time
    text = teachers_text(job)
    texts = _text_spec(job, teacher_identity(text))
    heard = open_targets(_root(job), texts, 1)
    said = heard or _build(job, texts, text, _text_loader(job), views=1)
    results = {
        "mode": "cached",
        "views": found.views,
        "forms": {"embedding": images.outputs[DEFAULT_GROUP]["embedding"].form},
        "bytes": found.nbytes + said.nbytes,
        "images": images.images,
        "folder": str(found.folder),
        "text_folder": str(said.folder),
        "reused": known is not None and heard is not None,
        "why": _why(job, "cached"),
        "teacher": dict(images.teacher),
        "text_teacher": dict(texts.teacher),
        "scale": scale_of(text),
    }
    for stored in (found.cost, said.cost):
        packing.add(stored)
        packing.seconds += stored.seconds - stored.earlier  # which has been added
    return results, packing.as_dict()


def _build(job: Job, spec: TargetSpec, teacher: Model, loader: Loader, *, views: int | None = None) -> CachedTargets:
    most, count = job.recipe.store.max_bytes, views or _views(job)
    return build_targets(_root(job), most, spec, count, teacher, loader, progress=job.progress, section="clip")


def _spec(job: Job, loader: Loader, teacher: Mapping[str, Any]) -> TargetSpec:
    assert job.pairs is not None
    (name,) = job.recipe.teachers
    plan = job.recipe.clip.target_plan(len(job.pairs), name, max_bytes=job.recipe.store.max_bytes, mode="cached")
    stored = StoredOutput(plan.forms["embedding"], (shared_width(name),))
    outputs = {DEFAULT_GROUP: {"embedding": stored}}
    return target_spec(teacher, loader, outputs, seed=job.recipe.seed, device=job.world.device)


def _text_spec(job: Job, teacher: Mapping[str, Any]) -> TargetSpec:
    (name,) = job.recipe.teachers
    outputs = {DEFAULT_GROUP: {"embedding": StoredOutput(FLOAT16, (shared_width(name),))}}
    # No view is drawn of a text: the same for every seed.
    return target_spec(teacher, _text_loader(job), outputs, seed=0, device=job.world.device)


def _text_loader(job: Job) -> Loader:
    """Return a loader of the texts alone."""
    assert job.pairs is not None
    texts = Samples(job.pairs.ids, texts=job.pairs.texts, origin=job.pairs.origin)
    return Loader(texts, {DEFAULT_GROUP: ViewGroup(ViewPolicy(), 1)}, batch_size=TEXTS, seed=0, inline=True)


def _why(job: Job, mode: Mode) -> str:
    assert job.pairs is not None
    (name,) = job.recipe.teachers
    plan = job.recipe.clip.target_plan(len(job.pairs), name, max_bytes=job.recipe.store.max_bytes, mode=mode)
    if mode == "auto" and plan.mode != "live":
        return _why(job, "live")  # a resolved recipe no longer says whether it was asked for or planned
    return plan.why


def _root(job: Job) -> Path:
    return job.recipe.store.root(job.run.folder)


def _views(job: Job) -> int:
    assert job.recipe.clip.views is not None
    return job.recipe.clip.views
