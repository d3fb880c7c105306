"""The main job: every stage in order."""

from __future__ import annotations

import dataclasses
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tutelage.checks import check, prepare, settle
from tutelage.curation import stage as curation_stage
from tutelage.curation.embedder import EngineName, Place
from tutelage.curation.forecast import CurationForecast
from tutelage.data.prepare import PreparedData
from tutelage.errors import RecipeError
from tutelage.evaluation.exported import evaluate_exported
from tutelage.evaluation.results import Result, collect
from tutelage.evaluation.stage import evaluate
from tutelage.export.card import model_card
from tutelage.export.description import describe
from tutelage.export.latency import latency
from tutelage.export.stage import export
from tutelage.methods import METHODS, Job
from tutelage.methods.pair_targets import planned_pair_bytes
from tutelage.methods.prediction import predict_targets
from tutelage.methods.targets import planned_bytes
from tutelage.models.saved import read_description
from tutelage.progress import Progress, Quiet
from tutelage.recipe import Recipe
from tutelage.report.page import write_page
from tutelage.report.words import short_name
from tutelage.run import Run, Stage, open_run, versions, write_json, write_whole
from tutelage.store.packs import Packs
from tutelage.tasks import TASKS
from tutelage.training.distributed import World, world


def run(recipe: Recipe, out: Path | None = None, *, progress: Progress | None = None) -> Result:
    """Run a recipe, or what is left of it, in its run folder.

    Args:
        recipe: What to run.
        out: The run folder; ``runs/`` and a name made of the recipe where not given.
        progress: Shows where work is.

    Raises:
        TutelageError: Something asked for cannot be done; what was finished stays and is not run again.
    """
    folder = out or default_folder(recipe)
    with world(recipe.device) as here:
        shown = progress if progress is not None and here.first else Quiet()
        data, resolved = check(recipe)
        with open_run(folder, writes=here.first, barrier=here.barrier) as opened:
            data, resolved, curation = _with_curated(recipe, data, resolved, opened, here, shown)
            shown.say(resolved.to_yaml())
            if here.first:
                write_whole(folder / "recipe.yaml", resolved.to_yaml())
            baselines = {
                name: resolved.model_copy(update={"method": name, "finetune": settings})
                for name, settings in resolved.baseline_finetune.items()
            }
            result = _stages(resolved, baselines, data, curation, opened, here, shown)
            if here.first:
                write_json(folder / "results.json", result.data)
                known = read_description(folder / "model")
                description = describe(known, result.data, recipe=resolved, data=data)
                write_json(folder / "model" / "model.json", description)
                card = model_card({**description, **result.data, "recipe": resolved.to_yaml()})
                write_whole(folder / "model" / "MODEL_CARD.md", card)
                write_page(folder)
            here.barrier()
    return result


def cache(recipe: Recipe, out: Path | None = None, *, progress: Progress | None = None) -> dict[str, Any]:
    """Run a recipe up to its teacher's stored targets; the run itself goes on from there.

    Args:
        recipe: What to run.
        out: The run folder; as in :func:`run` where not given.
        progress: Shows where work is.

    Returns:
        The results of the stage that stores them, and its ``cost``.

    Raises:
        RecipeError: The method has no teacher, or runs it live.
        TutelageError: Something else asked for cannot be done.
    """
    folder = out or default_folder(recipe)
    with world(recipe.device) as here:
        shown = progress if progress is not None and here.first else Quiet()
        data, resolved = check(recipe)
        _check_cached(resolved)
        if METHODS[resolved.method].pairing is not None and resolved.clip.targets == "live":
            raise RecipeError(
                f"clip.targets: the teacher runs live for {resolved.clip.epochs} epochs; nothing is stored. "
                "clip.targets=cached stores it anyway"
            )
        if METHODS[resolved.method].lesson is not None and resolved.distill.targets == "live":
            raise RecipeError(
                f"distill.targets: the teacher runs live for {resolved.distill.epochs} epochs; nothing is stored. "
                "--plan shows what it would save, distill.targets=cached stores it anyway"
            )
        with open_run(folder, writes=here.first, barrier=here.barrier) as opened:
            data, resolved, curation = _with_curated(recipe, data, resolved, opened, here, shown)
            _keep_read(data, opened)
            job = make_job(resolved, data, opened, here, shown, curation=curation)
            stage = run_method(job, until="targets")["targets"]
            return {**stage.results, "cost": dict(stage.cost)}


