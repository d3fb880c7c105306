"""Pretraining on image-text pairs: the student's images and their texts are brought together (CLIP, TinyCLIP)."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from tutelage.data.loader import Loader
from tutelage.ledger import Cost, measured
from tutelage.methods.job import Job
from tutelage.methods.pair_targets import pair_sources
from tutelage.methods.pairs import Pairing, pair_loader
from tutelage.methods.pretraining import pretrained
from tutelage.models.model import Encoder, Model, parameter_count
from tutelage.models.preprocess import ClipTextPreprocess, TextPreprocess
from tutelage.models.text_towers import PRESETS, build_text_tower
from tutelage.models.tokens import longest
from tutelage.objectives.image_text import AffinityMimicking, ImageText, PairObjective
from tutelage.run import Stage
from tutelage.training.phase import Phase, TargetSource
from tutelage.training.schedule import Schedule


def align(job: Job, stages: Mapping[str, Stage], pairing: Pairing = "contrast") -> Stage:
    """Pretrain the student's encoder on image-text pairs; writes ``student.safetensors``, with a new head.

    The text tower, the projection and the logit scale are left behind. Results say how many texts were ``cut``, and
    what became of the ``logit_scale``. Some checkpoints on the way are kept as ``at-SHARE.safetensors`` where the
    recipe asks for them.
    """
    job = job.plain()
    recipe = job.recipe
    inputs = {
        "student": recipe.student,
        "start": recipe.start,
        "classes": len(job.labeled.classes),
        "pairing": pairing,
        "clip": recipe.clip.deciding(pairing),
    }
    after = [stages["targets"]] if pairing == "mimic" else []
    work = functools.partial(_work, job, stages, pairing)
    return job.stage("align", after, inputs, work, reads=("pairs",))


def pair_phase(
    job: Job,
    student: Model,
    loader: Loader,
    pairing: Pairing,
    teachers: Mapping[str, TargetSource] | None = None,
    teacher_scale: float = 1.0,
) -> tuple[Phase, PairObjective]:
    """Return the phase in which a student learns from pairs, and its objective, which holds the text tower.

    Args:
        job: Resolved.
        student: At its start.
        loader: Of pairs, as :func:`tutelage.methods.pairs.pair_loader` returns it.
        pairing: What they teach.
        teachers: Where the embeddings to mimic come from: ``teacher`` and ``teacher-text``.
        teacher_scale: What the teacher multiplies cosines by; the recipe's goes before it.

    Raises:
        ModelError: The text tower cannot be had.
    """
    settings = job.recipe.clip
    assert settings.epochs is not None
    assert settings.batch_size is not None
    assert settings.learning_rate is not None
    schedule = Schedule(
        steps=settings.epochs * loader.steps_per_epoch,
        batch_size=settings.batch_size,
        learning_rate=settings.learning_rate,
        average=settings.average,
    )
    text = _text_tower(job)
    width, decay = student.encoder.widths["features"], schedule.weight_decay
    objective: PairObjective
    if pairing == "contrast":
        objective = ImageText(width, text, weight_decay=decay)
    else:
        objective = AffinityMimicking(
            width,
            text,
            student_scale=settings.student_scale,
            teacher_scale=settings.teacher_scale or teacher_scale,
            weight_decay=decay,
        )
    return Phase("align", loader, {"pairs": (objective, 1.0)}, schedule, teachers=teachers or {}), objective


def _text_tower(job: Job) -> Encoder:
    """Build the text tower at its start, the same for the same seed; what is made here is as long as texts are."""
    settings, pairs = job.recipe.clip, job.pairs
    assert settings.text.tower is not None
    assert pairs is not None
    assert pairs.texts is not None
    length = settings.text.length
    if settings.text.tower in PRESETS:
        assert length is not None
        length = longest(ClipTextPreprocess(length), pairs.texts)
    torch.manual_seed(job.recipe.seed)  # of the projection, too
    return build_text_tower(settings.text.tower, width=settings.width, length=length)


def _work(
    job: Job, stages: Mapping[str, Stage], pairing: Pairing, folder: Path
) -> tuple[dict[str, Any], dict[str, Any]]:
    settings, world = job.recipe.clip, job.world
    cost = Cost()
    with measured(cost, world.device):
        loader = pair_loader(job, views=settings.shown(pairing))
    # Not measured where they are stored: what storing them cost is known, even if it has to be done a second time.
    with measured(Cost() if settings.targets == "cached" else cost, world.device):
        teachers, scale = pair_sources(job, stages, loader) if pairing == "mimic" else ({}, 1.0)
    with measured(cost, world.device):
        student = job.new_student()
        phase, objective = pair_phase(job, student, loader, pairing, teachers, scale)
        trained = pretrained(job, phase, student, settings.snapshots, folder, cost, head=False)
    assert isinstance(objective.text.preprocess, ClipTextPreprocess | TextPreprocess)
    last = trained.history[-1]
    results = {
        "steps": phase.schedule.steps,
        "loss": last["loss"],
        "logit_scale": last["logit_scale"],
        "pairs": len(loader.samples),
        "cut": objective.cut,
        "text": {
            "name": objective.text.name,
            "params": parameter_count(objective.text),
            "length": objective.text.preprocess.length,
            **objective.text.source,
        },
    }
    return results, cost.as_dict()
