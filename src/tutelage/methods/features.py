"""Before Adaptive Feature Transfer: what each teacher makes of the labeled images, stored once."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tutelage.data.batch import DEFAULT_GROUP, Batch
from tutelage.data.loader import Loader
from tutelage.data.samples import IntArray, Samples
from tutelage.ledger import Cost, measured
from tutelage.methods.job import Job
from tutelage.models.model import Model, parameter_count, weight_hash
from tutelage.models.outputs import Outputs
from tutelage.run import Stage
from tutelage.store.forms import FLOAT16
from tutelage.store.spec import StoredOutput, TargetSpec, target_spec, teacher_identity
from tutelage.store.targets import CachedTargets, build_targets, open_targets
from tutelage.training.phase import TargetSource

NOISE = "noise"
"""Name of the features without meaning, beside the teachers'."""

BATCH = 64


def features(job: Job, stages: Mapping[str, Stage]) -> Stage:
    """Store every teacher's pooled features of a few views of each labeled image, or find them stored.

    As with other stored targets, the stage's cost is what storing cost whoever did it. Results name the
    ``teachers``, and what is ``stored`` of each, with its ``width``.
    """
    inputs = {"teachers": list(job.recipe.teachers), "stored_views": job.recipe.regularize.views}
    return job.stage("features", (), inputs, functools.partial(_work, job), reads=("labeled",))


@dataclass(frozen=True)
class StoredFeatures:
    """The features that hold a student, of all labeled images.

    Attributes:
        widths: Of each teacher's features, by its name in the phase; noise comes last.
        samples: The labeled images.
        stored: Where they come from, for these samples.
    """

    widths: Mapping[str, int]
    samples: Samples
    stored: Mapping[str, TargetSource]

    def of(self, samples: Samples) -> dict[str, TargetSource]:
        """Return where features come from for batches of some of the samples."""
        if samples is self.samples:
            return dict(self.stored)
        places = {name: row for row, name in enumerate(self.samples.ids)}
        rows = np.array([places[name] for name in samples.ids], dtype=np.int64)
        return {name: _Rows(source, rows) for name, source in self.stored.items()}


def stored_features(job: Job, stages: Mapping[str, Stage]) -> StoredFeatures:
    """Open what the stage has stored; a teacher is loaded only if its features have been removed since.

    Raises:
        RunError: There is no room to store them again.
    """
    noise, loader = job.recipe.regularize.noise, _loader(job)
    widths: dict[str, int] = {}
    sources: dict[str, TargetSource] = {}
    for name in job.recipe.teachers:
        kept = stages["features"].results["stored"][name]
        spec = _spec(job, loader, kept["teacher"], kept["width"])
        found = open_targets(_root(job), spec, _views(job))
        sources[name] = found or _build(job, spec, loader, job.new_teacher(name))
        widths[name] = kept["width"]
    if noise:
        widths[NOISE], sources[NOISE] = noise, Noise(job.labeled, noise, seed=job.recipe.seed)
    return StoredFeatures(widths, job.labeled, sources)


class Noise:
    """Features without meaning: standard normal, a pure function of seed and sample, the same in every view.

    Args:
        samples: Whose rows batches name.
        width: How many.
        seed: Of the draw.
    """

    def __init__(self, samples: Samples, width: int, *, seed: int) -> None:
        drawn = [np.random.default_rng(_key(seed, name)).standard_normal(width, np.float32) for name in samples.ids]
        self._values = torch.from_numpy(np.stack(drawn))

    def __call__(self, batch: Batch, groups: Sequence[str], needs: frozenset[str]) -> Mapping[str, Outputs]:
        """Return ``features`` [B, width]."""
        values = self._values[batch.indices.cpu()].to(batch.indices.device)
        return {group: Outputs(features=values) for group in groups}


class _Rows:
    """A source of some of its samples, whose batches number them anew."""

    def __init__(self, source: TargetSource, rows: IntArray) -> None:
        self._source, self._rows = source, rows

    def __call__(self, batch: Batch, groups: Sequence[str], needs: frozenset[str]) -> Mapping[str, Outputs]:
        """Return the source's outputs for the samples' own rows."""
        rows = self._rows[batch.indices.cpu().numpy() if batch.rows is None else batch.rows]
        indices = torch.from_numpy(rows).to(batch.indices.device)
        return self._source(replace(batch, indices=indices, rows=rows), groups, needs)


def _work(job: Job, folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    cost = Cost()
    with measured(cost, job.world.device):
        loader = _loader(job)
    teachers, kept = [], {}
    for name in job.recipe.teachers:
        teacher = job.new_teacher(name)
        width = teacher.encoder.widths["features"]
        spec = _spec(job, loader, teacher_identity(teacher), width)
        found = open_targets(_root(job), spec, _views(job))
        stored = found or _build(job, spec, loader, teacher)
        cost.add(stored.cost)
        cost.seconds += stored.cost.seconds - stored.cost.earlier  # which has been added
        params = parameter_count(teacher.encoder)
        identity = {"name": teacher.encoder.name, "hash": weight_hash(teacher.encoder)}
        teachers.append({**identity, "params": params, **teacher.encoder.source})
        kept[name] = {
            "teacher": dict(spec.teacher),
            "width": width,
            "bytes": stored.nbytes,
            "reused": found is not None,
        }
    results = {"teachers": teachers, "stored": kept, "views": _views(job), "images": len(job.labeled)}
    return results, cost.as_dict()


def _build(job: Job, spec: TargetSpec, loader: Loader, teacher: Model) -> CachedTargets:
    most = job.recipe.store.max_bytes
    return build_targets(_root(job), most, spec, _views(job), teacher, loader, progress=job.progress)


def _spec(job: Job, loader: Loader, teacher: Mapping[str, Any], width: int) -> TargetSpec:
    outputs = {DEFAULT_GROUP: {"features": StoredOutput(FLOAT16, (width,))}}
    return target_spec(teacher, loader, outputs, seed=job.view_seed, device=job.world.device)


def _loader(job: Job) -> Loader:
    return job.loader(job.labeled, BATCH, mixed=False)  # a stored feature is of one image


def _root(job: Job) -> Path:
    return job.recipe.store.root(job.run.folder)


def _views(job: Job) -> int:
    assert job.recipe.regularize.views is not None
    return job.recipe.regularize.views


def _key(seed: int, name: str) -> int:
    digest = hashlib.blake2b(f"noise|{seed}|{name}".encode("utf-8", "surrogateescape"), digest_size=8).digest()
    return int.from_bytes(digest, "big")
