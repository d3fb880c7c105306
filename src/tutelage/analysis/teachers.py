"""What teachers make of labeled images, and how much of it linear probes can use."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from tutelage.analysis.correlation import Probe
from tutelage.analysis.probes import Labeled
from tutelage.analysis.probes import Split as LabeledSplit
from tutelage.comparison.grid import OWN, Grid, own_transfer
from tutelage.comparison.layout import Layout
from tutelage.comparison.table import Cell, Comparison
from tutelage.comparison.variants import Variant
from tutelage.data.samples import Samples
from tutelage.errors import RunError
from tutelage.ledger import Cost
from tutelage.methods import METHODS, Job
from tutelage.models.model import Model
from tutelage.progress import Progress, Quiet
from tutelage.ranking.scores import Split, probe_right
from tutelage.recipe import Recipe
from tutelage.run import Run
from tutelage.training.distributed import World

Seen = tuple[str, int | None]
"""A teacher, and the size at which it sees images."""

Known = dict[tuple[str, str], Tensor]
"""A teacher's features of each sample, by the part that it is of and its id, which is unique in that part alone."""


def teacher_features(job: Job, parts: Mapping[str, Samples | None]) -> dict[str, dict[str, Tensor]]:
    """Run every teacher over samples in their evaluation view, one teacher after the other.

    Args:
        job: Names the teachers.
        parts: Samples by any name; ``None`` for a part that there is not.

    Returns:
        Pooled features [N, width] of each part that there is, by teacher.
    """
    found: dict[str, dict[str, Tensor]] = {name: {} for name, samples in parts.items() if samples is not None}
    with job.progress.track("run the teachers", len(job.recipe.teachers)) as update:
        for number, teacher in enumerate(job.recipe.teachers):
            model = job.new_teacher(teacher)
            for name, samples in parts.items():
                if samples is not None:
                    found[name][teacher] = job.predict(model, samples, output="features", cost=Cost())
            update(number + 1, {})
    return found


def row_splits(job: Job) -> list[Split]:
    """Return what a run chooses with, as rows of its labeled samples and, behind them, of its validation data."""
    count = len(job.labeled)
    if job.validation is not None:
        return [(np.arange(count), np.arange(count, count + len(job.validation)))]
    rows = {name: row for row, name in enumerate(job.labeled.ids)}
    return [
        (
            np.array([rows[name] for name in fit.ids], dtype=np.int64),
            np.array([rows[name] for name in held.ids], dtype=np.int64),
        )
        for fit, held in job.splits()
    ]


def row_targets(job: Job) -> Tensor:
    """Return the class numbers of the same rows, int64."""
    parts = [job.labeled] if job.validation is None else [job.labeled, job.validation]
    return torch.from_numpy(np.concatenate([part.labels() for part in parts]))


def labeled_splits(job: Job, features: Tensor) -> tuple[Labeled, list[LabeledSplit]]:
    """Return all labels with their features, and the parts of them that a run chooses with.

    Args:
        job: The run's.
        features: Of the rows of :func:`row_targets`.
    """
    targets, count = row_targets(job), len(job.labeled)
    splits = [
        (Labeled(features[fit], targets[fit]), Labeled(features[held], targets[held]))
        for fit, held in row_splits(job)
    ]
    return Labeled(features[:count], targets[:count]), splits


