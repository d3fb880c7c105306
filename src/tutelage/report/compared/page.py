"""A comparison as one HTML page that needs nothing beside itself."""

from __future__ import annotations

import operator
from pathlib import Path
from typing import Any

from tutelage.comparison.findings import Contender, Curve, Group, LabelCurve, curves, label_curves
from tutelage.comparison.table import Comparison, read_comparison
from tutelage.comparison.verdict import contender_words, verdicts
from tutelage.report.compared import tables
from tutelage.report.compared.pictures import Look, looks, over_compute, over_labels, swatch
from tutelage.report.compared.scales import FLOPS, SECONDS, flops_tick, seconds_tick
from tutelage.report.numbers import percent, plural
from tutelage.report.tasks import noun
from tutelage.report.template import template
from tutelage.run import versions, write_whole

UNITS = (
    ("FLOPs", operator.attrgetter("flops"), FLOPS, flops_tick),
    ("Time", operator.attrgetter("seconds"), SECONDS, seconds_tick),
)
"""What compute is measured in: title, what picks it, its ticks, what says them."""


def write_comparison_page(folder: Path) -> Path:
    """Write ``comparison.html`` from the ``comparison.json`` beside it, and return its path.

    Raises:
        RunError: There is no comparison, it is damaged, or the page cannot be written.
    """
    path = folder / "comparison.html"
    # Names that come from file names need not be valid Unicode.
    write_whole(path, render_comparison(read_comparison(folder)).encode("utf-8", "replace"))
    return path


def render_comparison(comparison: Comparison) -> str:
    """Return the page; everything that comes from the comparison is escaped."""
    about, metric = comparison.about, tables.metric(comparison)
    headline, *rest = verdicts(comparison) or ["Nothing has been compared yet."]
    # Only its first sentence is a headline.
    headline, end, more = headline.partition(". ")
    images, unfinished = about.get("test_images"), tables.unfinished(comparison)
    scored = f"{metric.name} on {plural(images, f'test {noun(about)}')}" if images else metric.name
    return template("compared/page.html").render(
        version=versions()["tutelage"],
        over=[part for part in ("comparison", about.get("task"), scored, unfinished) if part],
        headline=headline.removesuffix("."),
        verdicts=[*([more] if end else []), *rest],
        metric=metric.title,
        results=tables.results(comparison),
        label_pictures=_label_pictures(comparison),
        compute_pictures=_compute_pictures(comparison),
        ratios=tables.ratios(comparison),
        effects=tables.effects(comparison),
        failures=tables.failures(comparison),
        unfinished=unfinished,
        measured=tables.measured(comparison),
        command=about.get("command"),
        recipe=about.get("recipe"),
    )


def _label_pictures(comparison: Comparison) -> list[dict[str, str]]:
    """Return a picture for each start and compute that has several label counts."""
    styles = looks(comparison)
    sides: dict[tuple[str, str], list[LabelCurve]] = {}
    for curve in label_curves(comparison):
        sides.setdefault((curve.contender.start, curve.contender.compute), []).append(curve)
    found = []
    for (start, compute), members in sides.items():
        reached = {summary.labels for curve in members for summary in curve.points}
        labels = [
            each for each in dict.fromkeys(outcome.cell.labels for outcome in comparison.outcomes) if each in reached
        ]
        if len(labels) > 1:
            whole_title = tables.title(comparison, Group(labels[0], start, compute))
            found.append(
                {
                    "title": whole_title.split(", ", 1)[1],
                    "picture": over_labels(members, styles, labels, comparison.task),
                }
            )
    return found


def _compute_pictures(comparison: Comparison) -> list[dict[str, Any]]:
    """Return pictures for each group in which any contender's pretraining has checkpoints."""
    styles = looks(comparison)
    groups: dict[Group, list[Curve]] = {}
    for curve in curves(comparison):
        groups.setdefault(Group(curve.labels, curve.contender.start, curve.contender.compute), []).append(curve)
    found = []
    for group, members in groups.items():
        pictures = [
            {"title": title, "picture": over_compute(members, styles, compute, nice, words)}
            for title, compute, nice, words in UNITS
            if any(compute(point.spent) > 0 for curve in members for point in curve.points)
        ]
        if pictures:
            members.sort(key=lambda curve: curve.score, reverse=True)
            legend = [_legend(curve, styles) for curve in members]
            found.append({"title": tables.title(comparison, group), "pictures": pictures, "legend": legend})
    return found


def _legend(curve: Curve, styles: dict[Contender, Look]) -> dict[str, str]:
    look = swatch(styles[curve.contender], level=not curve.points)
    return {"swatch": look, "name": contender_words(curve.contender), "score": percent(curve.score)}
