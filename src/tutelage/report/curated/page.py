"""A curation as one HTML page that needs nothing beside itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tutelage.report.curated import sections, words
from tutelage.report.curated.files import Curated, read_curated
from tutelage.report.curated.pairs import SHOWN, pairs
from tutelage.report.curated.projection import Points, read_map
from tutelage.report.template import template
from tutelage.run import versions, write_whole

PAGE = "curation.html"


def write_curation_page(folder: Path) -> Path:
    """Write ``curation.html`` beside a curation's folder, and return its path.

    Args:
        folder: The curation's: that of its stage.

    Raises:
        RunError: The curation is not finished, its files are damaged, or the page cannot be written.
        DataError: The transfer set is missing or damaged.
    """
    path = folder.parent / PAGE
    page = render_curation(read_curated(folder), read_map(folder))
    # Names that come from file names need not be valid Unicode.
    write_whole(path, page.encode("utf-8", "replace"))
    return path


def render_curation(curated: Curated, points: Points | None) -> str:
    """Return the page; everything that comes from the curation is escaped.

    Args:
        curated: What the curation left behind.
        points: Its map, if there is one.
    """
    data, shown = curated.data, pairs(curated)
    reasons = sections.reasons(data)
    return template("curated/page.html").render(
        version=versions()["tutelage"],
        one=words.one(data),
        over=["curation", data["strategy"], f"seed {data['seed']}"],
        headline=words.done(data).removesuffix("."),
        warning=words.warning(data),
        pairs=shown[:SHOWN],
        more=shown[SHOWN:],
        left_out=_left_out(data, reasons),
        reasons=reasons,
        encoders=sections.encoders(curated),
        problems=sections.problems(data),
        brought=sections.brought(data),
        similar=sections.similar(data),
        located=sections.located(points),
        enough=sections.enough(data),
        made=sections.made(curated),
    )


def _left_out(data: Mapping[str, Any], reasons: Sequence[tuple[str, str]]) -> list[str]:
    """Return sentences on what was left out; a table says how many where any were."""
    said = ["" if reasons else words.left_out(data), words.suspected(data), words.rule(data)]
    return [sentence for sentence in said if sentence]