def teacher_probes(
    comparison: Comparison,
    recipe: Recipe,
    wanted: Sequence[Probe],
    folder: Path,
    here: World,
    progress: Progress,
) -> dict[Probe, float]:
    """Return the accuracy of linear probes on variants' teachers, held-out labels of each seed judging them.

    They are those by which ``tutelage rank`` orders teachers. Features of several teachers are side by side; noise is
    left out.

    Args:
        comparison: Names the variants' settings.
        recipe: What its cells have in common, as ``comparison.json`` has it.
        wanted: Variants, label counts and seeds.
        folder: The comparison's.
        here: Device.
        progress: Shows which teacher runs.

    Raises:
        RunError: The data are not those of the comparison any more.
        TutelageError: Data or models cannot be had.
    """
    layout = _layout(recipe, _grid(comparison, recipe, wanted), folder, here)
    about, classes = comparison.about, set()
    jobs: dict[Probe, Job] = {}
    for each in wanted:
        variant, labels, seed = each
        cell = Cell(layout.grid.methods[0], labels, seed, None, layout.grid.starts[0], variant=variant)
        jobs[each] = layout.job(cell, Run(folder), Quiet())
        classes.add(len(jobs[each].labeled.classes))
    if len(layout.test) != about.get("test_images") or classes != {about.get("classes")}:
        raise RunError(
            f"{recipe.data.labeled}: no longer what {folder} compared on ({about.get('classes')} classes, "
            f"{about.get('test_images')} test images); put the data back, or compare again"
        )
    known = _known(jobs.values(), progress)
    return {each: _accuracy(job, known) for each, job in jobs.items()}


def _accuracy(job: Job, known: Mapping[Seen, Known]) -> float:
    size = job.recipe.views.teacher_size
    rows = [
        torch.cat([known[teacher, size][part, name] for teacher in job.recipe.teachers])
        for part, samples in _parts(job)
        for name in samples.ids
    ]
    right = probe_right(torch.stack(rows), row_targets(job), row_splits(job), penalties=job.recipe.adapt.penalties)
    return float(right.mean())


def _known(jobs: Iterable[Job], progress: Progress) -> dict[Seen, Known]:
    """Run each teacher once over every labeled image that any of the jobs has."""
    users: dict[Seen, list[Job]] = {}
    for job in jobs:
        for teacher in job.recipe.teachers:
            users.setdefault((teacher, job.recipe.views.teacher_size), []).append(job)
    found: dict[Seen, Known] = {}
    with progress.track("run the teachers", len(users)) as update:
        for number, (key, own) in enumerate(users.items()):
            model, known = own[0].new_teacher(key[0]), found.setdefault(key, {})
            for job in own:
                for part, samples in _parts(job):
                    _add(known, part, job, samples, model)
            update(number + 1, {})
    return found


def _add(known: Known, part: str, job: Job, samples: Samples, model: Model) -> None:
    new = [row for row, name in enumerate(samples.ids) if (part, name) not in known]
    if new:
        some = samples.subset(np.array(new, dtype=np.int64))
        values = job.predict(model, some, output="features", cost=Cost())
        known.update(zip([(part, name) for name in some.ids], values, strict=True))


def _parts(job: Job) -> list[tuple[str, Samples]]:
    parts = [("labeled", job.labeled)]
    return parts if job.validation is None else [*parts, ("validation", job.validation)]


def _grid(comparison: Comparison, recipe: Recipe, wanted: Sequence[Probe]) -> Grid:
    """Return a grid of one method that reads teachers' features; the others read the same."""
    cell = next(outcome.cell for outcome in comparison.outcomes if METHODS[outcome.cell.method].held)
    settings = comparison.about.get("variants") or {}
    names = dict.fromkeys(name for name, *_ in wanted)
    return Grid(
        methods=(cell.method,),
        labels=tuple(dict.fromkeys(labels for _, labels, _ in wanted)),
        seeds=tuple(dict.fromkeys(seed for *_, seed in wanted)),
        transfers={OWN: own_transfer(recipe)},
        starts=("pretrained",) if cell.start == "pretrained" else ("random",),
        variants=tuple(Variant(name, settings.get(name, {})) for name in names),
    )


def _layout(recipe: Recipe, grid: Grid, folder: Path, here: World) -> Layout:
    """Return the comparison's layout.

    Its recipe names the size at which its own teacher sees images. Where that is what nobody asked for, each
    variant's teacher has its own.
    """
    views = recipe.views.model_copy(update={"teacher_size": None})
    layout = Layout(recipe.model_copy(update={"views": views}), grid, folder, here)
    if layout.recipe.views.teacher_size == recipe.views.teacher_size:
        return layout
    return Layout(recipe, grid, folder, here)
