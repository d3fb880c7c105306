"""Folders of images or of texts: here, with all that file systems hold, and on remote stores."""

from __future__ import annotations

import os
import stat
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from tutelage.data.pixels import IMAGE_SUFFIXES
from tutelage.data.problems import Problem
from tutelage.data.readers.places import (
    Piece,
    Place,
    connect,
    is_folder,
    is_there,
    is_url,
    local_place,
    reaching,
    walk_remote,
)
from tutelage.data.readers.rows import Found, Row, Wanted, finish, printable
from tutelage.data.samples import ImageSource, Samples
from tutelage.errors import DataError, UnknownNameError

if TYPE_CHECKING:  # which needs torch
    from tutelage.models.preprocess import Modality

SUFFIXES: dict[Modality, frozenset[str]] = {"image": IMAGE_SUFFIXES, "text": frozenset({".txt", ".md"})}
"""Endings of the files that are samples."""

LARGEST_TEXT = 16 << 20
"""Bytes of a file beyond which it is a collection, and not one text."""

MASKS = ("masks", "annotations", "labels")
"""What a folder of masks beside ``images/`` may be called."""


def is_inside(root: str, name: str) -> bool:
    """Return whether a folder here, or on a store, has a folder of that name; what cannot be reached is not there."""
    if not is_url(root):
        return is_folder(Path(root).expanduser() / name)
    store, path = connect(root)
    try:
        with reaching(root):
            return bool(store.isdir(f"{path}/{name}"))
    except DataError:  # some servers forbid what they do not have
        return False


def masks_beside(root: str) -> list[str]:
    """Return which folders of masks are in a folder that has ``images/``."""
    return [name for name in MASKS if is_inside(root, name)] if is_inside(root, "images") else []


def unlabeled_root(root: str) -> str:
    """Return where the images of a folder are: its ``images/``, if it has masks beside them, or all of it."""
    return f"{root.rstrip('/')}/images" if masks_beside(root) else root


def check_folder(where: str, suggestions: tuple[str, ...] = ()) -> None:
    """Check that a local folder is there.

    Raises:
        DataError: It is a file, or its parent is missing.
        UnknownNameError: It is not there; names the close ones, and those of ``suggestions``.
    """
    folder = Path(where).expanduser()
    if not is_there(folder):
        if not is_folder(folder.parent):
            raise DataError(f"{where}: no such folder, nor is there {folder.parent}")
        with reaching(where):
            known = [path.name for path in folder.parent.iterdir() if path.name[0] != "." and is_folder(path)]
        known += suggestions if where == folder.name else ()
        raise UnknownNameError("folder", folder.name, known, f"(looked in {folder.parent.resolve()})")
    if not folder.is_dir():
        raise DataError(f"{where}: is a file; a folder of images or texts is expected here, or a table")


def read_folder(where: str, wanted: Wanted) -> Samples:
    """Read a local folder: all its images (of one with ``images/`` and masks, those), or a folder per class.

    Or all its texts, one a file.

    Raises:
        DataError: Labels are wanted and there are no subfolders.
    """
    check_folder(where)
    root = Path(where).expanduser()
    found = sorted(
        folder_rows(where if wanted.labeled or not wanted.images else unlabeled_root(where), wanted.modality),
        key=lambda each: (isinstance(each, Row), getattr(each, "id", "")),
    )
    if not wanted.labeled:
        return finish(found, where, labeled=False)
    with reaching(where):
        classes = sorted(printable(child.name) for child in _class_folders(root))
    if not classes:
        raise DataError(_no_classes(where, wanted))
    # Images beside the class folders belong to no class; they are the preview and the logo, not samples.
    return finish((each for each in found if _counts(each)), where, labeled=True, classes=classes)


def read_remote_folder(url: str, wanted: Wanted) -> Samples:
    """Read a remote folder: all its images or texts, or a folder per class.

    Raises:
        DataError: It cannot be reached, or labels are wanted and there are no subfolders.
    """
    root = url if wanted.labeled or not wanted.images else unlabeled_root(url)
    found = sorted(remote_rows(root, wanted.modality), key=lambda each: getattr(each, "id", ""))
    kept = [each for each in found if _counts(each) or not wanted.labeled]
    if found and not kept:
        raise DataError(_no_classes(url, wanted))
    return finish(kept, url, labeled=wanted.labeled)


def _no_classes(where: str, wanted: Wanted) -> str:
    return f"{where}: has no subfolders; labeled {wanted.modality}s are expected in a folder per class"


