from __future__ import annotations

import fcntl
import os
import shutil
import threading
from collections import namedtuple
from pathlib import Path
from typing import Any

import pytest
from small_stores import NAMES, Heard, Maker, build, finished, holds, opened, python

from tutelage.store import budget as budget_module
from tutelage.store import folder as folder_module
from tutelage.store.budget import LEFT_FREE, MANIFEST, USED, Budget
from tutelage.store.folder import Store

Usage = namedtuple("Usage", "total used free")


def used_at(root: Path, seconds: int, **identity: object) -> Path:
    """Make a store that nobody has open, last used at a time."""
    store = finished(root, **identity)
    store.close()
    os.utime(store.folder / USED, (seconds, seconds))
    return store.folder


def bytes_of(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.iterdir())


@pytest.fixture
def three(tmp_path: Path) -> list[Path]:
    """Three unused stores, the longest unused in the middle, and then the first."""
    return [used_at(tmp_path, seconds, number=number) for number, seconds in enumerate((2000, 1000, 3000))]


def there(stores: list[Path]) -> list[bool]:
    return [store.exists() for store in stores]


def test_what_fits_is_allowed_and_removes_nothing(tmp_path: Path, three: list[Path]) -> None:
    store = opened(tmp_path)
    most = sum(map(bytes_of, three)) + 100
    assert Budget(tmp_path, most).allows(100, keep=store.folder)
    assert there(three) == [True, True, True]


@pytest.mark.parametrize(("lacking", "left"), [(1, [True, False, True]), (2, [False, False, True])])
def test_the_longest_unused_stores_make_room(
    tmp_path: Path, three: list[Path], lacking: int, left: list[bool]
) -> None:
    store = opened(tmp_path)
    most = sum(map(bytes_of, three)) + 100 - (1 if lacking == 1 else bytes_of(three[1]) + 1)
    assert Budget(tmp_path, most).allows(100, keep=store.folder)
    assert there(three) == left


def test_opening_a_store_is_using_it(tmp_path: Path, three: list[Path]) -> None:
    opened(tmp_path, number=1).close()
    store = opened(tmp_path)
    assert Budget(tmp_path, sum(map(bytes_of, three)) + 99).allows(100, keep=store.folder)
    assert there(three) == [False, True, True]


def test_a_store_that_is_open_is_never_removed(tmp_path: Path, three: list[Path]) -> None:
    in_use = opened(tmp_path, number=1)
    os.utime(three[1] / USED, (1, 1))
    store = opened(tmp_path)
    assert Budget(tmp_path, sum(map(bytes_of, three)) + 99).allows(100, keep=store.folder)
    assert there(three) == [False, True, True]
    assert holds(in_use)


def test_a_store_that_another_process_has_open_is_never_removed(tmp_path: Path, three: list[Path]) -> None:
    script = "import sys; from pathlib import Path; from small_stores import opened\n"
    script += "store = opened(Path(sys.argv[1]), number=1); print('open', flush=True); sys.stdin.readline()"
    process = python(script, tmp_path)
    assert process.stdout.readline() == "open\n"
    store = opened(tmp_path)
    most = bytes_of(three[1]) + 99
    assert not Budget(tmp_path, most).allows(100, keep=store.folder)
    assert there(three) == [False, True, False]
    process.communicate("\n", timeout=60)
    assert Budget(tmp_path, most).allows(100, keep=store.folder)
    assert there(three) == [False, False, False]


def test_the_store_that_the_room_is_for_is_never_removed(tmp_path: Path, three: list[Path]) -> None:
    # Not even if its builder forgot to keep it open.
    assert Budget(tmp_path, bytes_of(three[1]) + 100).allows(100, keep=three[1])
    assert there(three) == [False, True, False]


def test_nothing_is_removed_for_what_cannot_fit_anyway(tmp_path: Path, three: list[Path]) -> None:
    store = finished(tmp_path)
    most = bytes_of(store.folder) + bytes_of(three[0]) + 100
    assert not Budget(tmp_path, most).allows(most + 1, keep=store.folder)
    assert not Budget(tmp_path, most).allows(most - bytes_of(store.folder) + 1, keep=store.folder)
    assert there(three) == [True, True, True]


@pytest.mark.parametrize(("size", "allowed"), [(100, True), (101, False)])
def test_the_budget_is_kept_to_the_byte(tmp_path: Path, size: int, allowed: bool) -> None:
    store = finished(tmp_path)
    assert Budget(tmp_path, bytes_of(store.folder) + 100).allows(size, keep=store.folder) is allowed


