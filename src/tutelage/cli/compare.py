"""``tutelage compare``: which method helps on this data, in one table."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.console import RenderableType

FAILED = 1
"""Exit code when a cell failed; the others are there."""


def compare(
    recipe: Annotated[Path, typer.Argument(help="Recipe file (YAML): what all cells have in common.")],
    methods: Annotated[str, typer.Option(help="Methods, with commas between (tutelage list methods).")],
    labels: Annotated[str, typer.Option(help="Label counts, such as 5,10,25; the recipe's if not given.")] = "",
    seeds: Annotated[int, typer.Option(help="Runs of each cell; each draws other labels.")] = 3,
    transfer: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=PATH",
            help="A transfer set; again for more. A NAME alone: the labeled data. NAME=curate, or "
            "NAME=curate:KEY=VALUE;…: what the recipe curates.",
        ),
    ] = None,
    start: Annotated[str, typer.Option(help="Where students start: random, pretrained, or both.")] = "",
    budget: Annotated[
        list[str] | None,
        typer.Option(metavar="2e13|300s", help="Also compare at this many FLOPs or seconds; again for more."),
    ] = None,
    points: Annotated[int, typer.Option(help="Checkpoints tested on the way through each pretraining.")] = 4,
    variant: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME: KEY=VALUE",
            help="A change of the recipe, compared beside others; again for more. A NAME alone: the recipe as it is.",
        ),
    ] = None,
    plan: Annotated[bool, typer.Option("--plan", help="Only predict how long it takes, from a short probe.")] = False,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the comparison; runs/compare-RECIPE if not given.")
    ] = None,
    max_gb: Annotated[
        float | None, typer.Option(help="Most that packed images and teacher targets may take, in GB.")
    ] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Any key, such as distill.epochs=50.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")] = False,
) -> None:
    """Compare methods on your data: the same student, labels and test set for each; resumes cell by cell.

    A variant may set several keys (NAME: KEY=VALUE; KEY=VALUE), and be for some methods alone (METHODS / NAME: …).
    """
    from tutelage.cli.console import Bars, err_console, print_json
    from tutelage.comparison.compare import compare
    from tutelage.comparison.compare import plan as predict
    from tutelage.comparison.grid import make_grid
    from tutelage.comparison.variants import parse_variants
    from tutelage.recipe_reading import load_recipe, overrides

    made = load_recipe(recipe, overrides({}, max_gb=max_gb, settings=settings))
    grid = make_grid(
        made,
        methods=_listed(methods),
        labels=_listed(labels),
        seeds=seeds,
        transfers=transfer or (),
        starts=_listed(start),
        budgets=budget or (),
        points=points,
        variants=parse_variants(variant or ()),
    )
    folder = out or Path("runs") / f"compare-{recipe.stem}"
    console = err_console()
    if plan:
        planned = predict(made, grid, folder)
        if as_json:
            print_json(planned)
        else:
            console.print(_planned(planned))
        return
    command = shlex.join(["tutelage", *sys.argv[1:]])
    found = compare(made, grid, folder, command=command, progress=Bars(console))
    failed = any(outcome.error is not None for outcome in found.outcomes)
    if os.environ.get("RANK", "0") == "0":  # of several processes started by torchrun, one speaks
        if as_json:
            from tutelage.comparison.table import as_data

            print_json({**as_data(found), "folder": str(folder)})
        else:
            from tutelage.report.compared.terminal import show_comparison

            show_comparison(console, found, folder)
    if failed:
        raise typer.Exit(FAILED)


def _listed(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _planned(found: Mapping[str, Any]) -> RenderableType:
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    from tutelage.report.numbers import duration, flops, plural, whole
    from tutelage.report.sections import stage_title

    if not found["stages"]:
        return Text(f"{plural(found['cells'], 'cell')}, all finished")
    table = Table(box=None, pad_edge=False, header_style="dim")
    for number, title in enumerate(("still to run", "stages", "time", "FLOPs")):
        table.add_column(title, justify="right" if number else "left")
    for name, each in found["stages"].items():
        table.add_row(stage_title(name), whole(each["count"]), duration(each["seconds"]), flops(each["flops"]))
    table.add_row("All", "", duration(found["seconds"]), flops(found["flops"]), style="bold")
    done = f", {whole(found['finished'])} of them finished" if found["finished"] else ""
    return Group(
        table,
        "",
        Text(f"{plural(found['cells'], 'cell')}{done}. What cells have in common runs once for all of them."),
        *([Text("Curating is counted without the trainings that try sizes.")] if found["to_curate"] else []),
    )
