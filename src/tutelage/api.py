"""The main job, curation, the comparison of methods, the ranking of teachers and analyses, from Python."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tutelage.analysis.analyze import Analysis
from tutelage.analysis.analyze import analyze as analyze_folder
from tutelage.comparison.compare import compare as run_grid
from tutelage.comparison.grid import POINTS, make_grid
from tutelage.comparison.table import Comparison
from tutelage.curation.embedder import EngineName
from tutelage.curation.record import CuratedSet, read_about
from tutelage.curation.transfer_set import FILE
from tutelage.evaluation.results import Result
from tutelage.pipeline import curate as run_curation
from tutelage.pipeline import run
from tutelage.progress import Progress
from tutelage.ranking.rank import any_teacher
from tutelage.ranking.rank import rank as rank_candidates
from tutelage.ranking.ranking import Ranking
from tutelage.recipe import Recipe
from tutelage.recipe_reading import headline, load_recipe, make_recipe
from tutelage.report.curated.page import write_curation_page


def transfer(
    recipe: Recipe | str | Path | None = None,
    *,
    labeled: str | Path | None = None,
    labels: int | str | None = None,
    test: str | Path | None = None,
    transfer: str | Path | None = None,
    teacher: str | None = None,
    student: str | None = None,
    method: str | None = None,
    seed: int | None = None,
    out: str | Path | None = None,
    settings: dict[str, Any] | None = None,
    progress: Progress | None = None,
) -> Result:
    """Make a small model for one task; resume if part of it is done.

    Args:
        recipe: A recipe, or the path of one; the other arguments override its keys.
        labeled: Labeled data: a folder per class, ``digits``, or ``torchvision:NAME``.
        labels: How many labels may be used: N per class, ``"max:N"``, ``"P%"`` or ``"all"``.
        test: Labeled data to report on; never used to train or choose.
        transfer: Unlabeled data to distil on; all of ``labeled`` without its labels where not given.
        teacher: The foundation model, such as ``timm:vit_large_patch14_dinov2.lvd142m``.
        student: The small model, such as ``timm:fastvit_s12``.
        method: How the student is made; ``task-oriented`` where not given.
        seed: Seed of everything that is drawn.
        out: The run folder; a name under ``runs/`` where not given.
        settings: Any other keys, dotted: ``{"distill.epochs": 50}``.
        progress: Shows where work is; silent where not given.

    Returns:
        What the run found, and where its folder is.

    Raises:
        TutelageError: Something asked for cannot be done (one of its subclasses says what).
    """
    flags = headline(
        labeled=labeled,
        labels=labels,
        test=test,
        transfer=transfer,
        teacher=teacher,
        student=student,
        method=method,
        seed=seed,
    )
    made = _made(recipe, {**flags, **(settings or {})})
    return run(made, None if out is None else Path(out), progress=progress)


def curate(
    recipe: Recipe | str | Path,
    *,
    gallery: str | Path | None = None,
    size: int | str | None = None,
    strategy: str | None = None,
    leaks: str | None = None,
    engine: EngineName = "local",
    out: str | Path | None = None,
    settings: dict[str, Any] | None = None,
    progress: Progress | None = None,
) -> CuratedSet:
    """Retrieve a transfer set from a gallery; :func:`transfer` of the same recipe in the same folder learns from it.

    Args:
        recipe: A recipe with a section ``curate``, or the path of one; the other arguments override its keys.
        gallery: Unlabeled data to retrieve from, as many as there are.
        size: How many items to retrieve, or ``"auto"``: as many as quick trainings say.
        strategy: How they are selected (``tutelage list strategies``).
        leaks: What becomes of items that may be the task's own: ``drop``, ``keep`` or ``ask``.
        engine: What embeds and searches the gallery: this process (``local``), or a Ray cluster (``ray``).
        out: The run folder; a name under ``runs/`` where not given.
        settings: Any other keys, dotted: ``{"curate.crops": 10}``.
        progress: Shows where work is; silent where not given.

    Returns:
        What was retrieved, and where it is.

    Raises:
        TutelageError: Something asked for cannot be done; embeddings that are finished stay. With ``leaks="ask"``
            also that a person has to decide first.
    """
    flags = {"gallery": gallery, "size": size, "strategy": strategy, "leaks": leaks}
    given = {
        f"curate.{name}": str(value) if isinstance(value, Path) else value
        for name, value in flags.items()
        if value is not None
    }
    made = _made(recipe, {**given, **(settings or {})})
    stage = run_curation(made, None if out is None else Path(out), progress=progress, engine=engine)
    page = write_curation_page(stage.folder)
    return CuratedSet(stage.folder.parent, read_about(stage.folder), stage.folder / FILE, page)


def compare(
    recipe: Recipe | str | Path,
    *,
    methods: Sequence[str],
    labels: Sequence[int | str] = (),
    seeds: int = 3,
    transfer: Mapping[str, str | Path | None] | None = None,
    start: Sequence[str] = (),
    budgets: Sequence[str] = (),
    points: int = POINTS,
    variants: Mapping[str, Mapping[str, Any]] | None = None,
    out: str | Path,
    settings: dict[str, Any] | None = None,
    progress: Progress | None = None,
) -> Comparison:
    """Compare methods on the same student, labels and test data; resume if part of it is done.

    Args:
        recipe: A recipe, or the path of one: what all runs have in common.
        methods: What to compare (``tutelage list methods``).
        labels: Label counts, as ``data.labels``; the recipe's if none is given.
        seeds: Runs of each; each draws other labels.
        transfer: Where each transfer set is, by name; ``None`` for the labeled data, labels left out.
        start: ``random``, ``pretrained`` or both; the recipe's if none is given.
        budgets: Also compare with so many FLOPs (``"2e13"``) or seconds (``"300s"``) for each method.
        points: Checkpoints tested on the way through each pretraining.
        variants: Changes of the recipe that are compared beside each other, by name: ``{"plain": {}, "warm":
            {"distill.temperature": 3}}``; a name such as ``"task-oriented / warm"`` is for some methods alone.
        out: The comparison's folder.
        settings: Any other keys, dotted: ``{"distill.epochs": 50}``.
        progress: Shows where work is; silent where not given.

    Returns:
        Every run's outcome; :func:`tutelage.verdicts` says what they mean.

    Raises:
        TutelageError: Something asked for cannot be done at all (one of its subclasses says what).
    """
    made = _made(recipe, settings or {})
    grid = make_grid(
        made,
        methods=methods,
        labels=[str(amount) for amount in labels],
        seeds=seeds,
        transfers=[name if place is None else f"{name}={place}" for name, place in (transfer or {}).items()],
        starts=start,
        budgets=budgets,
        points=points,
        variants=variants,
    )
    return run_grid(made, grid, Path(out), progress=progress)


def rank(
    recipe: Recipe | str | Path,
    *,
    teachers: Sequence[str],
    labeled: str | Path | None = None,
    labels: int | str | None = None,
    seeds: int = 3,
    settings: dict[str, Any] | None = None,
    progress: Progress | None = None,
) -> Ranking:
    """Rank pretrained teachers on a few labels, before any is paid for: minutes, and nothing is trained or kept.

    Args:
        recipe: A recipe, or the path of one: which data, labels and sizes. Its own teacher does not matter.
        teachers: Candidates; ``"a+b"`` for the features of both side by side.
        labeled: Labeled data; the recipe's if not given.
        labels: How many labels may be used, as in :func:`transfer`; the recipe's if not given.
        seeds: Draws of labels.
        settings: Any other keys, dotted: ``{"views.teacher_size": 224}``.
        progress: Shows where work is; silent where not given.

    Returns:
        Candidates by the accuracy of linear probes on held-out labels, with what their features cost.

    Raises:
        TutelageError: Something asked for cannot be done, or every candidate failed.
    """
    given = {**headline(labeled=labeled, labels=labels), **(settings or {}), **any_teacher(teachers)}
    return rank_candidates(_made(recipe, given), teachers, seeds=seeds, progress=progress)


def analyze(path: str | Path, *, progress: Progress | None = None) -> Analysis:
    """Analyze a finished run, or a comparison; also writes ``analysis.html`` into its folder.

    Of a run: what each feature of its teachers weighs, a linear probe on weighted features, the time of a training
    step, student and teachers side by side. Of a comparison: errors beside standard transfer, what noise does, and
    whether better teachers made better students.

    Args:
        path: The folder of a run, best of ``aft``, or of a comparison.
        progress: Shows where work is; silent where not given.

    Returns:
        What was found; a part is ``None`` where it does not apply, and ``left_out`` says why.

    Raises:
        TutelageError: There is nothing to analyze, or its data or models cannot be had any more.
    """
    return analyze_folder(Path(path), progress=progress)


def _made(recipe: Recipe | str | Path | None, overrides: Mapping[str, Any]) -> Recipe:
    if isinstance(recipe, Recipe):
        return make_recipe(recipe.model_dump(mode="json"), overrides)
    return make_recipe({}, overrides) if recipe is None else load_recipe(Path(recipe), overrides)
