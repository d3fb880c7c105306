"""What a finished run says about its method: learned weights, a probe on them, what training and using it cost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tutelage.analysis.inference import Inference, inference_times
from tutelage.analysis.opened import Opened, open_finished
from tutelage.analysis.overhead import StepTimes, training_overhead
from tutelage.analysis.probes import Labeled, ProbeGain, probe_gain
from tutelage.analysis.teachers import labeled_splits, teacher_features
from tutelage.analysis.weights import WeightSummary, summarize_weights
from tutelage.data.batch import DEFAULT_GROUP, Batch
from tutelage.data.samples import Samples
from tutelage.errors import RunError
from tutelage.methods import METHODS
from tutelage.methods.features import NOISE, Noise
from tutelage.methods.regularizers import make_regularizer
from tutelage.models.outputs import Outputs
from tutelage.models.weights import load_weights
from tutelage.objectives import AdaptiveFeatures
from tutelage.progress import Progress
from tutelage.recipe import Recipe
from tutelage.recipe_reading import load_recipe

LEARNS = "aft"
"""The method that learns what features are worth."""

PARTS = {"weights", "probes", "training", "inference"}
"""What a run may say."""


@dataclass(frozen=True)
class RunAnalysis:
    """What a run says; a part is ``None`` where it does not apply, and ``left_out`` says why.

    Attributes:
        folder: The run folder.
        about: Plain data: ``method``, ``student``, ``teachers``, ``seed``, ``labels`` (images), ``beta``, ``device``.
        weights: Of each teacher's features, by its name; noise comes last.
        probes: A linear probe on weighted features beside one on plain ones.
        training: A training step with and without the regularizer.
        inference: The student, then its teachers.
        left_out: Why a part is missing, by its name.
    """

    folder: Path
    about: Mapping[str, Any]
    weights: Mapping[str, WeightSummary] | None
    probes: ProbeGain | None
    training: StepTimes | None
    inference: list[Inference] | None
    left_out: Mapping[str, str]


def analyze_run(folder: Path, progress: Progress) -> RunAnalysis:
    """Analyze a finished run.

    Raises:
        RunError: It is not finished, its data have changed since, or there is nothing to analyze in it.
        TutelageError: Its data or models cannot be had any more.
    """
    left_out = parts_left_out(load_recipe(folder / "recipe.yaml"))
    if left_out.keys() == PARTS:
        raise RunError(
            f"{folder}: nothing to analyze in it ({left_out['inference']}); give a run of a method with a teacher "
            f"(tutelage transfer RECIPE --method {LEARNS}), or a comparison (tutelage compare RECIPE --methods "
            f"stl,{LEARNS},kd)"
        )
    with open_finished(folder, progress) as run:
        job = run.job
        found = run.stages["finetune"].results.get("regularizer") if METHODS[job.recipe.method].held else None
        about = {
            "method": job.recipe.method,
            "student": job.recipe.student,
            "teachers": list(job.recipe.teachers),
            "seed": job.recipe.seed,
            "modality": job.modality,
            "labels": len(job.labeled),
            "beta": None if found is None else found["beta"],
            "device": str(job.world.device),
        }
        weights = probes = None
        if "weights" not in left_out:
            objective = _objective(run)
            learned = objective.feature_weights
            assert learned is not None
            weights = summarize_weights(learned.numpy(), objective.widths)
            if "probes" not in left_out:
                probes = _probes(run, objective, learned)
        return RunAnalysis(
            folder,
            about,
            weights,
            probes,
            training=None if "training" in left_out else training_overhead(job, run.stages),
            inference=None if "inference" in left_out else inference_times(job),
            left_out=left_out,
        )


def parts_left_out(recipe: Recipe) -> dict[str, str]:
    """Return why a part does not apply to a recipe's run, by its name."""
    method, settings = METHODS[recipe.method], recipe.regularize
    found: dict[str, str] = {}
    if recipe.method != LEARNS:
        why = f"only {LEARNS} learns what each feature is worth, and this is a run of {recipe.method}"
        found |= {"weights": why, "probes": why}
    elif settings.kernel == "none" or settings.weights != "diagonal":
        why = (
            f"this run learned no weight for each feature (regularize.kernel: {settings.kernel}, regularize.weights: "
            f"{settings.weights})"
        )
        found |= {"weights": why, "probes": why}
    elif recipe.modality == "pair":
        found["probes"] = "a linear probe of a pair's image and text side by side cannot see what they have in common"
    if not method.held:
        found["training"] = f"nothing holds the student of {recipe.method} while it learns from the labels"
    if not method.needs_teacher:
        found["inference"] = f"{recipe.method} has no teacher to set the student beside"
    return found


def _objective(run: Opened) -> AdaptiveFeatures:
    """Return what held the student, as its training left it."""
    job, stage = run.job, run.stages["finetune"]
    found = stage.results["regularizer"]
    objective = make_regularizer(
        found["name"],
        job.new_student().encoder.widths,
        found["widths"],
        reads=job.modality,
        classes=len(job.labeled.classes),
        seed=job.recipe.seed,
        settings=job.recipe.regularize,
    )
    load_weights(stage.folder / "regularizer.safetensors", objective)
    assert isinstance(objective, AdaptiveFeatures)
    return objective


def _probes(run: Opened, objective: AdaptiveFeatures, weights: Tensor) -> ProbeGain:
    job = run.job
    parts = {"labeled": job.labeled, "validation": job.validation, "test": run.data.test}
    features = {
        name: _as_read(objective, by_teacher, parts[name], job.recipe.seed)
        for name, by_teacher in teacher_features(job, parts).items()
    }
    seen = [features[name] for name in ("labeled", "validation") if name in features]
    labeled, splits = labeled_splits(job, torch.cat(seen))
    test = None
    if run.data.test is not None:
        test = Labeled(features["test"], torch.from_numpy(run.data.test.labels()))
    return probe_gain(weights, labeled, splits, test, classes=len(job.labeled.classes))


def _as_read(
    objective: AdaptiveFeatures, by_teacher: Mapping[str, Tensor], samples: Samples | None, seed: int
) -> Tensor:
    """Return all teachers' features side by side as the method reads them, noise included, [N, D]."""
    assert samples is not None
    targets = {name: {DEFAULT_GROUP: Outputs(features=values)} for name, values in by_teacher.items()}
    if NOISE in objective.widths:
        batch = Batch({}, {}, torch.arange(len(samples)))
        drawn = Noise(samples, objective.widths[NOISE], seed=seed)
        targets[NOISE] = dict(drawn(batch, (DEFAULT_GROUP,), frozenset({"features"})))
    return objective.teacher_features(targets)
