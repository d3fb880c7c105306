from __future__ import annotations

import gc
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_stores import NAMES, Heard, Maker, build, content, finished, holds, opened, python

from tutelage.errors import RunError
from tutelage.store import folder as folder_module
from tutelage.store.budget import MANIFEST, USED, Budget
from tutelage.store.folder import BUILDING, Store
from tutelage.store.manifest import SCHEMA
from tutelage.store.shards import write_shard


def files(store: Store) -> set[str]:
    return {file.name for file in store.folder.iterdir()}


def test_a_new_store_has_no_shards(tmp_path: Path) -> None:
    store = opened(tmp_path / "deep" / "root")
    assert not any(name in store for name in NAMES)
    assert store.nbytes == store.cost.seconds == 0
    assert store.found_damaged == []


def test_a_built_store_holds_what_was_made(tmp_path: Path) -> None:
    store = opened(tmp_path)
    build(store, Maker())
    assert holds(store)
    assert "d" not in store


def test_a_finished_store_holds_the_same_when_it_is_opened_again(tmp_path: Path) -> None:
    finished(tmp_path)
    store = opened(tmp_path)
    assert holds(store)
    assert store.nbytes == sum((store.folder / f"{name}.safetensors").stat().st_size for name in NAMES)


def test_a_finished_store_makes_nothing_again(tmp_path: Path) -> None:
    finished(tmp_path)
    make = Maker()
    assert build(opened(tmp_path), make).seconds == 0
    assert make.made == []


def test_shards_are_made_in_order(tmp_path: Path) -> None:
    make = Maker()
    build(opened(tmp_path), make, names=("c", "a", "b"))
    assert make.made == ["c", "a", "b"]


def test_further_shards_are_added_to_those_that_are_there(tmp_path: Path) -> None:
    store = opened(tmp_path)
    build(store, Maker(), names=("a",))
    build(store, make := Maker(), names=("b", "a", "c"))
    assert make.made == ["b", "c"]
    assert holds(opened(tmp_path))


def test_progress_counts_what_was_there_before(tmp_path: Path) -> None:
    build(opened(tmp_path), Maker(), names=("a",))
    build(opened(tmp_path), Maker(), heard=(heard := Heard()))
    assert heard.bars == [[3, 2, 3]]
    assert heard.said == []


@pytest.mark.parametrize("other", [{"teacher": "u"}, {"views": 2}, {"teacher": "t", "crop": [0.1, 1.0]}])
def test_another_identity_is_another_store(tmp_path: Path, other: dict[str, Any]) -> None:
    finished(tmp_path)
    assert not any(name in opened(tmp_path, **other) for name in NAMES)


def test_another_kind_is_another_store(tmp_path: Path) -> None:
    store = finished(tmp_path)
    assert "a" not in Store(tmp_path, "packs", store.identity)


def test_a_build_costs_what_its_shards_cost(tmp_path: Path) -> None:
    spent = build(opened(tmp_path), Maker())
    assert (spent.images, spent.flops) == (12, 300.0)
    assert spent.seconds > 0


def test_costs_add_up_over_builders(tmp_path: Path) -> None:
    parts = [build(opened(tmp_path), Maker(), names=names) for names in (("a",), ("a", "b", "c"))]
    cost = opened(tmp_path).cost
    assert cost.images == 12
    assert cost.flops == 300.0
    assert cost.seconds == pytest.approx(sum(part.seconds for part in parts))


def test_what_was_made_twice_cost_twice(tmp_path: Path) -> None:
    store = finished(tmp_path)
    (store.folder / "b.safetensors").unlink()
    assert build(opened(tmp_path), Maker()).images == 4
    assert opened(tmp_path).cost.images == 16


def test_the_manifest_says_what_the_store_is(tmp_path: Path) -> None:
    store = finished(tmp_path)
    manifest = json.loads((store.folder / MANIFEST).read_text())
    assert manifest["identity"] == {"teacher": "t"}
    assert manifest["kind"] == "targets"
    assert list(manifest["shards"]) == list(NAMES)


def rebuilt(root: Path) -> tuple[list[str], list[str]]:
    """Build, check that all is well, and return what was made and what was said."""
    store = opened(root)
    build(store, make := Maker(), heard=(heard := Heard()))
    assert holds(store)
    assert holds(opened(root))
    return make.made, heard.said


