"""Opening the page in a browser without telling its token to everyone at the machine."""

from __future__ import annotations

import os
import sys
import webbrowser
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tutelage.curation.suspects import FOLDER

DOORWAY = "open.html"
"""Leads to the page. Others may list what a browser was started with, but not read this file."""


@contextmanager
def opened(run: Path, url: str) -> Iterator[None]:
    """Open an address in a browser, where there is one that is no program of this terminal.

    Args:
        run: The run folder, where a file that leads to the address lies meanwhile.
        url: The address, without characters that HTML would take for something else.
    """
    doorway = (run / FOLDER / DOORWAY).resolve()
    with suppress(OSError, webbrowser.Error):
        if sys.platform == "darwin" or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"):
            doorway.unlink(missing_ok=True)
            descriptor = os.open(doorway, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w") as file:
                file.write(f'<!doctype html><meta http-equiv="refresh" content="0; url={url}">')
            webbrowser.open(doorway.as_uri())
    try:
        yield
    finally:
        with suppress(OSError):
            doorway.unlink(missing_ok=True)
