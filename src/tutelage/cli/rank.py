"""``tutelage rank``: which teacher suits the task, before any is paid for."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.console import RenderableType

    from tutelage.ranking.ranking import Ranking

FAILED = 1
"""Exit code when a candidate failed; the others are there."""


def rank(
    recipe: Annotated[Path, typer.Argument(help="Recipe file (YAML): which data, labels and sizes.")],
    teachers: Annotated[str, typer.Option(help="Candidates, with commas between; a+b for the features of both.")],
    seeds: Annotated[int, typer.Option(help="Draws of labels.")] = 3,
    labeled: Annotated[str | None, typer.Option(help="Labeled data: a folder per class, or a built-in name.")] = None,
    labels: Annotated[str | None, typer.Option(help="Labels to use: N per class, max:N, P%, or all.")] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Any key, such as views.teacher_size=224.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")] = False,
) -> None:
    """Rank pretrained teachers on your labels by linear probe, nearest neighbors and LogME: minutes, no training."""
    from tutelage.cli.console import Bars, err_console, print_json
    from tutelage.ranking.rank import any_teacher, rank
    from tutelage.recipe_reading import load_recipe, overrides

    candidates = [name.strip() for name in teachers.split(",") if name.strip()]
    given = overrides({"labeled": labeled, "labels": labels}, settings=settings)
    made = load_recipe(recipe, {**given, **any_teacher(candidates)})
    console = err_console()
    found = rank(made, candidates, seeds=seeds, progress=Bars(console))
    flags = {"--labeled": labeled, "--labels": labels}
    options = [part for flag, value in flags.items() if value is not None for part in (flag, value)]
    options += [part for setting in settings or () for part in ("--set", setting)]
    following = next_command(recipe, found.best.name, options)
    if os.environ.get("RANK", "0") == "0":  # of several processes started by torchrun, one speaks
        if as_json:
            print_json({**found.as_data(), "next": following})
        else:
            console.print(_shown(found, following))
    if found.failed:
        raise typer.Exit(FAILED)


def next_command(recipe: Path, best: str, options: list[str]) -> str:
    """Return the command that uses the best candidate; several encoders go with a method that takes several."""
    from tutelage.ranking.rank import split_names

    names = split_names([best])[best]
    teacher = ["--teacher", best]
    if len(names) > 1:
        teacher = ["--method", "aft", "--set", f"teacher=[{', '.join(names)}]"]
    return shlex.join(["tutelage", "transfer", str(recipe), *options, *teacher])


def _shown(found: Ranking, following: str) -> RenderableType:
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    from tutelage.report.numbers import duration, flops, parameters, plural, whole
    from tutelage.report.words import printable

    names = _names([*(each.name for each in found.candidates), *found.failed])
    table = Table(box=None, pad_edge=False, header_style="dim")
    # The one column that may be folded: numbers stay whole.
    table.add_column("", overflow="fold")
    for title in ("probe", "k-NN", "LogME", "params", "FLOPs", "width", "time"):
        table.add_column(title, justify="right", no_wrap=True)
    for place, each in enumerate(found.candidates):
        style, std = "" if place else "bold", each.probe.std
        spread = "" if std is None else f" ± {100 * std:.1f}"
        table.add_row(
            Text(names[each.name], style),
            Text(f"{100 * each.probe.mean:.1f}{spread}", style),
            f"{100 * each.neighbors.mean:.1f}",
            f"{each.evidence.mean:.3f}",
            parameters(each.params),
            flops(each.flops),
            whole(each.width),
            duration(each.seconds),
        )
    for name in found.failed:
        table.add_row(Text(names[name]), Text("failed", "red"))
    judged = f"{found.held_out:,} held-out {found.modality}s" if found.validation else "cross-validated"
    one = "an image" if found.modality == "image" else f"a {found.modality}"
    about = (
        f"{found.labels:,} labels of {plural(found.classes, 'class', 'classes')}, "
        f"{plural(len(found.seeds), 'draw')}, {judged}; FLOPs of {one}"
    )
    sentences = [found.verdict, *(f"{name} failed: {why}" for name, why in found.failed.items())]
    lines = [line for sentence in sentences for line in (Text(printable(sentence)), "")]
    return Group(table, Text(about, "dim"), "", *lines, Text(printable(following), "cyan"))


def _names(candidates: Sequence[str]) -> dict[str, str]:
    """Return names without their sources, where that tells them apart, and with a line for each encoder."""
    from tutelage.ranking.ranking import JOIN
    from tutelage.report.words import printable, short_name

    whole = {name: [printable(part) for part in name.split(JOIN)] for name in candidates}
    short = {name: [short_name(part) for part in parts] for name, parts in whole.items()}
    shown = short if len(set(map(tuple, short.values()))) == len(short) else whole
    return {name: f"\n{JOIN} ".join(parts) for name, parts in shown.items()}