def curate(
    recipe: Recipe, out: Path | None = None, *, progress: Progress | None = None, engine: EngineName = "local"
) -> Stage:
    """Curate a recipe's transfer set alone; a run in the same folder goes on from there.

    Args:
        recipe: With a gallery.
        out: The run folder; as in :func:`run` where not given.
        progress: Shows where work is.
        engine: What embeds the gallery and searches it: this process, or Ray.

    Returns:
        The stage, with what was found.

    Raises:
        TutelageError: Something asked for cannot be done; embeddings that are finished stay.
    """
    folder = out or default_folder(recipe)
    with world(recipe.device) as here:
        shown = progress if progress is not None and here.first else Quiet()
        data = prepare(recipe, curates=True)
        with open_run(folder, writes=here.first, barrier=here.barrier) as opened:
            return curation_stage.curate(recipe, data, opened, here, shown, engine=engine)


def plan_curation(recipe: Recipe) -> dict[str, Any]:
    """Predict what curating a recipe's transfer set takes; a few samples are embedded, and nothing is kept.

    Returns:
        The fields of :class:`tutelage.curation.forecast.Planned`.

    Raises:
        TutelageError: Something asked for cannot be done.
    """
    with world(recipe.device) as here:
        data = prepare(recipe, curates=True)
        root = recipe.store.root(default_folder(recipe))
        place = Place(root, recipe.store.max_bytes, here.device, Quiet())
        return dataclasses.asdict(CurationForecast(place).of(recipe, data))


def plan_cache(recipe: Recipe) -> dict[str, Any]:
    """Predict what storing the teacher's targets takes and saves (see :func:`predict_targets`); nothing is kept.

    Raises:
        RecipeError: The method has no teacher, or one that says nothing of unlabeled data.
        TutelageError: Something else asked for cannot be done.
    """
    with world(recipe.device) as here, tempfile.TemporaryDirectory() as folder:
        data, resolved = check(recipe)
        _check_cached(resolved)
        if METHODS[resolved.method].pairing is not None:
            raise RecipeError(
                f"method {resolved.method!r}: speeds are only measured for methods that distil; without --plan its "
                "embeddings are stored"
            )
        with open_run(Path(folder)) as opened:
            return predict_targets(make_job(resolved, data, opened, here, Quiet()))


def _with_curated(
    recipe: Recipe, data: PreparedData, resolved: Recipe, opened: Run, here: World, progress: Progress
) -> tuple[PreparedData, Recipe, Stage | None]:
    """Return data and recipe with what is curated in place of its stand-ins, and the stage that curated it."""
    if not recipe.curates:
        return data, resolved, None
    stage = curation_stage.curate(recipe, data, opened, here, progress)
    data = curation_stage.curated(recipe, data, stage)
    return data, settle(recipe, data), stage


def _check_cached(recipe: Recipe) -> None:
    if "targets" not in METHODS[recipe.method].stages:
        raise RecipeError(f"method {recipe.method!r} learns from no teacher's targets; there is nothing to store")


def default_folder(recipe: Recipe) -> Path:
    """Return ``runs/DATA-LABELS-METHOD-STUDENT-sSEED``."""
    data, student = Path(recipe.data.labeled).name, short_name(recipe.student)
    parts = (data, recipe.data.labels, recipe.method, student, f"s{recipe.seed}")
    return Path("runs") / re.sub(r"[^\w.-]+", "-", "-".join(parts))


def _stages(
    recipe: Recipe,
    baselines: Mapping[str, Recipe],
    data: PreparedData,
    curation: Stage | None,
    opened: Run,
    here: World,
    progress: Progress,
) -> Result:
    _keep_read(data, opened)
    job = make_job(recipe, data, opened, here, progress, curation=curation)
    stages = run_method(job)
    evaluated = evaluate(job, stages, data.test)
    exported = export(job, stages, provenance(recipe, data))
    compared = {name: _compare(job, name, other, data) for name, other in baselines.items()}
    found = collect(job, data, stages, evaluated, compared)
    found |= {
        "export": dict(exported.results),
        "exported": evaluate_exported(job, exported, data.test),
        "latency": latency(job, stages, exported),
    }
    found["folders"] = {stage.name: stage.folder.name for stage in opened.stages}
    return Result(opened.folder, found, tuple(opened.stages))


