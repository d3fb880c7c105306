"""What tells that shards are finished while others are still being made."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from small_stores import NAMES, Maker, build, content, finished, holds, opened

from tutelage.ledger import Cost
from tutelage.store import manifest as manifest_module
from tutelage.store.budget import MANIFEST
from tutelage.store.manifest import JOURNAL


@pytest.fixture
def interrupted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A store whose builder was killed when two of three shards were finished: nothing has taken its journal in."""
    store = opened(tmp_path)
    with monkeypatch.context() as patched:
        write = manifest_module.Manifest._write
        patched.setattr(manifest_module.Manifest, "_write", lambda self: None if "a" in self.shards else write(self))
        with pytest.raises(KeyboardInterrupt):
            build(store, Maker(fails_at="c", error=KeyboardInterrupt()))
    assert not json.loads((store.folder / MANIFEST).read_text())["shards"]
    return store.folder


def rebuilt(root: Path) -> list[str]:
    store = opened(root)
    build(store, make := Maker())
    assert holds(store)
    assert holds(opened(root))
    return make.made


def test_a_manifest_is_written_before_and_after_however_many_shards_are_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[Path] = []
    write = manifest_module.write_json
    monkeypatch.setattr(manifest_module, "write_json", lambda path, data: written.append(path) or write(path, data))
    names = [f"{number}" for number in range(20)]
    build(opened(tmp_path), Maker(), names=names)
    assert len(written) == 2
    build(opened(tmp_path), Maker(), names=[*names, "one more"])
    assert len(written) == 3


def test_what_is_finished_is_known_to_others_at_once(tmp_path: Path) -> None:
    known: list[list[str]] = []

    def make(name: str, cost: Cost) -> dict[str, object]:
        store = opened(tmp_path)
        known.append([each for each in NAMES if each in store])
        return content(name)  # type: ignore[return-value]

    build(opened(tmp_path), make)  # type: ignore[arg-type]
    assert known == [[], ["a"], ["a", "b"]]


def test_what_was_finished_before_an_interruption_stays(interrupted: Path) -> None:
    assert rebuilt(interrupted.parent) == ["c"]


def test_it_costs_once(interrupted: Path) -> None:
    assert opened(interrupted.parent).cost.images == 8
    rebuilt(interrupted.parent)
    assert opened(interrupted.parent).cost.images == 12


def test_a_finished_store_has_no_journal(interrupted: Path) -> None:
    assert (interrupted / JOURNAL).exists()
    rebuilt(interrupted.parent)
    assert not (interrupted / JOURNAL).exists()


def test_a_journal_that_was_taken_in_counts_for_nothing(interrupted: Path) -> None:
    """As where a builder was killed between writing the manifest and removing the journal."""
    journal = (interrupted / JOURNAL).read_bytes()
    rebuilt(interrupted.parent)
    (interrupted / JOURNAL).write_bytes(journal)
    assert opened(interrupted.parent).cost.images == 12
    assert rebuilt(interrupted.parent) == []


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "cut short": lambda lines: lines[:-9],
    "a flipped bit": lambda lines: lines[:-40] + bytes([lines[-40] ^ 1]) + lines[-39:],
    "another cost": lambda lines: lines.replace(b'"images": 4', b'"images": 5', 2)[: len(lines)],
    "no text": lambda lines: lines[: lines.index(b"\n") + 1] + b"\xff\xfe",
    "a list": lambda lines: lines[: lines.index(b"\n") + 1] + b"[]\n",
    "a number": lambda lines: lines[: lines.index(b"\n") + 1] + b"3\n",
    "nested deeply": lambda lines: lines[: lines.index(b"\n") + 1] + b"[" * 100_000,
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_nothing_of_a_damaged_line_is_believed(interrupted: Path, damage: Callable[[bytes], bytes]) -> None:
    journal = interrupted / JOURNAL
    journal.write_bytes(damage(journal.read_bytes()))
    store = opened(interrupted.parent)
    assert "b" not in store
    assert store.cost.images in (0, 4)
    assert set(rebuilt(interrupted.parent)) >= {"b", "c"}


def test_a_journal_of_a_damaged_manifest_counts_for_nothing(interrupted: Path) -> None:
    (interrupted / MANIFEST).write_bytes(b"{")
    assert not any(name in opened(interrupted.parent) for name in NAMES)
    assert rebuilt(interrupted.parent) == list(NAMES)


def test_a_journal_of_another_store_counts_for_nothing(interrupted: Path) -> None:
    other = finished(interrupted.parent, teacher="u")
    (other.folder / JOURNAL).write_bytes((interrupted / JOURNAL).read_bytes())
    assert opened(interrupted.parent, teacher="u").cost.images == 12


def test_a_journal_that_cannot_be_read_says_nothing(interrupted: Path) -> None:
    (interrupted / JOURNAL).unlink()
    (interrupted / JOURNAL).mkdir()
    assert not any(name in opened(interrupted.parent) for name in NAMES)
