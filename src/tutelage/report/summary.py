"""A finished run in the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from tutelage.report.numbers import MISSING, duration, flops, parameters, percent
from tutelage.report.tasks import score, task_words
from tutelage.report.words import baseline_words, collapses, group_words, leaks, short_name, usage, verdict

MADE = {
    "model/": "the model: ONNX, weights, card",
    "report.html": "everything about this run on one page",
    "results.json": "its numbers, for programs",
}


def summary(data: Mapping[str, Any], folder: Path) -> RenderableType:
    """Return a table of the models, what it means, where things are, and the lines that use the model.

    Args:
        data: The content of ``results.json``.
        folder: The run folder, as the reader would write it.
    """
    files = {**MADE, **({"curation.html": "what was retrieved, on one page"} if "curate" in data["folders"] else {})}
    said = [*(verdict(data, name) for name in data["baselines"]), *collapses(data), *leaks(data)]
    width = max(map(len, files))
    made = [
        Text.assemble(f"{folder.as_posix()}/{name:{width}}", ("  " + what, "dim"), overflow="fold")
        for name, what in files.items()
    ]
    code = [Text(line, "cyan", overflow="fold") for line in usage(folder, task_words(data))]
    parts = ([_models(data)], [Text(each) for each in said], made, code)
    return Group(*(line for part in parts if part for line in (*part, "")))


def _models(data: Mapping[str, Any]) -> Table:
    tested = data["metrics"]["test"] is not None
    which = "test" if tested else "val"
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("")
    # Text, never markup: names may hold square brackets.
    for title in (task_words(data).metric.name if tested else "held out", "params", "time", "FLOPs"):
        table.add_column(Text(title), justify="right")

    def add(name: str, note: str, metrics: Mapping[str, float], *costs: str, style: str = "") -> None:
        reached = Text(percent(score(data, metrics)), style)
        table.add_row(Text.assemble((name, style), (f"  {note}", "dim")), reached, *costs)

    student, size = short_name(data["student"]["name"]), parameters(data["student"]["params"])
    add(student, "student", data["metrics"][which], size, *_spent(data["cost"]), style="bold")
    for name, baseline in data["baselines"].items():
        add(student, baseline_words(data, name), baseline["metrics"][which], size, *_spent(baseline["cost"]))
    for mode, metrics in data["teacher_metrics"].items():
        teacher = data["teacher"]
        note = f"teacher, {group_words(data, mode)[0].lower()}"
        costs = (parameters(teacher.get("params")), MISSING, MISSING)
        add(short_name(teacher["name"]), note, metrics, *costs)
    return table


def _spent(cost: Mapping[str, Any]) -> tuple[str, str]:
    return duration(cost["seconds"]), flops(cost["flops"])