def test_no_budget_allows_nothing(tmp_path: Path) -> None:
    assert not Budget(tmp_path, 0).allows(1, keep=opened(tmp_path).folder)


@pytest.mark.parametrize(("free", "allowed"), [(LEFT_FREE + 100, True), (LEFT_FREE + 99, False)])
def test_the_disk_is_left_some_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int, allowed: bool
) -> None:
    store = opened(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(free, 0, free))
    assert Budget(tmp_path, 10**12).allows(100, keep=store.folder) is allowed


def test_unused_stores_make_room_on_a_full_disk(
    tmp_path: Path, three: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    store = opened(tmp_path)
    monkeypatch.setattr(
        shutil, "disk_usage", lambda path: Usage(0, 0, LEFT_FREE + 100 * (3 - sum(there(three))) - 100)
    )
    assert Budget(tmp_path, 10**12).allows(100, keep=store.folder)
    assert there(three) == [False, False, True]


def test_a_build_stops_where_its_budget_ends(tmp_path: Path) -> None:
    shard = finished(tmp_path / "one", 60_000).nbytes // 3
    store = opened(tmp_path / "two")
    build(store, make := Maker(60_000), most=5 * shard // 2, room=lambda name: shard)
    assert make.made == ["a", "b"]
    assert holds(opened(tmp_path / "two"), ["a", "b"], 60_000)
    assert "c" not in store


def test_what_others_write_meanwhile_counts(tmp_path: Path) -> None:
    store = opened(tmp_path)
    budget = Budget(tmp_path, 3000)
    assert budget.allows(2000, keep=store.folder)
    other = finished(tmp_path, teacher="u")
    assert bytes_of(other.folder) > 1000
    assert not budget.allows(2000, keep=store.folder)


def test_a_file_that_goes_while_it_is_counted_hides_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Another builder's temporary file is there when the folder is listed, and has its name when it is looked at.
    store = finished(tmp_path)
    iterdir = Path.iterdir
    monkeypatch.setattr(
        Path, "iterdir", lambda self: iter([*([self / ".gone"] if self == store.folder else []), *iterdir(self)])
    )
    assert not Budget(tmp_path, store.nbytes).allows(1, keep=tmp_path / "new")


def test_only_stores_are_removed(tmp_path: Path, three: list[Path]) -> None:
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "keep.txt").write_text("x" * 10_000)
    (tmp_path / "keep.txt").write_text("x" * 10_000)
    store = opened(tmp_path)
    assert Budget(tmp_path, 150).allows(100, keep=store.folder)
    assert there(three) == [False, False, False]
    assert {path.name for path in tmp_path.iterdir()} == {"notes", "keep.txt", store.folder.name}


def test_leftovers_of_killed_builds_go_with_their_store(tmp_path: Path, three: list[Path]) -> None:
    (three[1] / ".a.safetensors.x1y2").write_bytes(bytes(1000))
    store = opened(tmp_path)
    assert Budget(tmp_path, sum(map(bytes_of, three)) + 99).allows(100, keep=store.folder)
    assert there(three) == [True, False, True]


def test_a_store_that_was_removed_is_built_anew(tmp_path: Path, three: list[Path]) -> None:
    Budget(tmp_path, 10).allows(1, keep=tmp_path / "new")
    store = opened(tmp_path, number=1)
    assert not any(name in store for name in NAMES)
    build(store, make := Maker())
    assert make.made == list(NAMES)


def test_a_removal_that_is_cut_short_leaves_nothing_that_looks_whole(
    tmp_path: Path, three: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    unlink = Path.unlink

    def cut(self: Path, missing_ok: bool = False) -> None:
        if self.name == "b.safetensors":
            raise KeyboardInterrupt
        unlink(self, missing_ok)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", cut)
        with pytest.raises(KeyboardInterrupt):
            Budget(tmp_path, 10).allows(1, keep=tmp_path / "new")
    (cut_short,) = (store for store in three if not (store / MANIFEST).exists())
    assert (cut_short / USED).exists()  # so that it counts, and goes next time
    assert Budget(tmp_path, 10).allows(1, keep=tmp_path / "new")
    assert there(three) == [False, False, False]


def _interleaved(monkeypatch: pytest.MonkeyPatch, meanwhile: Any) -> None:
    """Let something happen once between opening a lock's file and locking it."""
    flock, todo = fcntl.flock, [meanwhile]

    def locking(file: Any, how: int) -> None:
        if todo:
            todo.pop()()
        flock(file, how)

    monkeypatch.setattr(budget_module.fcntl, "flock", locking)


def test_a_store_that_is_made_again_while_it_is_to_be_removed_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Another process removes it first, and a third builds it anew.
    old, new = used_at(tmp_path, 1000), []

    def meanwhile() -> None:
        shutil.rmtree(old)
        new.append(finished(tmp_path))

    _interleaved(monkeypatch, meanwhile)
    assert not Budget(tmp_path, 100).allows(1, keep=tmp_path / "new")
    assert holds(new[0])
    assert holds(opened(tmp_path))


def test_a_store_that_is_removed_twice_is_gone(
    tmp_path: Path, three: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    _interleaved(monkeypatch, lambda: Budget(tmp_path, 10).allows(1, keep=tmp_path / "new"))
    assert Budget(tmp_path, 10).allows(1, keep=tmp_path / "new")
    assert there(three) == [False, False, False]


@pytest.mark.parametrize("again", [False, True])
def test_a_store_that_is_removed_while_it_is_opened_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, again: bool
) -> None:
    old = used_at(tmp_path, 1000)

    def meanwhile() -> None:
        shutil.rmtree(old)
        if again:
            used_at(tmp_path, 1000)

    _interleaved(monkeypatch, meanwhile)
    store = opened(tmp_path)
    assert all((name in store) is again for name in NAMES)
    build(store, Maker())
    assert not Budget(tmp_path, 100).allows(1, keep=tmp_path / "new")  # it is held
    assert holds(store)


def test_a_store_that_is_removed_before_its_lock_is_made_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = os.open, []

    def opening(path: Any, *arguments: Any) -> int:
        if Path(path).name == USED and not calls:
            calls.append(path)
            Path(path).parent.rmdir()
        return real(path, *arguments)

    monkeypatch.setattr(folder_module.os, "open", opening)
    store = opened(tmp_path)
    assert calls
    build(store, Maker())
    assert holds(store)


def test_stores_may_be_opened_and_removed_at_once(tmp_path: Path) -> None:
    # Every thread that has a store open finds it whole, whatever the others remove.
    failures: list[BaseException] = []
    stopped = threading.Event()

    def use() -> None:
        try:
            for _ in range(40):
                store = opened(tmp_path)
                build(store, Maker(), names=("a",))
                assert holds(store, ("a",))
                store.close()
        except BaseException as error:
            failures.append(error)

    def remove() -> None:
        try:
            while not stopped.is_set():
                Budget(tmp_path, 10).allows(1, keep=tmp_path / "new")
        except BaseException as error:
            failures.append(error)

    users, removers = ([threading.Thread(target=work) for _ in range(2)] for work in (use, remove))
    for thread in (*users, *removers):
        thread.start()
    for thread in users:
        thread.join()
    stopped.set()
    for thread in removers:
        thread.join()
    assert failures == []


def test_a_build_makes_room_for_itself(tmp_path: Path, three: list[Path]) -> None:
    store = opened(tmp_path)
    most = sum(map(bytes_of, three)) + 1500
    build(store, Maker(), names=("a",), most=most, heard=(heard := Heard()))
    assert there(three) == [True, True, True]
    build(store, Maker(), most=most)
    assert holds(store)
    assert there(three)[1] is False
    assert bytes_of(store.folder) + sum(map(bytes_of, filter(Path.exists, three))) <= most
    assert heard.said == []


def test_an_unreadable_store_of_another_user_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Root may look into everything, so refuse it here.
    other, stat = finished(tmp_path, teacher="u").folder, Path.stat

    def refused(self: Path, **options: Any) -> os.stat_result:
        if self.parent == other:
            raise PermissionError(13, "Permission denied", str(self))
        return stat(self, **options)

    monkeypatch.setattr(Path, "stat", refused)
    assert Budget(tmp_path, 1000).allows(100, keep=Store(tmp_path, "packs", {}).folder)
    monkeypatch.undo()
    assert other.exists()


def test_files_are_counted_anew_only_when_a_share_of_what_was_left_may_be_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted: list[Path] = []
    real = budget_module._stores
    monkeypatch.setattr(budget_module, "_stores", lambda root: counted.append(root) or real(root))
    store = opened(tmp_path)
    budget = Budget(tmp_path, bytes_of(store.folder) + 1000 + 100)
    assert budget.allows(100, keep=store.folder)
    counts = len(counted)
    assert budget.allows(100, keep=store.folder)
    assert len(counted) == counts
    assert budget.allows(100, keep=store.folder)
    assert len(counted) > counts