def _flip(path: Path) -> None:
    damaged = bytearray(path.read_bytes())
    damaged[-1] ^= 1
    path.write_bytes(damaged)


def _flip_and_keep_the_size_and_most_of_the_time(path: Path) -> None:
    status = path.stat()
    _flip(path)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1))


def _cut_and_keep_the_time(path: Path) -> None:
    status = path.stat()
    os.truncate(path, status.st_size - 1)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def _another_stores(path: Path) -> None:
    other = finished(path.parents[1] / "elsewhere", teacher="u")
    shutil.copy(other.folder / path.name, path)


def _another_names(path: Path) -> None:
    shutil.copy(path.with_name("a.safetensors"), path)


def _other_values(path: Path) -> None:
    store = opened(path.parents[1])
    write_shard(path, content("z"), {"store": store._fingerprint, "name": path.stem})


DAMAGE: dict[str, Callable[[Path], object]] = {
    "removed": Path.unlink,
    "emptied": lambda path: path.write_bytes(b""),
    "cut short": lambda path: os.truncate(path, 300),
    "cut short, same time": _cut_and_keep_the_time,
    "longer": lambda path: path.write_bytes(path.read_bytes() + b"\0"),
    "a flipped bit": _flip,
    "a flipped bit, nearly the same time": _flip_and_keep_the_size_and_most_of_the_time,
    "zeros": lambda path: path.write_bytes(bytes(path.stat().st_size)),
    "another store's": _another_stores,
    "another shard's": _another_names,
    "other values under its name": _other_values,
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_shard_is_noticed_said_and_made_again_alone(
    tmp_path: Path, damage: Callable[[Path], object]
) -> None:
    store = finished(tmp_path)
    damage(store.folder / "b.safetensors")
    found = opened(tmp_path)
    assert [name in found for name in NAMES] == [True, False, True]
    assert found.found_damaged == ["b"]
    made, said = rebuilt(tmp_path)
    assert made == ["b"]
    assert said == [f"{store.folder}: 1 damaged shards are made again"]


def test_a_shard_that_was_made_again_is_no_longer_damaged(tmp_path: Path) -> None:
    store = finished(tmp_path)
    _flip(store.folder / "b.safetensors")
    rebuilt(tmp_path)
    assert opened(tmp_path).found_damaged == []
    assert rebuilt(tmp_path) == ([], [])


def test_a_shard_that_was_touched_and_is_the_same_is_taken(tmp_path: Path) -> None:
    store = finished(tmp_path)
    (store.folder / "b.safetensors").touch()
    assert rebuilt(tmp_path) == ([], [])


def test_a_store_that_was_copied_to_another_place_is_taken(tmp_path: Path) -> None:
    store = finished(tmp_path / "one")
    shutil.copytree(store.folder, tmp_path / "two" / store.folder.name, copy_function=shutil.copyfile)
    assert rebuilt(tmp_path / "two") == ([], [])


def test_content_is_read_once_when_something_touched_it_and_else_never(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = finished(tmp_path)
    asked: list[object] = []
    real = folder_module.checksum
    monkeypatch.setattr(folder_module, "checksum", lambda arrays: asked.append(arrays) or real(arrays))
    opened(tmp_path)
    assert asked == []
    (store.folder / "b.safetensors").touch()
    for _ in range(3):
        assert holds(opened(tmp_path))
    assert len(asked) == 1


def test_a_shard_that_goes_while_the_store_is_open_is_named(tmp_path: Path) -> None:
    store = finished(tmp_path)
    (store.folder / "b.safetensors").unlink()
    with pytest.raises(RunError, match=r"b\.safetensors.*it was whole before\. The same command makes it again"):
        store.shard("b")


MANIFESTS: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda content: b"",
    "half": lambda content: content[: len(content) // 2],
    "no text": lambda content: b"\xff\xfe\x00",
    "a list": lambda content: b"[]",
    "a number": lambda content: b"3",
    "nothing": lambda content: b"null",
    "empty object": lambda content: b"{}",
    "nested deeply": lambda content: b"[" * 100_000,
    "shards as a list": lambda content: json.dumps({**json.loads(content), "shards": [1]}).encode(),
    "cost of another form": lambda content: json.dumps({**json.loads(content), "cost": {"euros": 3}}).encode(),
    "schema as text": lambda content: json.dumps({**json.loads(content), "schema": "one"}).encode(),
    "another fingerprint": lambda content: json.dumps({**json.loads(content), "fingerprint": "0" * 64}).encode(),
    "no fingerprint": lambda content: content.replace(b"fingerprint", b"fingerprynt"),
    "a size of another name": lambda content: content.replace(b'"bytes"', b'"bytez"'),
    "a checksum of another name": lambda content: content.replace(b'"checksum"', b'"checksun"'),
    "another shard's name": lambda content: content.replace(b'"b"', b'"d"'),
    "another cost": lambda content: content.replace(b'"images": 12', b'"images": 13'),
}


@pytest.mark.parametrize("change", MANIFESTS.values(), ids=MANIFESTS)
def test_a_damaged_manifest_means_that_nothing_is_finished(tmp_path: Path, change: Callable[[bytes], bytes]) -> None:
    manifest = finished(tmp_path).folder / MANIFEST
    before = manifest.read_bytes()
    manifest.write_bytes(change(before))
    assert manifest.read_bytes() != before
    assert not any(name in opened(tmp_path) for name in NAMES)
    assert opened(tmp_path).cost.images == 0
    made, said = rebuilt(tmp_path)
    assert made == list(NAMES)
    assert said == [f"{manifest.parent}: 3 damaged shards are made again"]


def test_no_flipped_bit_of_the_manifest_is_taken_for_the_truth(tmp_path: Path) -> None:
    manifest = finished(tmp_path).folder / MANIFEST
    whole = manifest.read_bytes()
    accepted = 0
    for place in range(0, len(whole), 3):
        damaged = bytearray(whole)
        damaged[place] ^= 4
        manifest.write_bytes(damaged)
        try:
            store = opened(tmp_path)
        except RunError as error:
            assert "newer version" in str(error)  # noqa: PT017
            continue
        accepted += "a" in store
        assert store.cost.images in (0, 12)
        assert holds(store, [name for name in NAMES if name in store])
    assert accepted < 20  # in white space at most


def test_without_its_manifest_nothing_is_finished(tmp_path: Path) -> None:
    (finished(tmp_path).folder / MANIFEST).unlink()
    assert rebuilt(tmp_path)[0] == list(NAMES)


def test_a_foreign_store_under_this_ones_name_is_not_used(tmp_path: Path) -> None:
    foreign, own = finished(tmp_path, teacher="u").folder, opened(tmp_path).folder
    shutil.rmtree(own)
    shutil.copytree(foreign, own)
    assert not any(name in opened(tmp_path) for name in NAMES)
    assert rebuilt(tmp_path) == (list(NAMES), [f"{own}: 3 damaged shards are made again"])


def test_a_newer_store_is_left_alone(tmp_path: Path) -> None:
    store = finished(tmp_path)
    path = store.folder / MANIFEST
    path.write_text(json.dumps({**json.loads(path.read_text()), "schema": SCHEMA + 1, "more": []}))
    before = path.read_bytes()
    with pytest.raises(RunError) as raised:
        opened(tmp_path)
    assert str(path) in str(raised.value)
    assert f"(schema {SCHEMA + 1}, known {SCHEMA}); update, or set store.folder" in str(raised.value)
    assert path.read_bytes() == before


@pytest.mark.parametrize("error", [ValueError("broken"), KeyboardInterrupt()])
def test_a_build_that_fails_keeps_its_finished_shards(tmp_path: Path, error: BaseException) -> None:
    store = opened(tmp_path)
    with pytest.raises(type(error)):
        build(store, Maker(fails_at="b", error=error))
    assert files(store) == {USED, BUILDING, MANIFEST, "a.safetensors"}
    assert rebuilt(tmp_path) == (["b", "c"], [])


def test_what_is_not_in_the_manifest_does_not_count(tmp_path: Path) -> None:
    build(opened(tmp_path), Maker(), names=("a",))
    store = opened(tmp_path)
    write_shard(store.folder / "b.safetensors", content("z"), {"store": store._fingerprint, "name": "b"})
    (store.folder / ".c.safetensors.x1y2").write_bytes(b"half of it")
    (store.folder / ".store.json.x1y2").write_bytes(b"{")
    assert rebuilt(tmp_path) == (["b", "c"], [])


KILLED = """
import os, signal, sys
from pathlib import Path
from small_stores import Maker, build, content, opened

def make(name, cost):
    if name == "c":
        store.folder.joinpath(".c.safetensors.half").write_bytes(b"half")
        os.kill(os.getpid(), signal.SIGKILL)
    return content(name)

store = opened(Path(sys.argv[1]))
build(store, make)
"""


def test_a_killed_build_leaves_its_finished_shards_and_no_lock(tmp_path: Path) -> None:
    process = python(KILLED, tmp_path)
    process.communicate(timeout=60)
    assert process.returncode == -9
    store = opened(tmp_path)
    assert [name in store for name in NAMES] == [True, True, False]
    assert rebuilt(tmp_path) == (["c"], [])


BUILDER = """
import os, sys, time
from pathlib import Path
from small_stores import Heard, build, content, holds, opened

root, made = Path(sys.argv[1]), Path(sys.argv[2])
names = [f"{number}" for number in range(6)]

def make(name, cost):
    (made / f"{name}-{os.getpid()}").touch(exist_ok=False)
    cost.images = 4
    while name == "1" and not (made / "go").exists():
        time.sleep(0.01)
    return content(name)

class Loud(Heard):
    def say(self, text):
        print(text, flush=True)

store = opened(root)
print("open", flush=True)
sys.stdin.readline()
build(store, make, names=names, heard=Loud())
assert holds(store, names)
"""


def test_two_processes_build_a_store_together(tmp_path: Path) -> None:
    (made := tmp_path / "made").mkdir()
    first, second = (python(BUILDER, tmp_path, made) for _ in range(2))
    for process in (first, second):
        assert process.stdout.readline() == "open\n"
    print(file=first.stdin, flush=True)
    while not list(made.glob("1-*")):
        assert first.poll() is None
    print(file=second.stdin, flush=True)
    heard = second.stdout.readline()
    (made / "go").touch()
    for process in (first, second):
        out, errors = process.communicate(timeout=60)
        assert (process.returncode, out) == (0, ""), errors
    store = opened(tmp_path)
    assert heard == f"{store.folder}: another process is building this; waiting for it\n"
    assert sorted(file.name for file in made.glob("?-*")) == [f"{number}-{first.pid}" for number in range(6)]
    assert store.cost.images == 24


def test_whoever_waits_for_a_builder_that_dies_goes_on_where_it_stopped(tmp_path: Path) -> None:
    (made := tmp_path / "made").mkdir()
    first, second = (python(BUILDER, tmp_path, made) for _ in range(2))
    for process in (first, second):
        assert process.stdout.readline() == "open\n"
    print(file=first.stdin, flush=True)
    while not list(made.glob("1-*")):
        assert first.poll() is None
    print(file=second.stdin, flush=True)
    assert "waiting" in second.stdout.readline()
    (made / f"1-{first.pid}").unlink()
    first.kill()
    first.communicate(timeout=60)
    (made / "go").touch()
    _, errors = second.communicate(timeout=60)
    assert second.returncode == 0, errors
    expected = [f"0-{first.pid}", *(f"{number}-{second.pid}" for number in range(1, 6))]
    assert sorted(file.name for file in made.glob("?-*")) == expected


def test_a_shard_that_another_made_meanwhile_is_taken(tmp_path: Path) -> None:
    store = opened(tmp_path)
    build(opened(tmp_path), Maker(), names=("a", "b"))
    build(store, make := Maker())
    assert make.made == ["c"]
    assert holds(store)


def removable(root: Path) -> bool:
    """Whether others may remove what lies there: nobody has it open."""
    return Budget(root, 100).allows(100, keep=root / "new")


def test_a_store_is_closed_when_nobody_refers_to_it(tmp_path: Path) -> None:
    store = finished(tmp_path)
    assert not removable(tmp_path)
    del store
    gc.collect()
    assert removable(tmp_path)


def test_closing_twice_does_no_harm(tmp_path: Path) -> None:
    store = opened(tmp_path)
    store.close()
    with (tmp_path / "other").open("w") as other:  # takes the descriptor that became free
        store.close()
        other.write("x")


def test_a_store_that_cannot_be_opened_is_not_held(tmp_path: Path) -> None:
    path = finished(tmp_path).folder / MANIFEST
    path.write_text(json.dumps({**json.loads(path.read_text()), "schema": SCHEMA + 1}))
    with pytest.raises(RunError):
        opened(tmp_path)
    gc.collect()
    assert removable(tmp_path)


def test_arrays_outlive_their_store(tmp_path: Path) -> None:
    arrays = finished(tmp_path).shard("a").arrays
    gc.collect()
    assert np.array_equal(arrays["pixels"], content("a")["pixels"])
