"""A run or a comparison, analyzed: what its parts say, and a page of them."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from tutelage.analysis.of_comparison import ComparisonAnalysis, analyze_comparison
from tutelage.analysis.of_run import RunAnalysis, analyze_run
from tutelage.analysis.page import PAGE, write_analysis_page
from tutelage.errors import RunError
from tutelage.progress import Progress, Quiet

SCHEMA = 1
"""Version of what :func:`as_data` returns."""

Analysis = RunAnalysis | ComparisonAnalysis


def analyze(folder: Path, *, progress: Progress | None = None) -> Analysis:
    """Analyze a run or a comparison, and write ``analysis.html`` into its folder.

    Args:
        folder: Of a finished run, or of a comparison.
        progress: Shows where work is.

    Raises:
        RunError: It is neither, is damaged, or there is nothing to analyze in it.
        TutelageError: Its data or models cannot be had any more.
    """
    shown = progress or Quiet()
    found: Analysis
    if (folder / "comparison.json").exists():
        found = analyze_comparison(folder, shown)
    elif (folder / "results.json").exists():
        found = analyze_run(folder, shown)
    else:
        raise RunError(
            f"{folder}: holds neither results.json nor comparison.json; give the folder of a finished run "
            "(tutelage transfer) or of a comparison (tutelage compare)"
        )
    write_analysis_page(found)
    return found


def as_data(analysis: Analysis) -> dict[str, Any]:
    """Return an analysis as plain data: ``kind`` (``run`` or ``comparison``), ``folder``, ``page``, and its parts."""
    data = dataclasses.asdict(analysis)
    if data.get("probes"):
        for each in ("plain", "weighted"):
            del data["probes"][each]["right"]
    return {
        "schema": SCHEMA,
        "kind": "run" if isinstance(analysis, RunAnalysis) else "comparison",
        **data,
        "folder": analysis.folder.as_posix(),
        "page": (analysis.folder / PAGE).as_posix(),
    }
