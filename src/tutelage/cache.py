"""The cache folder: what is costly to find out or to fetch, and can be had again at any time."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder(purpose: str) -> Path:
    """Return where things of one purpose are kept, made or not: in ``TUTELAGE_CACHE``, or ``~/.cache/tutelage``."""
    return Path(os.environ.get("TUTELAGE_CACHE") or "~/.cache/tutelage").expanduser() / purpose
