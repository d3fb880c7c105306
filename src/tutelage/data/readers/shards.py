"""WebDataset shards: tar archives whose members are grouped by name, indexed once and read in place."""

from __future__ import annotations

import glob
import itertools
import json
import posixpath
import re
import tarfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from tutelage.data.pixels import IMAGE_SUFFIXES
from tutelage.data.problems import Problem
from tutelage.data.readers.places import (
    Piece,
    Place,
    connect,
    find_place,
    is_folder,
    is_there,
    is_url,
    reaching,
    suffix_of,
)
from tutelage.data.readers.rows import Found, Row, Wanted, class_name, finish, printable
from tutelage.data.samples import Samples
from tutelage.errors import DataError

COMPRESSED = (".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".tar.zst")

LARGEST_NOTE = 1 << 20
"""Bytes of a label, a text or a JSON beyond which it is no such thing."""

MOST_SHARDS = 1_000_000
"""Archives that one range may name; more is a slip of the finger, and would fill the memory with names."""

_BRACES = re.compile(r"\{([^{}]*)\}")
_RANGE = re.compile(r"(\d+)\.\.(\d+)")
_END = bytes(tarfile.BLOCKSIZE)


def is_shards(where: str) -> bool:
    """Return whether a name means tar shards, by its suffix."""
    return suffix_of(where) == ".tar" or where.partition("?")[0].lower().endswith(COMPRESSED)


def holds_only_shards(where: str) -> bool:
    """Return whether a folder holds tars and neither images nor subfolders."""
    names = []
    if is_url(where):
        store, root = connect(where)
        with reaching(where):
            store.invalidate_cache()
            listing = store.ls(root, detail=True) if store.exists(root) else []
        entries = ((str(info["name"]), info["type"] == "directory") for info in listing)
    else:
        with reaching(where):
            children = list(Path(where).expanduser().iterdir())
        entries = ((child.name, is_folder(child)) for child in children)
    for name, below in entries:
        if PurePosixPath(name).name.startswith("."):
            continue
        if below or Path(name).suffix.lower() in IMAGE_SUFFIXES:
            return False
        names.append(name)
    return any(name.lower().endswith(".tar") for name in names)


def read_shards(where: str, wanted: Wanted) -> Samples:
    """Read the shards that a path, a pattern or a folder names.

    Raises:
        DataError: There are none, they are compressed, or labels are wanted and they hold none.
    """
    found = shard_rows(expand(where), wanted)
    return finish(found, where, labeled=wanted.labeled, remedy="labels are members .cls, or label in .json")


def check_shards(where: str) -> None:
    """Check that the first and the last shard are there.

    Raises:
        DataError: One is not, or they are compressed.
    """
    names = expand(where)
    for name in {names[0], names[-1]}:
        find_place(name)


def expand(where: str, ending: str = ".tar") -> list[str]:
    """Return the shards that a path, a pattern (``{000..009}``, ``{a,b}``, ``*``) or a folder names.

    Args:
        where: The path or pattern.
        ending: Of shards in a folder.

    Raises:
        DataError: There are none, or they are compressed.
    """
    if where.lower().endswith(COMPRESSED):
        raise DataError(
            f"{where}: compressed archives cannot be read in place; unpack it to .tar (gunzip) or a folder"
        )
    names = sorted(itertools.chain.from_iterable(_matches(name, ending) for name in _braces(where)))
    if not names:
        raise DataError(f"{where}: no shard has such a name; expected files ending in {ending}")
    return names


def short_names(names: Sequence[str]) -> list[str]:
    """Return the names of shards without their folder, or without what is common to several folders."""
    bases = [PurePosixPath(name).name for name in names]
    if len(set(bases)) < len(bases):  # shards of one name in several folders
        shared = len(posixpath.commonpath(names))
        bases = [name[shared:].lstrip("/") for name in names]
    return bases


def _braces(pattern: str) -> Iterator[str]:
    match = _BRACES.search(pattern)
    if not match:
        yield pattern
        return
    span = _RANGE.fullmatch(match[1])
    choices: Iterable[str] = match[1].split(",")
    if span:
        first, last = int(span[1]), int(span[2])
        if last - first >= MOST_SHARDS:
            raise DataError(f"{pattern}: names more than {MOST_SHARDS:,} shards; is the range mistyped?")
        choices = (f"{number:0{len(span[1])}d}" for number in range(first, last + 1))
    for choice in choices:
        yield from _braces(pattern[: match.start()] + choice + pattern[match.end() :])


def _matches(name: str, ending: str) -> list[str]:
    if is_url(name):
        store, path = connect(name)
        with reaching(name):
            store.invalidate_cache()
            if suffix_of(name) != ending and not is_shards(name):
                path = f"{path}/*{ending}"
            return [store.unstrip_protocol(each) for each in store.glob(path)] if "*" in path else [name]
    path = str(Path(name).expanduser())
    if is_folder(path):
        return [str(each) for each in Path(path).glob(f"*{ending}")]
    return [path] if is_there(path) or not glob.has_magic(path) else glob.glob(path)  # noqa: PTH207 (whole paths)


@dataclass
class _Group:
    """The members of one key: where its image lies, and its notes."""

    key: str
    image: tuple[str, int, int] | None = None
    notes: dict[str, bytes] = field(default_factory=dict)


def shard_rows(names: Sequence[str], wanted: Wanted, *, shard: int = 0, shards: int = 1) -> Iterator[Found]:
    """Yield the samples of every ``shards``-th of the named archives in order, and what is wrong with them.

    Texts are members .txt, or in those in .json under text or caption; second texts there under text_pair. Ids are
    ``ARCHIVE/KEY``. What a broken archive holds before it breaks is kept.

    Raises:
        DataError: An archive is missing or is no tar, or a label that is wanted names no class.
    """
    for name, base in list(zip(names, short_names(names), strict=True))[shard::shards]:
        yield from _archive_rows(find_place(name), base, wanted)


def _archive_rows(place: Place, archive: str, wanted: Wanted) -> Iterator[Found]:
    group: _Group | None = None
    with place.open() as file, reaching(place.name):
        for each in _members(file, place, archive):
            if isinstance(each, Problem):
                yield each
                continue
            folder, _, base = each.name.rpartition("/")
            stem, _, ending = base.partition(".")
            key = f"{folder}/{stem}" if folder else stem
            if group is None or group.key != key:
                if group is not None:
                    yield _row(group, place, archive, wanted)
                group = _Group(key)
            ending = f".{ending.lower()}"
            if ending in IMAGE_SUFFIXES and group.image is None:
                group.image = (each.name, each.offset_data, each.size)
            elif ending in (".cls", ".json", ".txt") and each.size <= LARGEST_NOTE:
                file.seek(each.offset_data)
                group.notes[ending] = file.read(each.size)
    if group is not None:
        yield _row(group, place, archive, wanted)


def _row(group: _Group, place: Place, archive: str, wanted: Wanted) -> Found:
    key = printable(f"{archive}/{group.key}")
    if wanted.images and group.image is None:
        return Problem("no image", key, f"has only {', '.join(sorted(group.notes)) or 'other members'}")
    try:
        notes: Any = json.loads(group.notes.get(".json", b"{}"))
        told = notes if isinstance(notes, dict) else {}
        texts = {kind: group.notes[kind].decode() for kind in (".cls", ".txt") if kind in group.notes}
    except ValueError as error:
        return Problem("damaged", key, f"its notes are no UTF-8 text or JSON ({error})")
    label = (
        class_name(texts.get(".cls", told.get(wanted.columns.get("label", "label"))), key) if wanted.labeled else None
    )
    image = None
    if wanted.images and group.image is not None:
        name, start, size = group.image
        image = Piece(place, printable(name), start, size)
    if not wanted.texts:
        return Row(key, image, label)
    text = texts.get(".txt", told.get(wanted.columns.get("text", "text"), told.get("caption")))
    second = told.get(wanted.columns.get("text_pair", "text_pair"))
    return Row(key, image, label, "" if text is None else str(text), None, None if second is None else str(second))


def _members(file: BinaryIO, place: Place, base: str) -> Iterator[tarfile.TarInfo | Problem]:
    try:
        archive = tarfile.open(fileobj=file, mode="r:", errorlevel=0)  # noqa: SIM115 (the caller closes file)
    except tarfile.ReadError as error:
        if place.size == 0:
            yield Problem("empty file", base)
            return
        raise DataError(f"{place.name}: is no tar archive, or a compressed one; give plain .tar files") from error
    reason = ""
    try:
        while (member := archive.next()) is not None:
            del vars(archive)["members"][:]  # it keeps every header, which is more than the samples themselves
            where = printable(f"{base}/{member.name}")
            parts = PurePosixPath(member.name).parts
            if PurePosixPath(member.name).is_absolute() or ".." in parts:
                yield Problem("unsafe path", where, "leads out of the archive")
            elif member.issym() or member.islnk():
                yield Problem("link", where, f"to {printable(member.linkname)}")
            elif member.isfile() and not member.issparse():
                if place.size is not None and member.offset_data + member.size > place.size:
                    reason = "ends within this member"
                    break
                if not any(part.startswith(".") for part in parts):
                    member.name = "/".join(parts)
                    yield member
            elif not member.isdir():
                yield Problem("special file", where, "is a device, a pipe, or has holes")
    except (tarfile.TarError, ValueError) as error:
        reason = str(error)
    if not reason:
        # tarfile takes a missing or damaged header for the end; a whole archive ends in blocks of zeros.
        file.seek(archive.offset)
        if file.read(tarfile.BLOCKSIZE) != _END:
            reason = "has no end mark"
    if reason:
        yield Problem("truncated", base, f"{reason}, at byte {archive.offset:,}; what comes before is kept")
