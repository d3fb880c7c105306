"""The page of a run that curated what it learned from."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from tutelage.report.finished import read_run
from tutelage.report.page import write_page
from tutelage.report.summary import summary

Make = Callable[..., Path]

LINK = 'href="curation.html"'


@pytest.fixture
def curated_run(make_run: Make, make_curated: Make) -> Path:
    run, stage = make_run(), make_curated()
    shutil.copytree(stage, run / "00-curate")
    shutil.copy(run / "01-data" / "stage.json", run / "00-curate")
    results = json.loads((run / "results.json").read_text())
    results["folders"] = {"curate": "00-curate", **results["folders"]}
    (run / "results.json").write_text(json.dumps(results))
    return run


def test_the_curation_has_a_page_beside_the_run_s(curated_run: Path) -> None:
    write_page(curated_run)
    assert "What was retrieved for what" in (curated_run / "curation.html").read_text()


def test_the_run_s_page_leads_to_it(curated_run: Path) -> None:
    assert LINK in write_page(curated_run).read_text()


def test_a_run_that_curated_nothing_leads_nowhere(make_run: Make) -> None:
    page = write_page(make_run())
    assert LINK not in page.read_text()
    assert not page.with_name("curation.html").exists()


def test_the_terminal_says_where_it_is(curated_run: Path) -> None:
    out = io.StringIO()
    Console(file=out, width=100).print(summary(read_run(curated_run).data, Path("runs/digits")))
    assert "runs/digits/curation.html" in out.getvalue()
