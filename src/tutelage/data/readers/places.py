"""Files here or on a remote store, read the same way, whole or in part."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

from tutelage.data.samples import Stored
from tutelage.errors import DataError, UnknownNameError

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")


def is_url(where: str) -> bool:
    """Return whether ``where`` names something on a store that fsspec reads."""
    return _URL.match(where) is not None


def is_there(path: str | Path) -> bool:
    """Return whether a path of this machine leads to something; one that no file could have does not."""
    try:
        return Path(path).exists()
    except OSError:  # too long a name, or a folder on the way that may not be entered
        return False


def is_folder(path: str | Path) -> bool:
    """Return whether a path of this machine leads to a folder."""
    return is_there(path) and Path(path).is_dir()


def suffix_of(where: str) -> str:
    """Return the suffix of a path or URL in lower case; a web address may end in a query."""
    path = where.partition("?")[0] if where.startswith(("http://", "https://")) else where
    return Path(path).suffix.lower()


@dataclass(frozen=True, slots=True)
class Place:
    """A file here, or on a store.

    Attributes:
        name: The file as a user would write it.
        path: Where the store finds it.
        tag: Its size and time, or the store's entity tag.
        store: fsspec's file system; ``None`` for this machine's own.
        size: Bytes, or ``None`` where nobody says.
    """

    name: str
    path: str
    tag: str = ""
    store: Any = None
    size: int | None = None

    def open(self) -> BinaryIO:
        """Open it to read.

        Raises:
            DataError: It cannot be opened.
        """
        with reaching(self.name):
            return cast("BinaryIO", Path(self.path).open("rb") if self.store is None else self.store.open(self.path))

    def read(self, start: int = 0, size: int | None = None) -> bytes:
        """Return ``size`` bytes from ``start`` on, or all.

        Raises:
            DataError: They cannot be read, or are not there any more.
        """
        with reaching(self.name):
            if size is None:
                return Path(self.path).read_bytes() if self.store is None else bytes(self.store.cat_file(self.path))
            if self.store is not None:
                found = bytes(self.store.cat_file(self.path, start=start, end=start + size)) if size else b""
                if len(found) == self.size:  # a web server that knows no ranges sends all
                    found = found[start : start + size]
            else:
                # Opened for each piece: thousands of shards would outnumber the files a process may hold open.
                handle = os.open(self.path, os.O_RDONLY)
                try:
                    found = os.pread(handle, size, start)
                finally:
                    os.close(handle)
        if len(found) != size:
            raise DataError(f"{self.name}: gave {len(found):,} of {size:,} bytes at {start:,}; was it changed?")
        return found


class Piece(Stored):
    """An image that is a remote file, or a stretch of bytes of a file.

    Args:
        place: The file.
        name: The image's name in it; empty when it is the file.
        start: Where it begins.
        size: Its bytes; ``None`` for the whole file.
    """

    def __init__(self, place: Place, name: str = "", start: int = 0, size: int | None = None) -> None:
        self.place, self.name, self.start, self.size = place, name, start, size

    def __str__(self) -> str:
        return f"{self.place.name}: {self.name}" if self.name else self.place.name

    def read(self) -> bytes:
        """Return the encoded image."""
        return self.place.read(self.start, self.size)

    def stamp(self) -> str:
        """Return the file's tag, and where in it the image lies."""
        return f"{self.place.tag},{self.start},{self.size}"


@contextmanager
def reaching(name: str) -> Iterator[None]:
    """Turn what goes wrong on the way to a file into one kind of error that names it.

    Raises:
        DataError: Anything went wrong.
    """
    try:
        yield
    except DataError:
        raise
    except FileNotFoundError as error:
        raise DataError(f"{name}: is not there (any more)") from error
    except Exception as error:  # each store's driver has exceptions of its own
        reason = getattr(error, "strerror", None) or next(iter(str(error).splitlines()), "") or type(error).__name__
        raise DataError(f"{name}: cannot be read ({reason}); check its rights and the connection") from error


def connect(url: str) -> tuple[Any, str]:
    """Return fsspec's file system for a URL, and the path in it.

    Raises:
        DataError: The driver of such stores is not installed.
        UnknownNameError: fsspec knows no such stores.
    """
    from fsspec import available_protocols
    from fsspec.core import url_to_fs

    protocol = url.partition("://")[0]
    if "::" in url:
        raise DataError(f"{url}: chained URLs are not read; copy what is in the archive to a folder")
    if protocol not in available_protocols():
        raise UnknownNameError("kind of store", protocol, available_protocols(), f"in {url!r}")
    try:
        with reaching(url):
            store, path = url_to_fs(url)
            return store, str(path).rstrip("/")
    except DataError as error:
        if not isinstance(error.__cause__, ImportError):
            raise
        command = "pip install 'tutelage[s3]'" if protocol in ("s3", "s3a") else str(error.__cause__)
        raise DataError(f"{url}: the driver for {protocol}:// is not installed; {command}") from error


def find_place(where: str) -> Place:
    """Return the file named by a path or URL.

    Raises:
        DataError: It is not there, or is no file.
        UnknownNameError: It is not there; names the close ones.
    """
    if is_url(where):
        store, path = connect(where)
        with reaching(where):
            store.invalidate_cache()
            return remote_place(store, store.info(path), where)
    path = str(Path(where).expanduser())
    if not is_there(path):
        folder = Path(path).parent
        if not is_folder(folder):
            raise DataError(f"{where}: no such file, nor is there {folder}")
        known = [each.name for each in folder.iterdir() if each.is_file() and each.name[0] != "."]
        raise UnknownNameError("file", Path(path).name, known, f"(looked in {folder.resolve()})")
    if not Path(path).is_file():
        raise DataError(f"{where}: is not a file")
    return local_place(path, where)


def local_place(path: str, name: str) -> Place:
    """Return a file of this machine with its size and time."""
    with reaching(name):
        status = Path(path).stat()
    return Place(name, path, f"{status.st_size},{status.st_mtime_ns}", None, status.st_size)


def remote_place(store: Any, info: Mapping[str, Any], name: str) -> Place:
    """Return a remote file with what its store's listing says of it."""
    size = info.get("size")
    for key in ("ETag", "etag", "LastModified", "last_modified", "updated", "mtime", "created"):
        if info.get(key):
            return Place(name, info["name"], f"{size},{info[key]}", store, size)
    return Place(name, info["name"], f"{size},{info['name']}", store, size)


def walk_remote(store: Any, root: str, url: str) -> Iterator[tuple[str, Place]]:
    """Yield every file below a remote folder, in a fixed order, as its relative path and place; none that are hidden.

    Folders are listed one at a time, so that memory holds a folder's listing and not the collection's.

    Raises:
        DataError: A folder cannot be listed.
    """
    store.invalidate_cache()  # what an earlier reading saw may be long gone
    waiting = [root]
    seen = {root}
    while waiting:
        folder = waiting.pop()
        with reaching(url):
            listing = store.ls(folder, detail=True)
        entries = {str(info["name"]).rstrip("/"): info for info in listing}
        inside = {name: info for name, info in entries.items() if name.startswith(f"{root}/" if root else "")}
        below = []
        for name in sorted(inside):
            relative = name[len(root) :].lstrip("/")
            if name in seen or relative.rpartition("/")[2].startswith("."):
                continue
            if inside[name]["type"] == "directory":
                seen.add(name)
                below.append(name)
            elif not str(inside[name]["name"]).endswith("/"):  # a mark that S3 browsers leave for a folder
                yield relative, remote_place(store, inside[name], f"{url.rstrip('/')}/{relative}")
        waiting += reversed(below)
