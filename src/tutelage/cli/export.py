"""``tutelage export``: further forms of a finished model; nothing is trained again."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from tutelage.recipe import Recipe

WEB = "web"
"""A form made of another one, not of the trained model."""


def export(
    run: Annotated[Path, typer.Argument(help="The run folder.")],
    form: Annotated[
        list[str] | None, typer.Option("--form", help="Form to add (tutelage list exporters), or web; repeatable.")
    ] = None,
    latency: Annotated[bool, typer.Option("--latency", help="Time student and teacher on this machine.")] = False,
    out: Annotated[Path | None, typer.Option(help="Folder to copy the model folder to.")] = None,
    runtime: Annotated[
        Path | None, typer.Option(help="Folder with onnxruntime-web for the web form; npm fetches it if not given.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")] = False,
) -> None:
    """Export a finished model in more forms: INT8, PyTorch, a page for browsers; what is there stays."""
    from tutelage.cli.console import print_json

    asked = tuple(form or ())
    recipe = _checked(run, asked, out, latency=latency)
    if not (run / "model" / "model.onnx").is_file() or latency or set(asked) != {WEB}:
        _run(recipe, run)
    folder = run / "model"
    web = folder / WEB
    # A page that is there already must not fall behind the model; what runs it is there as well.
    if WEB in asked or (web / "index.html").is_file():
        from tutelage.export.web import write_web

        write_web(folder, runtime=runtime if WEB in asked else web)
    if out is not None:
        folder = _copy(folder, out)
    if as_json:
        files = [
            {"path": path.relative_to(folder).as_posix(), "bytes": path.stat().st_size} for path in _files(folder)
        ]
        print_json({"folder": str(folder), "files": files, **_found(run)})
    else:
        _show(run, folder)


def _checked(run: Path, asked: tuple[str, ...], out: Path | None, *, latency: bool) -> Recipe:
    """Return the run's recipe with what is asked for added, after all that can be checked at once."""
    from tutelage.errors import RunError, UnknownNameError
    from tutelage.export import EXPORTERS
    from tutelage.recipe_reading import load_recipe

    for name in asked:
        if name != WEB and name not in EXPORTERS:
            raise UnknownNameError("form", name, (*EXPORTERS, WEB))
    if not (run / "results.json").is_file():
        raise RunError(f"{run}: is no finished run; if it was interrupted, the command that began it resumes it")
    if out is not None and out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise RunError(f"{out}: exists and is not empty; choose another --out")
    recipe = load_recipe(run / "recipe.yaml")
    forms = dict.fromkeys((*recipe.export.forms, *(name for name in asked if name != WEB)))
    settings = {"export.forms": list(forms), "export.latency": latency or recipe.export.latency}
    return load_recipe(run / "recipe.yaml", settings)


def _run(recipe: Recipe, run: Path) -> None:
    """Run the recipe in its folder, where all but the export is found finished."""
    from tutelage import pipeline
    from tutelage.cli.console import Bars, err_console

    pipeline.run(recipe, run, progress=Bars(err_console()))


def _copy(folder: Path, out: Path) -> Path:
    from tutelage.errors import RunError

    try:
        shutil.copytree(folder, out, dirs_exist_ok=True)
    except OSError as error:
        raise RunError(f"{out}: cannot be written ({error}); free space or choose another --out") from error
    return out


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _found(run: Path) -> dict[str, Any]:
    from tutelage.report.finished import read_run

    data = read_run(run).data
    return {name: data[name] for name in ("export", "exported", "latency") if data.get(name)}


def _show(run: Path, folder: Path) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from tutelage.report import exports
    from tutelage.report.finished import read_run
    from tutelage.report.numbers import size

    console = Console(highlight=False, soft_wrap=True)
    files = Table(box=None, pad_edge=False, show_header=False)
    files.add_column(overflow="fold")
    files.add_column(justify="right")
    for path in _files(folder):
        files.add_row(Text(path.as_posix()), size(path.stat().st_size))
    console.print(files)
    finished = read_run(run)
    for row in exports.forms(finished):
        console.print(Text(f"{row['name']}: {row['check']}{', ' * bool(row['kept'])}{row['kept']}"))
    for sentence in exports.sentences(finished):
        console.print(Text(sentence))
    if (timed := exports.latency(finished)) is not None:
        console.print(_times(timed))
    if (folder / WEB).is_dir():
        console.print(Text(f"to see it: python -m http.server -d {(folder / WEB).as_posix()}", "cyan"))


def _times(timed: dict[str, Any]) -> Any:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="dim", caption=timed["sentence"], caption_justify="left")
    for title in ("", "runtime", "size", *timed["heads"]):
        table.add_column(title, justify="left" if title in ("", "runtime") else "right")
    for row in timed["rows"]:
        table.add_row(row["name"], row["runtime"], row["size"], *(median for median, _ in row["times"]))
    return table
