from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from pathlib import Path

import pytest
from small_stores import GB, NAMES, Heard, Maker, build, content, holds, opened

from tutelage.ledger import Cost
from tutelage.store.budget import Budget
from tutelage.store.folder import Store


def collect(store: Store, write: Callable[[Iterator[str]], list[str]], *, most: int = GB) -> Cost:
    def make(names: Iterator[str]) -> Generator[tuple[str, Cost], None, None]:
        yield from [(name, Cost(seconds=2, images=4)) for name in write(names)]

    return store.collect(
        NAMES, make, budget=Budget(store.folder.parent, most), progress=Heard(), label="make", room=lambda name: 700
    )


def write(store: Store, names: Sequence[str] = NAMES) -> None:
    """Write shards as other processes do."""
    for name in names:
        store.shelf.write(name, content(name), Cost(seconds=2, images=4))


def test_shards_that_others_write_are_taken_in_any_order(tmp_path: Path) -> None:
    store = opened(tmp_path)

    def backwards(names: Iterator[str]) -> list[str]:
        wanted = list(names)[::-1]
        write(store, wanted)
        return wanted

    assert collect(store, backwards).images == 12
    assert holds(opened(tmp_path))


def test_only_missing_shards_are_asked_for(tmp_path: Path) -> None:
    store = opened(tmp_path)
    build(store, Maker(), names=("b",))
    asked: list[str] = []

    def note(names: Iterator[str]) -> list[str]:
        asked.extend(names)
        return []

    collect(store, note)
    assert asked == ["a", "c"]


def test_no_more_is_asked_for_than_there_is_room_for_together(tmp_path: Path) -> None:
    asked: list[str] = []

    def note(names: Iterator[str]) -> list[str]:
        asked.extend(names)
        return []

    collect(opened(tmp_path), note, most=2000)
    assert asked == ["a", "b"]


def test_whole_shards_of_a_killed_builder_are_taken_with_their_cost(tmp_path: Path) -> None:
    write(opened(tmp_path), ("a", "c"))
    store, make = opened(tmp_path), Maker()
    assert "a" not in store
    build(store, make)
    assert make.made == ["b"]
    assert holds(store)
    assert store.cost.images == 12
    assert store.cost.seconds >= 4


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-9])


def flip_a_bit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("damage", [cut_short, flip_a_bit])
def test_damaged_shards_of_a_killed_builder_are_made_again(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    store, make = opened(tmp_path), Maker()
    write(store)
    damage(store.shelf.path("b"))
    build(store, make)
    assert make.made == ["b"]
    assert holds(store)


def test_shards_of_another_store_or_name_are_not_taken(tmp_path: Path) -> None:
    store, other, make = opened(tmp_path), opened(tmp_path, views=2), Maker()
    write(other)
    write(store, ("b",))
    store.shelf.path("a").write_bytes(other.shelf.path("a").read_bytes())
    store.shelf.path("c").write_bytes(store.shelf.path("b").read_bytes())
    build(store, make)
    assert make.made == ["a", "c"]


def test_shards_that_nobody_wrote_for_a_builder_are_not_taken(tmp_path: Path) -> None:
    store, make = opened(tmp_path), Maker()
    store.shelf.write("a", content("a"))
    build(store, make)
    assert make.made == list(NAMES)
