"""Quick trainings that tell how good transfer sets of several sizes are, without the test set.

For each size and seed a student learns from the predictions of a linear-probed teacher on the retrieved items alone,
for the same number of steps whatever the size: what differs is what it sees. It is then judged on the labeled images,
which it has never seen, or on given validation data:

- classification: by the likelihood of the labels, the geometric mean of the probabilities that it gives them (the
  exponential of the negative NLL). Few labels make accuracy coarse, and it varies more from seed to seed. The
  divergence from the teacher's predictions would vary as little, but rewards repeating the teacher's mistakes; and of
  the labels that it was fitted to, the teacher has little to say that they do not say themselves;
- segmentation: by the mean IoU, which many pixels make fine already.

The queries are left out, since they are what it is judged on; they join each transfer set alike.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tutelage.comparison.stages import SharedStages
from tutelage.curation.curate import Curator
from tutelage.curation.quality import Quality, spread_sizes
from tutelage.curation.settings import CurateSettings
from tutelage.curation.shown import cuts_of
from tutelage.curation.strategies import STRATEGIES
from tutelage.curation.transfer_set import item_of
from tutelage.data.prepare import PreparedData
from tutelage.data.samples import IntArray, Samples
from tutelage.errors import RecipeError
from tutelage.ledger import Cost, measured
from tutelage.methods.adapt import adapt, adapt_in
from tutelage.methods.fit import DENSE_BATCH
from tutelage.methods.job import LABELS, Job
from tutelage.methods.lessons import LESSONS
from tutelage.methods.pretraining import pretraining_batch
from tutelage.methods.targets import taught_by, teacher_of, transfer_loader
from tutelage.models.model import Model
from tutelage.progress import Progress, Quiet
from tutelage.run import Run, Stage
from tutelage.store.packs import Packs
from tutelage.tasks import TASKS
from tutelage.training.distributed import World
from tutelage.training.loop import train
from tutelage.training.phase import LiveTeacher, Phase
from tutelage.training.schedule import Schedule

if TYPE_CHECKING:
    from tutelage.recipe import Recipe

FOLDER = "quality"
"""Of a run folder: its stages are found again whatever else becomes of the curation."""

METHOD = "task-oriented-lp"

LESSON = LESSONS["logits"]

LEAST_STEPS, MOST_BATCH = 150, 64
"""A training that takes about a minute on two cores with small models and images."""


def check_probes(recipe: Recipe, settings: CurateSettings) -> None:
    """Check that transfer sets of several sizes can be tried, where that is asked for.

    Raises:
        RecipeError: There is no teacher to learn from, or there are several.
    """
    if settings.probed and len(recipe.teachers) != 1:
        asked = "size=auto" if settings.size == "auto" else "sizes"
        raise RecipeError(
            f"curate.{asked}: quick trainings learn from one teacher, and the recipe names "
            f"{len(recipe.teachers) or 'none'}; name one, or say curate.size alone"
        )


def probe_inputs(recipe: Recipe, data: PreparedData) -> dict[str, Any]:
    """Return what decides the outcome of quick trainings, beside what is retrieved; plain data."""
    named = {"task", "student", "start", "teacher", "folds", "held_out", "views", "decoder", "adapt", "distill"}
    return {
        **recipe.model_dump(mode="json", include=named),
        "short_side": data.short_side,
        "validation": None if data.validation is None else data.validation.fingerprint,
    }


def sizes_to_try(settings: CurateSettings, curator: Curator) -> tuple[int, ...]:
    """Return the sizes of a curve, rising; a single one where the gallery has no more to offer.

    Raises:
        RecipeError: There are more queries than the gallery has items that may be taken.
    """
    if settings.sizes:
        return tuple(sorted(set(settings.sizes)))
    least = len(curator.queries) if STRATEGIES[settings.strategy].balanced else 1
    return spread_sizes(least, max(1, curator.available(settings.most)))


def measure(
    recipe: Recipe, data: PreparedData, curator: Curator, sizes: Sequence[int], run: Run, here: World, shown: Progress
) -> tuple[Quality, Cost]:
    """Measure how good transfer sets of some sizes are.

    Args:
        recipe: That curates, no key filled in; with one teacher.
        data: Its labels, drawn, and validation data; the test set is not read.
        curator: Retrieves.
        sizes: Rising.
        run: The run folder; an interrupted measurement goes on from what is finished there.
        here: Device and processes.
        shown: Shows where work is.

    Returns:
        The scores, and what all trainings cost, those found finished as well.

    Raises:
        TutelageError: Items cannot be retrieved or decoded, or a training fails.
    """
    assert recipe.curate is not None
    chosen = [retrieved_samples(curator, curator.curate(size).retrieved.selection.rows) for size in sizes]
    settings, resolved = recipe.curate.probe, probing(recipe, data, max(sizes))
    batch = resolved.distill.batch_size
    assert batch is not None
    steps = settings.steps or max(LEAST_STEPS, math.ceil(max(sizes) / batch))
    shared = SharedStages(run.folder / FOLDER, run.writes, run.barrier)
    # The largest first: it holds the others, as a rule, and is decoded once.
    pools = (*reversed(chosen), data.labeled)
    root = recipe.store.root(run.folder)
    job = Job(
        recipe=resolved,
        task=TASKS[recipe.task],
        labeled=data.labeled,
        validation=data.validation,
        transfer=chosen[-1],
        run=shared,
        world=here,
        progress=shown,
        packs=Packs(root, recipe.store.max_bytes, pools, shown),
    )
    adapted: dict[str, Stage] = {}
    probed = adapt_in("probe", job, adapted, always=True)
    assert probed is not None
    adapted["adapt-probe"] = probed
    adapted["adapt"] = adapt(job, adapted)
    teacher = functools.cache(lambda: teacher_of(job, adapted, LESSON))
    found: list[list[Mapping[str, float]]] = [[] for _ in sizes]
    with shown.track("try sizes of the transfer set", settings.seeds * len(sizes)) as update:
        for seed in range(settings.seeds):
            seeded = resolved.model_copy(update={"seed": recipe.seed + seed})
            for row, samples in enumerate(chosen):
                trial = replace(job, recipe=seeded, transfer=samples, progress=Quiet())
                stage = _probe(trial, adapted, teacher, steps)
                found[row].append(stage.results["metrics"])
                update(seed * len(sizes) + row + 1, {})
    return _quality(job, sizes, found, steps), _total(shared.stages)


def retrieved_samples(curator: Curator, rows: IntArray) -> Samples:
    """Return some items of a gallery as samples without labels, cut where they are crops."""
    found, origin = curator.gallery.samples(curator.items.images(rows)), f"{len(rows):,} retrieved items"
    if found.texts is not None:
        return replace(found, origin=origin)
    cuts, whole = cuts_of(curator.items, rows), found.images or ()
    items = [item_of(*each) for each in zip(cuts.ids, whole, cuts.numbers.tolist(), cuts.boxes.tolist(), strict=True)]
    ids, images = tuple(name for name, _ in items), [image for _, image in items]
    return Samples(ids, images=images, origin=origin)


def probing(recipe: Recipe, data: PreparedData, largest: int) -> Recipe:
    """Return the recipe of quick trainings, every key filled in, and the same batch size for all sizes.

    Args:
        recipe: That curates.
        data: Its labels.
        largest: Size.
    """
    usual = min(DENSE_BATCH if recipe.dense else MOST_BATCH, pretraining_batch(largest))
    lasting: dict[str, Any] = {"epochs": 1, "steps": None, "targets": "live", "views": None, "snapshots": ()}
    distill = recipe.distill.model_copy(
        update={**lasting, "batch_size": recipe.distill.batch_size or usual, "top_k": None}
    )
    changed = {"method": METHOD, "baselines": (), "baseline_finetune": {}, "distill": distill, "curate": None}
    return recipe.model_copy(update=changed).resolved(
        short_side=data.short_side,
        labels=len(data.labeled),
        transfer=largest,
        classes=len(data.labeled.classes),
    )


def _probe(job: Job, adapted: Mapping[str, Stage], teacher: Callable[[], Model], steps: int) -> Stage:
    """Train one student, and judge it; it leaves nothing but its metrics."""
    recipe = job.recipe
    inputs = {
        "student": recipe.student,
        "start": recipe.start,
        "classes": len(job.labeled.classes),
        "distill": recipe.distill.deciding(LESSON),
        "steps": steps,
    }
    held = job.labeled if job.validation is None else job.validation

    def work(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
        settings, cost = recipe.distill, Cost()
        assert settings.batch_size is not None
        assert settings.learning_rate is not None
        with measured(cost, job.world.device):
            taught, student = teacher(), job.new_student()
            shapes = LESSON.shapes_of(taught, len(job.labeled.classes))
            objective = LESSON.of(student, shapes, temperature=settings.temperature)
            schedule = Schedule(
                steps=steps,
                batch_size=settings.batch_size,
                learning_rate=settings.learning_rate,
                average=settings.average,
            )
            loader = transfer_loader(job, LESSON)
            objectives = {LESSON.name: (objective, 1.0)}
            phase = Phase("quality", loader, objectives, schedule, teachers={"teacher": LiveTeacher(taught)})
            checkpoint = folder / "quality.checkpoint"
            trained = train(
                phase, student, world=job.world, seed=recipe.seed, progress=job.progress, checkpoint=checkpoint
            )
            cost.add(trained.cost)
            student.load_state_dict(trained.average or trained.raw)
            metrics = job.task.metrics(job.outcomes(student, held, cost=cost), job.truth(held))
        return {"metrics": metrics}, cost.as_dict()

    return job.stage("quality", taught_by(adapted, LESSON), inputs, work, reads=("transfer", *LABELS))


def _quality(job: Job, sizes: Sequence[int], found: Sequence[Sequence[Mapping[str, float]]], steps: int) -> Quality:
    primary = job.task.primary
    measures = [[each[primary] for each in metrics] for metrics in found]
    if not all("nll" in each for metrics in found for each in metrics):
        return Quality(tuple(sizes), measures, primary, {}, steps)
    likely = [[math.exp(-each["nll"]) for each in metrics] for metrics in found]
    return Quality(tuple(sizes), likely, "likelihood", {primary: measures}, steps)


def _total(stages: Sequence[Stage]) -> Cost:
    """Return what stages cost together."""
    parts = [Cost(**stage.cost) for stage in stages]
    return Cost(
        seconds=sum(part.seconds for part in parts),
        images=sum(part.images for part in parts),
        flops=sum(part.flops for part in parts),
        waiting=sum(part.waiting for part in parts),
        peak_memory=max(part.peak_memory for part in parts),
        device=parts[-1].device,
    )
