"""``tutelage cache``: a teacher's targets, stored for the run to come, or what that would take."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.console import RenderableType


def cache(
    recipe: Annotated[Path, typer.Argument(help="Recipe file (YAML).")],
    plan: Annotated[bool, typer.Option("--plan", help="Only predict size, time and gain, from a probe.")] = False,
    out: Annotated[Path | None, typer.Option(help="Run folder; a name under runs/ if not given.")] = None,
    max_gb: Annotated[
        float | None, typer.Option(help="Most that packed images and teacher targets may take, in GB.")
    ] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Any key, such as distill.views=16.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")] = False,
) -> None:
    """Run the teacher once over a few views of each unlabeled image, so that distilling needs it no more."""
    from tutelage.cli.console import Bars, err_console, print_json
    from tutelage.pipeline import cache, plan_cache
    from tutelage.recipe_reading import load_recipe, overrides

    made = load_recipe(recipe, overrides({}, max_gb=max_gb, settings=settings))
    console = err_console()
    found = plan_cache(made) if plan else cache(made, out, progress=Bars(console))
    if as_json:
        print_json(found)
    elif plan:
        console.print(_planned(found))
    else:
        from tutelage.report.numbers import size

        again = "were stored already" if found["reused"] else "are stored"
        console.print(
            f"{found['views']} views of {found['images']:,} images {again}, {size(found['bytes'])} in "
            f"{found['folder']}; {found['why']}",
            markup=False,
            highlight=False,
        )


def _planned(found: Mapping[str, Any]) -> RenderableType:
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    from tutelage.report.numbers import duration, plural, size, times, whole

    def table(*titles: str) -> Table:
        made = Table(box=None, pad_edge=False, header_style="dim")
        for number, title in enumerate(titles):
            made.add_column(title, justify="right" if number else "left")
        return made

    images, views, epochs = found["images"], found["views"], found["epochs"]
    rates = table("alone, on this machine", "images/s")
    words = {"decode": "decode", "view": "cut a view", "teacher": "run the teacher", "student": "train the student"}
    for name, rate in found["rates"].items():
        rates.add_row(words[name], whole(round(rate)))
    stores = table("stored", "size", "made in")
    if found["packs"]["bytes"]:
        stores.add_row(f"{whole(images)} images", size(found["packs"]["bytes"]), duration(found["packs"]["seconds"]))
    stores.add_row(
        f"{plural(views, 'view')} of each, {', '.join(found['forms'].values())}",
        size(found["targets"]["bytes"]),
        duration(found["targets"]["seconds"]),
    )
    epoch, every = found["epoch"], found["all_epochs"]
    times_spent = table("distilling", "teacher live", "targets stored")
    times_spent.add_row("an epoch", duration(epoch["live"]), duration(epoch["cached"]))
    times_spent.add_row(
        f"{plural(epochs, 'epoch')}, storing included", duration(every["live"]), duration(every["cached"])
    )
    decided = found["decided"]
    gain = every["live"] / every["cached"]
    sentences = [
        f"Storing pays after {found['break_even']:.1f} epochs; "
        + (
            f"the {epochs} of this recipe take {times(gain)} times less time with it."
            if gain >= 1
            else f"the {epochs} of this recipe take {times(1 / gain)} times longer with it."
        ),
        "This recipe runs the teacher live."
        if decided["mode"] == "live"
        else f"This recipe stores {plural(decided['views'], 'view')}.",
    ]
    return Group(rates, "", stores, "", times_spent, "", *map(Text, sentences))
