"""A finished run as one HTML page that needs nothing beside itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tutelage.report import comparison, exports, sections
from tutelage.report.agreement import agreement
from tutelage.report.calibration import calibration
from tutelage.report.curated.page import PAGE, write_curation_page
from tutelage.report.finished import Finished, read_run
from tutelage.report.mistakes import mistakes
from tutelage.report.problems import problems
from tutelage.report.rounds import rounds
from tutelage.report.segments import segments, worst
from tutelage.report.tasks import METRICS, noun, task_words
from tutelage.report.template import template
from tutelage.report.words import distilled, headline, usage
from tutelage.run import write_whole

CURATE = "curate"
"""The stage that a run has where it curated what it learned from."""


def write_page(folder: Path) -> Path:
    """Write ``report.html`` into a finished run's folder, and return its path.

    Beside it goes the page of its curation, if it curated what it learned from.

    Raises:
        RunError: The run is not finished, its files are damaged, or a page cannot be written.
        DataError: The transfer set that it curated is missing or damaged.
    """
    path, run = folder / "report.html", read_run(folder)
    # Names that come from file names need not be valid Unicode.
    write_whole(path, render_page(run).encode("utf-8", "replace"))
    if CURATE in run.stages:
        write_curation_page(folder / run.data["folders"][CURATE])
    return path


def render_page(run: Finished) -> str:
    """Return the page; everything that comes from the run is escaped."""
    rows, words = comparison.models(run), task_words(run.data)
    return template("page.html").render(
        data=run.data,
        one=noun(run.data),
        task=words,
        compared=[METRICS[key].title for key in (words.primary, *words.others)],
        judged=[METRICS[key].title for key in (words.primary, *words.judged)],
        headline=headline(run.data),
        facts=sections.facts(run),
        models=rows,
        scale=_scale(rows),
        verdicts=comparison.verdicts(run),
        agreement=agreement(run),
        calibration=calibration(run),
        candidates=sections.candidates(run),
        judged_on=sections.judged_on(run),
        optimistic=distilled(run.data) and not run.data["images"]["validation"],
        rounds=rounds(run),
        curves=sections.curves(run),
        errors=sections.errors(run),
        mistakes=mistakes(run),
        segments=segments(run),
        worst=worst(run),
        forms=exports.forms(run),
        form_sentences=exports.sentences(run),
        latency=exports.latency(run),
        costs=sections.costs(run),
        images=sections.images(run),
        curation=PAGE if CURATE in run.stages else None,
        problems=problems(run),
        recipe=run.recipe,
        folder=run.folder.as_posix(),
        usage="\n".join(usage(run.folder, words)),
    )


def _scale(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Return where the comparison's axis begins, its ticks, and each row's marks on it, in percent of its length."""
    lowest = min(row["interval"].low if row["interval"] else row["at"] for row in rows)
    first = min(0.9, max(0.0, int(lowest * 10) / 10))
    step = 0.1 if first >= 0.5 else 0.2

    def at(share: float) -> str:
        return f"{100 * (share - first) / (1 - first):.2f}%"

    marks = [
        {
            "at": at(row["at"]),
            "low": at(row["interval"].low) if row["interval"] else None,
            "width": f"{100 * (row['interval'].high - row['interval'].low) / (1 - first):.2f}%"
            if row["interval"]
            else None,
        }
        for row in rows
    ]
    ticks = [1 - number * step for number in range(int((1 - first) / step + 1.001))]
    return {"marks": marks, "ticks": [(at(tick), f"{100 * tick:.0f}%") for tick in ticks]}
