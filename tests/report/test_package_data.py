"""Pages and their styles are installed with the package."""

from __future__ import annotations

import tomllib
from pathlib import Path

import tutelage

SOURCE = Path(tutelage.__file__).parent


def test_every_page_is_part_of_the_package() -> None:
    settings = tomllib.loads((SOURCE.parents[1] / "pyproject.toml").read_text())
    patterns = settings["tool"]["setuptools"]["package-data"]["tutelage"]
    packaged = {path for pattern in patterns for path in SOURCE.glob(pattern)}
    pages = {path for kind in ("html", "css", "js") for path in SOURCE.rglob(f"*.{kind}")}
    assert pages
    assert pages <= packaged
