"""The whole grid: every cell in turn, what cells share done once, what fails reported, what is finished kept."""

from __future__ import annotations

import dataclasses
import re
import time
import traceback
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tutelage.comparison.cells import outcome_of, run_stages
from tutelage.comparison.files import write_tables
from tutelage.comparison.forecast import NOTHING, evaluation_cost, point_cost, stage_cost, total
from tutelage.comparison.grid import Grid
from tutelage.comparison.layout import Layout, made_up_results
from tutelage.comparison.speeds import Speeds
from tutelage.comparison.stages import PlannedStages, SharedStages
from tutelage.comparison.table import BEST, Cell, Comparison, Outcome, Spent, read_comparison, write_comparison
from tutelage.errors import RunError, TutelageError
from tutelage.methods.job import Job
from tutelage.progress import Progress, Quiet
from tutelage.recipe import Recipe
from tutelage.run import hold, write_whole
from tutelage.training.distributed import world


def compare(
    recipe: Recipe, grid: Grid, folder: Path, *, command: str = "", progress: Progress | None = None
) -> Comparison:
    """Run a grid, or what is left of it.

    Args:
        recipe: What is common to all cells.
        grid: The axes.
        folder: Where everything goes; stages, which cells share, are in ``stages/``.
        command: That asked for it, for the page.
        progress: Shows where work is.

    Returns:
        Every cell's outcome; a failed one says why, and the same call tries it again.

    Raises:
        TutelageError: Something asked for cannot be done at all.
    """
    from tutelage.report.compared.page import write_comparison_page

    if any(folder.glob("[0-9][0-9]-*")):
        raise RunError(f"{folder}: holds a single run; choose another --out")
    with world(recipe.device) as here:
        shown = progress if progress is not None and here.first else Quiet()
        layout = Layout(recipe, grid, folder, here)
        with hold(folder, writes=here.first):
            layout.keep_speeds()
            run = SharedStages(folder, here.first, here.barrier)
            began = time.monotonic() - _seconds_before(folder)
            outcomes: dict[Cell, Outcome] = {}
            turns = grid.in_turn()
            for number, cell in enumerate(turns):
                shown.say(f"[{number + 1}/{len(turns)}] {cell_words(cell)}")
                outcomes[cell] = _outcome(layout, run, cell, shown)
                about = layout.about(command, time.monotonic() - began)
                comparison = Comparison(about, tuple(outcomes[each] for each in grid.cells if each in outcomes))
                if here.first:
                    write_comparison(folder, comparison)
            if here.first:
                write_whole(folder / "recipe.yaml", layout.recipe.to_yaml())
                write_tables(folder, comparison)
                write_comparison_page(folder)
            here.barrier()
    return comparison


def plan(recipe: Recipe, grid: Grid, folder: Path) -> dict[str, Any]:
    """Predict what is left of a grid: a few seconds, and nothing is kept.

    Args:
        recipe: What is common to all cells.
        grid: The axes.
        folder: Where it would go; what is finished there is not counted.

    Returns:
        Plain data: ``cells`` (how many) and how many of them are ``finished``; ``stages``: of each kind that is still
        to be run the ``count`` and what they cost together (``seconds``, ``flops``); ``seconds``, ``flops`` in all,
        embedding for the transfer sets that are still ``to_curate`` (how many) counted, their quick trainings not.

    Raises:
        TutelageError: Something asked for cannot be done at all.
    """
    with world(recipe.device) as here:
        layout = Layout(recipe, grid, folder, here)
        counts: Counter[str] = Counter()
        costs: dict[str, Spent] = {}
        missing: dict[str, str] = {}
        finished = 0
        for cell in grid.in_turn():
            speeds = layout.speeds(cell)

            def to_curate(name: str, inputs: Mapping[str, Any], cell: Cell = cell) -> None:
                counts[name] += 1
                costs[name] = total((costs.get(name, NOTHING), layout.curation_cost(cell)))

            planned = PlannedStages(folder, missing=missing, made_up=to_curate)
            job = layout.job(cell, planned, Quiet())

            def made_up(name: str, inputs: Mapping[str, Any], job: Job = job, speeds: Speeds = speeds) -> None:
                if name == "evaluate":
                    model = "student" if inputs["file"].startswith(("student", "at-")) else "teacher"
                    cost = evaluation_cost(len(layout.test), model, speeds)
                else:
                    cost = point_cost(job, speeds) if name == "point" else stage_cost(name, job, speeds)
                counts[name] += 1
                costs[name] = total((costs.get(name, NOTHING), cost))

            planned.results, planned.made_up = made_up_results(job), made_up
            run_stages(job, layout.test, grid.shares)
            finished += not planned.asked
        spent = total(costs.values())
        stages = {
            name: {"count": counts[name], "seconds": cost.seconds, "flops": cost.flops}
            for name, cost in costs.items()
            if cost != NOTHING
        }
        return {
            "cells": len(grid.cells),
            "finished": finished,
            "to_curate": counts["curate"],
            "stages": stages,
            "seconds": spent.seconds,
            "flops": spent.flops,
        }


def cell_words(cell: Cell) -> str:
    """Return a cell in words."""
    parts = [cell.method, f"{cell.labels} labels", f"seed {cell.seed}"]
    if cell.transfer is not None:
        parts.insert(1, cell.transfer)
    if cell.variant:
        parts.insert(1 if cell.transfer is None else 2, cell.variant)
    if cell.compute != BEST:
        parts.append(f"within {cell.compute}")
    return ", ".join(parts)


def _outcome(layout: Layout, run: SharedStages, cell: Cell, shown: Progress) -> Outcome:
    """Run a cell; what goes wrong is its outcome, with the traceback in a file, and the others go on."""
    name = "-".join(str(part) for part in dataclasses.astuple(cell) if part is not None and part != "")
    log = run.folder / "failures" / (re.sub(r"[^\w.-]+", "-", name) + ".txt")
    try:
        job = layout.job(cell, run, shown)
        found = run_stages(job, layout.test, layout.grid.shares)
        log.unlink(missing_ok=True)
        return outcome_of(job, cell, found)
    except Exception as error:  # the one place where any failure is taken: a night's other cells must not be lost
        message = str(error) if isinstance(error, TutelageError) else f"{type(error).__name__}: {error}"
        shown.say(f"  failed: {message}")
        if run.writes:
            log.parent.mkdir(exist_ok=True)
            write_whole(log, traceback.format_exc().encode("utf-8", "replace"))
        return Outcome(cell, error=message)


def _seconds_before(folder: Path) -> float:
    """Return the seconds that interrupted attempts took."""
    if not (folder / "comparison.json").exists():
        return 0.0
    return float(read_comparison(folder).about["seconds"])
