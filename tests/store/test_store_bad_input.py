from __future__ import annotations

import errno
import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_stores import GB, NAMES, Heard, Maker, build, finished, holds, opened, python

from tutelage import run as run_module
from tutelage.errors import RunError
from tutelage.store import folder as folder_module
from tutelage.store.budget import MANIFEST, USED, Budget
from tutelage.store.folder import BUILDING, Store

FULL = r"cannot be written \(No space left on device\)"


def full(*_: Any, **__: Any) -> Any:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def full_from(number: int, works: Callable[..., Any]) -> Callable[..., Any]:
    """Return something that works until it is called for this time."""
    calls: list[object] = []

    def call(*arguments: Any, **options: Any) -> Any:
        calls.append(arguments)
        return full() if len(calls) >= number else works(*arguments, **options)

    return call


def files(folder: Path) -> set[str]:
    return {file.name for file in folder.iterdir()}


class HalfWritten(io.FileIO):
    """A file on a disk that is full after 100 bytes."""

    def writelines(self, parts: Any) -> None:
        self.write(b"".join(map(bytes, parts))[:100])
        full()


def on_a_full_disk(monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    if how == "write":
        monkeypatch.setattr(run_module.os, "fdopen", lambda handle, mode: HalfWritten(handle, mode))
    elif how == "fsync":
        monkeypatch.setattr(run_module.os, "fsync", full)
    else:
        monkeypatch.setattr(run_module.tempfile, "mkstemp", full)


@pytest.mark.parametrize("how", ["write", "fsync", "file"])
def test_a_full_disk_is_named_and_leaves_no_half_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    build(opened(tmp_path), Maker(), names=("a",))
    store = opened(tmp_path)
    with monkeypatch.context() as patch:
        on_a_full_disk(patch, how)
        with pytest.raises(RunError, match=rf"b\.safetensors: {FULL}; free space or choose another place"):
            build(store, Maker())
    assert files(store.folder) == {USED, BUILDING, MANIFEST, "a.safetensors"}
    build(opened(tmp_path), make := Maker())
    assert make.made == ["b", "c"]
    assert holds(opened(tmp_path))


@pytest.mark.parametrize(("number", "named", "left"), [(2, "journal", ["c"]), (4, "journal", []), (5, "json", [])])
def test_a_disk_that_is_full_when_a_shard_is_noted_leaves_all_that_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, named: str, left: list[str]
) -> None:
    build(opened(tmp_path), Maker(), names=("a",))
    with monkeypatch.context() as patch:
        patch.setattr(run_module.os, "fsync", full_from(number, os.fsync))
        with pytest.raises(RunError, match=rf"store\.{named}: {FULL}"):
            build(opened(tmp_path), Maker())
    store = opened(tmp_path)
    assert [name for name in NAMES if name not in store] == left
    build(store, make := Maker())
    assert make.made == left
    assert holds(opened(tmp_path))
    assert opened(tmp_path).cost.images == 12


def test_a_full_disk_while_a_shard_is_made_again_leaves_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = finished(tmp_path)
    (store.folder / "b.safetensors").write_bytes(b"damaged")
    with monkeypatch.context() as patch:
        patch.setattr(run_module.os, "fsync", full)
        with pytest.raises(RunError, match="free space"):
            build(opened(tmp_path), Maker())
    build(opened(tmp_path), make := Maker())
    assert make.made == ["b"]


LIMITED = """
import resource, signal, sys
from pathlib import Path
from small_stores import Maker, build, opened
from tutelage.errors import RunError

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
store = opened(Path(sys.argv[1]))
build(store, Maker(), names=("a", "b"))
try:
    build(store, Maker(size=30_000))
except RunError as error:
    print(error)
"""


def test_the_systems_own_limit_is_named_and_leaves_no_half_files(tmp_path: Path) -> None:
    out, errors = python(LIMITED, tmp_path).communicate(timeout=60)
    assert "c.safetensors: cannot be written (File too large); free space" in out, errors
    store = opened(tmp_path)
    assert files(store.folder) == {USED, BUILDING, MANIFEST, "a.safetensors", "b.safetensors"}
    build(store, make := Maker())
    assert make.made == ["c"]


ELSEWHERE = r"; set store\.folder to another place"


@pytest.mark.parametrize("what", ["root", "store", "lock"])
def test_a_store_whose_place_is_taken_is_refused(tmp_path: Path, what: str) -> None:
    root = tmp_path / "root"
    folder = Store(tmp_path / "other", "packs", {}).folder.name
    taken = {"root": root, "store": root / folder, "lock": root / folder / USED}[what]
    taken.parent.mkdir(parents=True, exist_ok=True)
    taken.mkdir() if what == "lock" else taken.touch()
    with pytest.raises(RunError, match=rf"root/{folder}: cannot be written \(.+\){ELSEWHERE}"):
        Store(root, "packs", {})


@pytest.mark.parametrize("target", ["root", "store", "lock"])
def test_a_link_to_nowhere_is_refused_and_not_waited_for(tmp_path: Path, target: str) -> None:
    root = tmp_path / "root"
    folder = Store(tmp_path / "other", "packs", {}).folder.name
    link = {"root": root, "store": root / folder, "lock": root / folder / USED}[target]
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(tmp_path / "gone" / "far")
    with pytest.raises(RunError, match=rf"cannot be written \(.+\){ELSEWHERE}"):
        Store(root, "packs", {})


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS, errno.ENOSPC])
@pytest.mark.parametrize("call", ["mkdir", "open", "utime", "flock"])
def test_what_the_system_refuses_is_said_when_a_store_is_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, number: int
) -> None:
    def refuse(*_: Any, **__: Any) -> Any:
        raise OSError(number, os.strerror(number))

    owner = {"mkdir": Path, "flock": folder_module.fcntl}.get(call, folder_module.os)
    monkeypatch.setattr(owner, call, refuse)
    with pytest.raises(RunError, match=rf"cannot be written \({os.strerror(number)}\){ELSEWHERE}"):
        opened(tmp_path)


def test_a_store_that_was_refused_is_not_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = finished(tmp_path)
    store.close()
    with monkeypatch.context() as patch:
        patch.setattr(folder_module.os, "utime", full)
        with pytest.raises(RunError):
            opened(tmp_path)
    assert Budget(tmp_path, 100).allows(100, keep=tmp_path / "new")
    assert not store.folder.exists()


def test_a_disk_that_is_full_before_the_first_shard_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, opening = opened(tmp_path), Path.open
    monkeypatch.setattr(
        Path, "open", lambda self, *a, **o: full() if self.name == BUILDING else opening(self, *a, **o)
    )
    with pytest.raises(RunError, match=FULL):
        build(store, Maker())


def test_a_store_whose_folder_is_removed_by_hand_while_it_is_built_is_named(tmp_path: Path) -> None:
    store = opened(tmp_path)

    def make(name: str, cost: Any) -> Any:
        for file in store.folder.iterdir():
            file.unlink()
        store.folder.rmdir()
        return {"x": np.zeros(3, np.uint8)}

    with pytest.raises(RunError, match=r"a\.safetensors: cannot be written \(No such file"):
        build(store, make)


def test_nothing_is_built_past_the_budget_and_nothing_fails(tmp_path: Path) -> None:
    store = opened(tmp_path)
    spent = build(store, make := Maker(), most=0, heard=(heard := Heard()))
    assert make.made == heard.said == []
    assert spent.images == 0
    build(store, make, most=GB)
    assert make.made == list(NAMES)