def make_job(
    recipe: Recipe,
    data: PreparedData,
    opened: Run,
    here: World,
    progress: Progress,
    *,
    curation: Stage | None = None,
) -> Job:
    """Return what the stages of a resolved recipe work with."""
    return Job(
        recipe=recipe,
        task=TASKS[recipe.task],
        labeled=data.labeled,
        validation=data.validation,
        transfer=data.transfer,
        run=opened,
        world=here,
        progress=progress,
        packs=_packs(recipe, data, opened.folder, progress),
        pretraining=data.pretraining,
        pairs=data.pairs,
        curation=curation,
    )


def _packs(recipe: Recipe, data: PreparedData, folder: Path, progress: Progress) -> Packs:
    """Return the images of a run's training data, to be decoded once when first needed."""
    if recipe.modality == "text":
        return Packs(recipe.store.root(folder), 0, (), progress)  # there are no images
    method, every = METHODS[recipe.method], [METHODS[name] for name in (recipe.method, *recipe.baselines)]
    pools, targets = [data.labeled], 0
    if any(each.needs_pretraining for each in every) and data.pretraining is not None:
        pools.insert(0, data.pretraining)
    if any(each.pairing for each in every) and data.pairs is not None:
        pools.insert(0, data.pairs)
    if any(each.needs_transfer for each in every):
        pools.insert(0, data.transfer)
    if method.lesson is not None:
        classes = len(data.labeled.classes)
        targets = planned_bytes(recipe, method.lesson, classes=classes, images=len(data.transfer))
    if method.pairing == "mimic" and data.pairs is not None:
        targets = planned_pair_bytes(recipe, len(data.pairs))
    # A little more than planned: shards have headers.
    room = max(0, recipe.store.max_bytes - targets - targets // 20)
    return Packs(recipe.store.root(folder), room, tuple(pools), progress)


def provenance(recipe: Recipe, data: PreparedData) -> dict[str, Any]:
    """Return how a model came to be, as plain data that goes with its files."""
    return {
        "made_with": f"tutelage {versions()['tutelage']}",
        "method": recipe.method,
        "teacher": recipe.teacher if METHODS[recipe.method].needs_teacher else None,
        "student": recipe.student,
        "start": recipe.start,
        "seed": recipe.seed,
        "labels": len(data.labeled),
        "transfer_images": len(data.transfer),
    }


def run_method(job: Job, *, until: str | None = None) -> dict[str, Stage]:
    """Run the stages of the recipe's method, all of them or up to one, and return them by name."""
    method = METHODS[job.recipe.method]
    stages = {"curate": job.curation} if job.curation is not None and method.needs_transfer else {}
    for name, work in method.stages.items():
        stage = work(job, stages)
        if stage is not None:
            stages[name] = stage
        if name == until:
            break
    return stages


def _compare(job: Job, name: str, recipe: Recipe, data: PreparedData) -> tuple[dict[str, Stage], Stage]:
    """Run a baseline inside the run."""
    other = dataclasses.replace(job, recipe=recipe, prefix=f"{name}-")
    stages = run_method(other)
    return stages, evaluate(other, stages, data.test)


def _keep_read(data: PreparedData, opened: Run) -> None:
    """Keep which samples the run trains and chooses with; no stage depends on it, but on what it reads itself."""
    parts = {
        "labeled": data.labeled,
        "validation": data.validation,
        "transfer": data.transfer,
        "pretraining": data.pretraining,
        **({} if data.pairs is None else {"pairs": data.pairs}),
    }
    fingerprints = {name: None if part is None else part.fingerprint for name, part in parts.items()}

    def work(folder: Path) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
        if opened.writes:
            write_json(folder / "labeled.json", {"ids": list(data.labeled.ids)})
        return {"classes": list(data.labeled.classes)}, {}

    stage = opened.stage("data", fingerprints, work)
    if opened.writes:
        # Not part of the stage: what is left out may change while what is left is the same.
        found = {part: [dataclasses.asdict(problem) for problem in listed] for part, listed in data.problems.items()}
        write_json(stage.folder / "problems.json", found)
