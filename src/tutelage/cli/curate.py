"""``tutelage curate``: a transfer set from a large gallery."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer


class Engine(StrEnum):
    """What embeds and searches."""

    LOCAL = "local"
    RAY = "ray"


def curate(
    recipe: Annotated[Path, typer.Argument(help="Recipe file (YAML) with a section curate.")],
    gallery: Annotated[
        str | None, typer.Option(help="Unlabeled images to retrieve from, as many as you have.")
    ] = None,
    size: Annotated[
        str | None, typer.Option(help="How many items to retrieve, or auto: as many as quick trainings say.")
    ] = None,
    strategy: Annotated[str | None, typer.Option(help="How they are selected (tutelage list strategies).")] = None,
    leaks: Annotated[
        str | None,
        typer.Option(help="What becomes of images that may be the task's: drop, keep, or ask (tutelage review)."),
    ] = None,
    engine: Annotated[
        Engine, typer.Option(help="What embeds and searches the gallery: this process, or a Ray cluster.")
    ] = Engine.LOCAL,
    plan: Annotated[
        bool, typer.Option("--plan", help="Only predict what embedding takes, from a few of the gallery's images.")
    ] = False,
    out: Annotated[Path | None, typer.Option(help="Run folder; a name under runs/ if not given.")] = None,
    max_gb: Annotated[float | None, typer.Option(help="Most that embeddings and the like may take, in GB.")] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Any key, such as curate.crops=10.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")] = False,
) -> None:
    """Retrieve a transfer set from a gallery: what resembles your labeled images, without duplicates and leaks."""
    from tutelage.api import curate as curate_alone
    from tutelage.cli.console import Bars, err_console, print_json
    from tutelage.pipeline import plan_curation
    from tutelage.recipe_reading import load_recipe, overrides
    from tutelage.report.curated.terminal import show_curation

    count = int(size) if size is not None and size.isdecimal() else size
    flags = {"gallery": gallery, "size": count, "strategy": strategy, "leaks": leaks}
    given = {f"curate.{name}": value for name, value in flags.items() if value is not None}
    given |= overrides({}, max_gb=max_gb, settings=settings)
    made = load_recipe(recipe, given)
    console = err_console()
    if plan:
        planned = plan_curation(made)
        if as_json:
            print_json(planned)
        else:
            console.print(_planned(planned, made.modality), markup=False, highlight=False)
        return
    found = curate_alone(made, out=out, progress=Bars(console), engine="ray" if engine is Engine.RAY else "local")
    if os.environ.get("RANK", "0") != "0":
        return  # of several processes started by torchrun, one speaks
    if as_json:
        print_json({**found.data, "folder": str(found.folder), "page": str(found.page)})
        return
    show_curation(console, found.path.parent)
    console.print(f"\n{_going_on(recipe, out, given)}", markup=False, highlight=False)


def _planned(found: Mapping[str, Any], one: str) -> str:
    from tutelage.report.numbers import duration, flops, plural, whole

    embedded = f", {whole(found['gallery'] - found['left'])} of them embedded already" * (
        found["left"] < found["gallery"]
    )
    return (
        f"{plural(found['gallery'], one)} in the gallery{embedded}. Embedding the rest, and {whole(found['beside'])} "
        f"others (the task's, and copies that thresholds are found by), takes about {duration(found['seconds'])}, "
        f"{flops(found['flops'])}FLOP; searching and trainings that try sizes come on top."
    )


def _going_on(recipe: Path, out: Path | None, given: Mapping[str, Any]) -> str:
    """Return the command that learns from what was curated."""
    changes = [part for key, value in given.items() for part in ("--set", f"{key}={_typed(value)}")]
    return shlex.join(["tutelage", "transfer", str(recipe), *([] if out is None else ["--out", str(out)]), *changes])


def _typed(value: object) -> str:
    """Return a value as one would type it: text as it is, unless YAML would read something else."""
    import yaml

    plain = isinstance(value, str) and yaml.safe_load(value) == value
    return str(value) if plain else json.dumps(value)
