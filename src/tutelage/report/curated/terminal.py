"""A curation in the terminal."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.text import Text

from tutelage.curation.record import read_about
from tutelage.curation.transfer_set import FILE
from tutelage.report.curated.page import PAGE
from tutelage.report.curated.words import curation_sentences, warning
from tutelage.report.words import printable


def show_curation(console: Console, folder: Path) -> None:
    """Print what was retrieved and what was left out, and where the files are.

    Args:
        console: Where to.
        folder: The curation's, as the reader would write it.

    Raises:
        RunError: There is no curation, or it is damaged.
    """
    curation = read_about(folder)
    for sentence in curation_sentences(curation):
        console.print(Text(printable(sentence), "bold" if sentence == warning(curation) else ""))
    console.print()
    made = {folder / FILE: "the transfer set", folder.parent / PAGE: "what was retrieved, on one page"}
    width = max(len(path.as_posix()) for path in made)
    for path, what in made.items():
        console.print(Text.assemble(printable(f"{path.as_posix():{width}}"), (f"  {what}", "dim"), overflow="fold"))
