"""``tutelage list``: the names that recipes use."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer


class Kind(StrEnum):
    """What can be listed."""

    METHODS = "methods"
    TASKS = "tasks"
    MODELS = "models"
    DATA = "data"
    OBJECTIVES = "objectives"
    EXPORTERS = "exporters"
    STRATEGIES = "strategies"


def list_names(
    kind: Annotated[Kind, typer.Argument(help="What to list.")],
    match: Annotated[str, typer.Option(help="Only names that contain this.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")] = False,
) -> None:
    """List the methods, tasks, models, kinds of data, objectives, exporters or strategies of curation there are."""
    from tutelage.cli.console import print_json

    rows = {name: summary for name, summary in _rows(kind).items() if match.lower() in name.lower()}
    if as_json:
        print_json({kind.value: rows})
        return
    width = max(map(len, rows), default=0)
    for name, summary in rows.items():
        typer.echo(f"{name:{width}}  {summary}".rstrip())
    if kind is Kind.MODELS and not match:
        for line in _unlisted():
            typer.echo(line)


def _unlisted() -> list[str]:
    """Return how models are named of which there is no list: anybody can add some."""
    from tutelage.models.sources import SOURCES

    return [f"{key}:…  {source.summary}" for key, source in SOURCES.items() if not source.names()]


def _rows(kind: Kind) -> dict[str, str]:
    if kind is Kind.METHODS:
        from tutelage.methods import METHODS

        return {name: method.summary for name, method in METHODS.items()}
    if kind is Kind.TASKS:
        from tutelage.tasks import TASKS

        return {name: _first_line(task) for name, task in TASKS.items()}
    if kind is Kind.MODELS:
        from tutelage.models.sources import SOURCES

        return {f"{key}:{name}": "" for key, source in SOURCES.items() for name in source.names()}
    if kind is Kind.DATA:
        from tutelage.data.readers import READERS

        return {name: reader.summary for name, reader in READERS.items()}
    if kind is Kind.STRATEGIES:
        from tutelage.curation.strategies import STRATEGIES

        return {name: strategy.summary for name, strategy in STRATEGIES.items()}
    if kind is Kind.EXPORTERS:
        from tutelage.export import EXPORTERS

        return {name: exporter.summary for name, exporter in EXPORTERS.items()}
    from tutelage.objectives import OBJECTIVES

    return {name: _first_line(objective) for name, objective in OBJECTIVES.items()}


def _first_line(thing: object) -> str:
    return (thing.__doc__ or "").strip().split("\n")[0]
