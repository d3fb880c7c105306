"""An analysis as one HTML page that needs nothing beside itself."""

from __future__ import annotations

from pathlib import Path

from tutelage.analysis import comparison_sections, run_sections
from tutelage.analysis.of_comparison import ComparisonAnalysis
from tutelage.analysis.of_run import RunAnalysis
from tutelage.analysis.sections import Section
from tutelage.report.template import template
from tutelage.run import versions, write_whole

PAGE = "analysis.html"


def write_analysis_page(analysis: RunAnalysis | ComparisonAnalysis) -> Path:
    """Write ``analysis.html`` into the folder of the run or comparison, and return its path.

    Raises:
        RunError: It cannot be written.
    """
    path = analysis.folder / PAGE
    # Names that come from file names need not be valid Unicode.
    write_whole(path, render_analysis(analysis).encode("utf-8", "replace"))
    return path


def render_analysis(analysis: RunAnalysis | ComparisonAnalysis) -> str:
    """Return the page; everything that comes from the run or comparison is escaped."""
    sections = sections_of(analysis)
    kind = "run" if isinstance(analysis, RunAnalysis) else "comparison"
    return template("analysis.html").render(
        version=versions()["tutelage"],
        over=[f"analysis of a {kind}", analysis.folder.name],
        headline=headline(sections).removesuffix("."),
        sections=sections,
        left_out=missing(analysis),
        facts=facts_of(analysis),
    )


def sections_of(analysis: RunAnalysis | ComparisonAnalysis) -> list[Section]:
    """Return the sections that there are."""
    if isinstance(analysis, RunAnalysis):
        return run_sections.run_sections(analysis)
    return comparison_sections.comparison_sections(analysis)


def facts_of(analysis: RunAnalysis | ComparisonAnalysis) -> list[tuple[str, str]]:
    """Return what was analyzed."""
    if isinstance(analysis, RunAnalysis):
        return run_sections.run_facts(analysis)
    return comparison_sections.comparison_facts(analysis)


def missing(analysis: RunAnalysis | ComparisonAnalysis) -> list[tuple[str, str]]:
    """Return the titles of the parts that are left out, and why they are."""
    titles = {**run_sections.TITLES, **comparison_sections.TITLES}
    return [(titles[part], why) for part, why in analysis.left_out.items()]


def headline(sections: list[Section]) -> str:
    """Return the most important sentence."""
    return next(sentence for section in sections for sentence in section.sentences)
