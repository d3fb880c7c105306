"""Where the images are that a table names: beside it, anywhere on this machine, or at a URL."""

from __future__ import annotations

import os
import posixpath
from pathlib import Path

from tutelage.data.problems import Problem
from tutelage.data.readers.places import Piece, Place, connect, is_url, remote_place, walk_remote
from tutelage.data.readers.rows import printable
from tutelage.data.samples import ImageSource


class LocalImages:
    """Finds the images of a table on this machine: from its folder on, anywhere else, or at a URL.

    By os.path, a row at a time: pathlib would take several times as long, and does not take ``..`` out of a path.
    """

    def __init__(self, place: Place) -> None:
        self.folder = os.path.abspath(os.path.dirname(place.path))  # noqa: PTH100, PTH120

    def __call__(self, cell: str) -> tuple[str, ImageSource] | Problem:
        """Return the id and the image that a cell names, or why there is none."""
        if is_url(cell):
            return _at_url(cell)
        path = os.path.normpath(os.path.join(self.folder, os.path.expanduser(cell)))  # noqa: PTH111, PTH118
        if not os.path.isfile(path):  # noqa: PTH113
            return Problem("vanished", printable(cell), f"looked in {self.folder}")
        whole = posixpath.isabs(cell) or cell.startswith("~")
        inside = path.startswith(f"{self.folder}/")
        key = path if whole and not inside else os.path.relpath(path, self.folder)
        return printable(key), Path(path)


class RemoteImages:
    """Finds the images of a table on a store: below the table's folder or at a URL; never on this machine."""

    def __init__(self, place: Place) -> None:
        self.url = place.name.rpartition("/")[0]
        self.store = place.store
        self.root = place.path.rpartition("/")[0]
        self.index: dict[str, Place] | None = None

    def __call__(self, cell: str) -> tuple[str, ImageSource] | Problem:
        """Return the id and the image that a cell names, or why there is none."""
        if is_url(cell):
            if cell.startswith(("file://", "local://")):
                return Problem("unsafe path", cell, "a remote table names a file of this machine")
            return _at_url(cell)
        key = posixpath.normpath(cell)
        if posixpath.isabs(key) or key.startswith(".."):
            return Problem("unsafe path", cell, "leads out of the table's folder")
        if self.url.startswith(("http://", "https://")):  # web servers need not list their folders
            found = _at_url(f"{self.url}/{key}")
            return found if isinstance(found, Problem) else (key, found[1])
        if self.index is None:
            self.index = dict(walk_remote(self.store, self.root, self.url))
        return (key, Piece(self.index[key])) if key in self.index else Problem("vanished", cell, f"not in {self.url}")


def _at_url(url: str) -> tuple[str, ImageSource] | Problem:
    if "::" in url:
        return Problem("unsafe path", url, "chained URLs are not read")
    store, path = connect(url)
    # Nobody listed it, and asking for each row would take a request each: the URL stands for the image.
    return url, Piece(remote_place(store, {"name": path}, url))