def check_remote_folder(url: str) -> None:
    """Check that a remote folder is there.

    Raises:
        DataError: It is not, or cannot be reached.
    """
    store, root = connect(url)
    with reaching(url):
        if not store.exists(root):
            raise FileNotFoundError(url)


def _counts(found: Found) -> bool:
    return isinstance(found, Problem) or found.label is not None


def _class_folders(root: Path) -> list[Path]:
    return [child for child in root.iterdir() if not child.name.startswith(".") and is_folder(child)]


def folder_rows(where: str, modality: Modality = "image") -> Iterator[Found]:
    """Yield the images below a local folder, labeled by the first level of subfolders, and what is wrong there.

    Or the texts, which are read.
    """
    root = Path(where).expanduser()
    for each in _walk(root, SUFFIXES[modality]):
        if isinstance(each, Problem):
            yield each
        elif modality == "image":
            yield _row(each, root / each)
        else:
            yield _text_row(each, root / each)


def remote_rows(url: str, modality: Modality = "image") -> Iterator[Found]:
    """Yield the images (or texts) below a remote folder, labeled by the first level of subfolders."""
    store, root = connect(url)
    for relative, place in walk_remote(store, root, url):
        if Path(relative).suffix.lower() in SUFFIXES[modality]:
            yield _row(relative, Piece(place)) if modality == "image" else _text_row(relative, place)


def _row(relative: str, image: ImageSource | None, text: str | None = None) -> Row:
    name = printable(relative)
    return Row(name, image, name.partition("/")[0] if "/" in name else None, text)


def _text_row(relative: str, file: Path | Place) -> Found:
    """Read the text in a file."""
    name = printable(relative)
    try:
        place = local_place(str(file), name) if isinstance(file, Path) else file
        if (place.size or 0) > LARGEST_TEXT:
            return Problem("too large", name, f"{place.size:,} bytes")
        return _row(relative, None, place.read().decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        return Problem("not text", name, f"byte {error.start:,} is not UTF-8")
    except DataError as error:
        return Problem("unreadable", name, str(error))


def index_images(root: str) -> tuple[dict[str, ImageSource], list[Problem]]:
    """Return every image below a folder or URL by its relative path, and what is wrong there."""
    rows = list(remote_rows(root) if is_url(root) else folder_rows(root))
    images = {row.id: row.image for row in rows if isinstance(row, Row) and row.image is not None}
    return images, [each for each in rows if isinstance(each, Problem)]


def _walk(root: Path, suffixes: Collection[str]) -> Iterator[str | Problem]:
    """Yield files with one of some suffixes in a fixed order, as their path below ``root``.

    Each real folder is read once: links to folders are followed after all else, and only to folders not read yet.
    So neither circles nor links across can multiply what is there.
    """
    seen: set[tuple[int, int]] = set()
    waiting, links = [""], list[str]()
    while waiting or links:
        linked = not waiting
        relative = waiting.pop() if waiting else links.pop(0)
        try:
            status = (root / relative).stat()
            if (status.st_dev, status.st_ino) in seen:
                if linked:
                    yield Problem("link", printable(relative), "leads to a folder that is read already")
                continue
            seen.add((status.st_dev, status.st_ino))
            with os.scandir(root / relative) as listing:
                entries = sorted((entry for entry in listing if not entry.name.startswith(".")), key=lambda e: e.name)
        except OSError as error:
            yield Problem("unreadable", printable(relative) or ".", error.strerror or "")
            continue
        below: list[str] = []
        for entry in entries:
            name = f"{relative}/{entry.name}" if relative else entry.name
            try:
                mode = entry.stat().st_mode
            except OSError as error:
                if entry.is_symlink():
                    yield Problem("link", printable(name), f"leads nowhere ({error.strerror})")
                else:
                    kind = "vanished" if isinstance(error, FileNotFoundError) else "unreadable"
                    yield Problem(kind, printable(name), error.strerror or "")
                continue
            if stat.S_ISDIR(mode):
                (links if entry.is_symlink() else below).append(name)
            elif Path(entry.name).suffix.lower() in suffixes:
                if not stat.S_ISREG(mode):
                    yield Problem("special file", printable(name), "is a pipe, a socket or a device")
                elif not os.access(entry.path, os.R_OK):
                    yield Problem("unreadable", printable(name), "no right to read it")
                else:
                    yield name
        waiting += reversed(below)
