from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from tutelage.data.leaks import Contents, contradictions, exact_copies, other_rows
from tutelage.data.problems import ImageError
from tutelage.data.samples import ImageSource, Samples, Stored


class Counted(Stored):
    """An image in a store, that counts how often it is read."""

    def __init__(self, content: bytes) -> None:
        self.content, self.read_times = content, 0

    def __str__(self) -> str:
        return "store"

    def read(self) -> bytes:
        self.read_times += 1
        return self.content

    def stamp(self) -> str:
        return "1"


def samples(images: Sequence[ImageSource], labels: Sequence[int] | None = None) -> Samples:
    targets = None if labels is None else np.array(labels, dtype=np.int64)
    return Samples(tuple(map(str, range(len(images)))), list(images), None, targets, ("a", "b", "c"))


def test_copies_are_found_across_kinds_of_sources(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"one")
    assert exact_copies(samples([path, b"two", Counted(b"one"), b"one"]), samples([Counted(b"one")])).tolist() == [
        0,
        2,
        3,
    ]


def test_what_is_stored_is_read_once_however_often_it_is_compared() -> None:
    stored = [Counted(content) for content in (b"one", b"two", b"one")]
    mine, contents = samples(stored, [0, 1, 1]), Contents()
    for other in (samples([b"two"]), samples([b"one"]), mine.subset(np.array([0, 2]))):
        exact_copies(mine, other, contents)
    contradictions(mine, contents)
    assert [each.read_times for each in stored] == [1, 1, 1]


def test_held_out_files_of_sizes_that_do_not_occur_are_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = tmp_path / "held.png"
    held.write_bytes(b"123")
    monkeypatch.setattr(Path, "read_bytes", lambda path: pytest.fail(f"{path} was read"))
    assert exact_copies(samples([b"12", b"1234"]), samples([held])).tolist() == []


@pytest.mark.parametrize("where", ["searched", "held out"])
def test_a_file_that_vanishes_is_named(tmp_path: Path, where: str) -> None:
    gone, there = samples([tmp_path / "gone.png"]), samples([b"one"])
    with pytest.raises(ImageError, match=r"gone\.png: cannot be read .*; was it moved\?") as raised:
        exact_copies(*((gone, there) if where == "searched" else (there, gone)))
    assert raised.value.kind == "vanished"


def test_a_file_that_vanishes_after_its_size_was_seen_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"one")
    read = Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda self: (self.unlink(), read(self))[1])
    with pytest.raises(ImageError, match=r"a\.png: cannot be read"):
        exact_copies(samples([path]), samples([b"two"]))


def groups(images: Sequence[ImageSource], labels: Sequence[int]) -> list[list[int]]:
    return [rows.tolist() for rows in contradictions(samples(images, labels))]


def test_one_image_under_two_labels_is_a_contradiction_with_all_its_copies() -> None:
    assert groups([b"one", b"two", b"one", b"six", b"two", b"one"], [0, 0, 1, 2, 0, 0]) == [[0, 2, 5]]


def test_copies_under_one_label_are_none() -> None:
    assert groups([b"one", b"one", b"two"], [1, 1, 0]) == []


def test_pixels_of_another_shape_do_not_contradict() -> None:
    pixels = np.arange(12, dtype=np.uint8)
    assert groups([pixels.reshape(3, 4), pixels.reshape(4, 3), pixels.reshape(3, 4)], [0, 1, 2]) == [[0, 2]]


def test_files_of_one_size_under_one_label_are_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [tmp_path / name for name in "abc"]
    for path, content in zip(paths, (b"one", b"two", b"three"), strict=True):
        path.write_bytes(content)
    monkeypatch.setattr(Path, "read_bytes", lambda path: pytest.fail(f"{path} was read"))
    assert groups(paths, [0, 0, 1]) == []


def test_samples_of_another_name_or_place_are_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "read_bytes", lambda path: pytest.fail(f"{path} was read"))
    mine = Samples(("a", "b", "c"), images=[tmp_path / "a", tmp_path / "b", np.zeros((2, 2), np.uint8)])
    theirs = Samples(("a", "b", "x", "c"), images=[tmp_path / "a", tmp_path / "z", b"x", np.zeros((2, 2), np.uint8)])
    assert other_rows(mine, theirs).tolist() == [1]
    assert other_rows(theirs, mine).tolist() == [1, 2]
