"""``tutelage transfer``: one run, by recipe or by headline flags."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from tutelage.recipe import Recipe


def transfer(
    recipe: Annotated[Path | None, typer.Argument(help="Recipe file (YAML); flags override its keys.")] = None,
    task: Annotated[str | None, typer.Option(help="What is to be learned: classification, or segmentation.")] = None,
    labeled: Annotated[
        str | None,
        typer.Option(help="Labeled data: a folder per class (or images/ and masks/), or a built-in name."),
    ] = None,
    labels: Annotated[
        str | None, typer.Option(help="Labels to use: N per class (or masks in all), max:N, P%, or all.")
    ] = None,
    test: Annotated[str | None, typer.Option(help="Labeled data to report on; never trains or chooses.")] = None,
    transfer: Annotated[
        str | None, typer.Option(help="Unlabeled data; all labeled data, without labels, if not given.")
    ] = None,
    teacher: Annotated[
        str | None, typer.Option(help="Foundation model, such as timm:vit_small_patch14_dinov2.")
    ] = None,
    student: Annotated[str | None, typer.Option(help="Small model, such as timm:fastvit_s12.")] = None,
    method: Annotated[str | None, typer.Option(help="How the student is made (tutelage list methods).")] = None,
    out: Annotated[Path | None, typer.Option(help="Run folder; a name under runs/ if not given.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of everything that is drawn.")] = None,
    max_gb: Annotated[
        float | None, typer.Option(help="Most that packed images and teacher targets may take, in GB.")
    ] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Any key, such as distill.epochs=50.")
    ] = None,
    check: Annotated[bool, typer.Option("--check", help="Only check that everything is in order.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")] = False,
) -> None:
    """Make a small model from a teacher, a few labels and unlabeled images; resumes where it was interrupted."""
    from tutelage.recipe_reading import load_recipe, make_recipe, overrides

    flags = {
        "task": task,
        "labeled": labeled,
        "labels": labels,
        "test": test,
        "transfer": transfer,
        "teacher": teacher,
        "student": student,
        "method": method,
        "seed": seed,
    }
    given = overrides(flags, max_gb=max_gb, settings=settings)
    made = make_recipe({}, given) if recipe is None else load_recipe(recipe, given)
    if check:
        show_check(made, as_json=as_json)
    else:
        run_and_show(made, out, as_json=as_json)


def show_check(recipe: Recipe, *, as_json: bool) -> None:
    """Check a recipe and its data, and show what a run would use."""
    from tutelage.checks import check
    from tutelage.cli.console import err_console, print_json
    from tutelage.data.problems import in_words, summarize

    data, resolved = check(recipe)
    counts = data.counts()
    problems = {part: summarize(found) for part, found in data.problems.items()}
    if as_json:
        print_json({"ok": True, "images": counts, "problems": problems, "recipe": resolved.model_dump(mode="json")})
        return
    console = err_console()
    console.print(resolved.to_yaml(), markup=False, highlight=False)
    console.print(", ".join(f"{name}: {count}" for name, count in counts.items()), markup=False, highlight=False)
    for part, found in problems.items():
        console.print(f"problems in {part}: {in_words(found['counts'])}", markup=False, highlight=False)
    console.print("everything is in order")


def run_and_show(recipe: Recipe, out: Path | None, *, as_json: bool) -> None:
    """Run a recipe and show what it found."""
    from tutelage.cli.console import Bars, err_console, print_json
    from tutelage.pipeline import run
    from tutelage.report.summary import summary

    console = err_console()
    result = run(recipe, out, progress=Bars(console))
    if os.environ.get("RANK", "0") != "0":
        return  # of several processes started by torchrun, one speaks
    if as_json:
        print_json({**result.data, "folder": str(result.folder)})
    else:
        console.print(summary(result.data, result.folder))
