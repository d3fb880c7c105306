from __future__ import annotations

import io
import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tutelage.cache import cache_folder
from tutelage.data import inspect as module
from tutelage.data.inspect import inspect
from tutelage.data.problems import Problem
from tutelage.data.samples import ImageSource, Samples, Stored
from tutelage.errors import DataError

RGB = np.zeros((4, 5, 3), dtype=np.uint8)


def whole() -> bytes:
    file = io.BytesIO()
    Image.fromarray(RGB).save(file, "PNG")
    return file.getvalue()


@pytest.fixture(autouse=True)
def _own_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUTELAGE_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[ImageSource]:
    """The images that were decoded, in no order."""
    found: list[ImageSource] = []
    decode = module.decoding.decode_named
    monkeypatch.setattr(module.decoding, "decode_named", lambda source: found.append(source) or decode(source))
    return found


@pytest.fixture
def files(tmp_path: Path) -> Samples:
    """Five files: good, text, good, empty, good."""
    contents = [whole(), b"text", whole(), b"", whole()]
    paths = [tmp_path / f"{number}.png" for number in range(5)]
    for path, content in zip(paths, contents, strict=True):
        path.write_bytes(content)
    return Samples(tuple(path.name for path in paths), paths)


def test_the_rows_that_can_be_used_are_in_order_and_the_problems_name_files(files: Samples, tmp_path: Path) -> None:
    rows, problems = inspect(files)
    assert rows.tolist() == [0, 2, 4]
    assert problems == (
        Problem("not an image", str(tmp_path / "1.png"), "not an image but text"),
        Problem("empty file", str(tmp_path / "3.png")),
    )


def test_more_images_than_a_thread_takes_are_all_looked_at(decoded: list[ImageSource]) -> None:
    contents = [b"broken %d" % number if number % 7 == 3 else whole() for number in range(200)]
    rows, problems = inspect(Samples(tuple(map(str, range(200))), contents))
    assert len(decoded) == 200
    assert [int(problem.where) for problem in problems] == [n for n in range(200) if n % 7 == 3]
    assert not {int(problem.where) for problem in problems} & set(rows.tolist())


def test_pixels_are_not_looked_at(decoded: list[ImageSource]) -> None:
    rows, problems = inspect(Samples(("a", "b"), [RGB, RGB]))
    assert (rows.tolist(), problems, decoded) == ([0, 1], (), [])
    assert not cache_folder("inspected").exists()


def test_texts_alone_are_all_used() -> None:
    assert inspect(Samples(("a", "b"), texts=["one", "two"]))[0].tolist() == [0, 1]


def test_no_samples_are_no_problem() -> None:
    assert inspect(Samples((), []))[0].tolist() == []


def test_a_second_look_decodes_nothing_and_finds_the_same(files: Samples, decoded: list[ImageSource]) -> None:
    first = inspect(files)
    decoded.clear()
    second = inspect(Samples(files.ids, files.images))
    assert decoded == []
    assert (second[0].tolist(), second[1]) == (first[0].tolist(), first[1])


def test_labels_do_not_call_for_another_look(files: Samples, decoded: list[ImageSource]) -> None:
    inspect(files)
    decoded.clear()
    inspect(Samples(files.ids, files.images, targets=np.zeros(5, np.int64), classes=("a",)))
    assert decoded == []


def test_a_changed_file_is_looked_at_again(files: Samples, decoded: list[ImageSource]) -> None:
    inspect(files)
    decoded.clear()
    assert files.images is not None
    Path(str(files.images[1])).write_bytes(whole())
    assert inspect(Samples(files.ids, files.images))[0].tolist() == [0, 1, 2, 4]
    assert decoded


def remembered() -> Path:
    (file,) = cache_folder("inspected").iterdir()
    return file


Damage = Callable[[Path], object]

DAMAGES: dict[str, Damage] = {
    "no JSON": lambda file: file.write_text("{"),
    "no text": lambda file: file.write_bytes(b"\xff\xfe\0"),
    "empty": lambda file: file.write_text(""),
    "a list": lambda file: file.write_text("[]"),
    "no findings": lambda file: file.write_text(json.dumps({**json.loads(file.read_text()), "found": None})),
    "a row too many": lambda file: file.write_text(
        json.dumps({**json.loads(file.read_text()), "found": [[5, "damaged", ""]]})
    ),
    "an unknown kind": lambda file: file.write_text(
        json.dumps({**json.loads(file.read_text()), "found": [[0, "cursed", ""]]})
    ),
    "another version": lambda file: file.write_text(json.dumps({**json.loads(file.read_text()), "schema": 0})),
    "another Pillow": lambda file: file.write_text(json.dumps({**json.loads(file.read_text()), "pillow": "1"})),
    "another limit": lambda file: file.write_text(json.dumps({**json.loads(file.read_text()), "limit": 1})),
    "a folder": lambda file: (file.unlink(), file.mkdir()),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_what_is_remembered_wrongly_is_looked_at_again(files: Samples, decoded: list[ImageSource], name: str) -> None:
    inspect(files)
    decoded.clear()
    DAMAGES[name](remembered())
    assert inspect(files)[0].tolist() == [0, 2, 4]
    assert len(decoded) == 5


def test_a_memory_that_cannot_be_written_is_done_without(
    files: Samples, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("TUTELAGE_CACHE", str(tmp_path / "file"))
    assert inspect(files)[0].tolist() == [0, 2, 4]


def test_a_file_that_vanished_is_told_and_the_others_are_remembered(
    files: Samples, tmp_path: Path, decoded: list[ImageSource]
) -> None:
    (tmp_path / "2.png").unlink()
    for _ in range(2):
        rows, problems = inspect(Samples(files.ids, files.images))
        assert rows.tolist() == [0, 4]
        assert [(problem.kind, Path(problem.where).name) for problem in problems] == [
            ("not an image", "1.png"),
            ("vanished", "2.png"),
            ("empty file", "3.png"),
        ]
    assert len(decoded) == 4


class Refused(Stored):
    """An image whose store refuses it the first time."""

    def __init__(self) -> None:
        self.asked = 0

    def __str__(self) -> str:
        return "store: a.png"

    def read(self) -> bytes:
        self.asked += 1
        if self.asked == 1:
            raise DataError("store: a.png: timed out; try again")
        return whole()

    def stamp(self) -> str:
        return "1"


def test_what_a_store_refused_is_not_remembered() -> None:
    samples = Samples(("a",), [Refused()])
    assert inspect(samples)[1] == (Problem("unreadable", "store: a.png", "store: a.png: timed out; try again"),)
    assert inspect(samples)[1] == ()


def test_a_file_that_may_not_be_read_is_told(files: Samples, monkeypatch: pytest.MonkeyPatch) -> None:
    read = Path.read_bytes

    def refuse(path: Path) -> bytes:
        if path.name == "4.png":
            raise PermissionError(13, os.strerror(13))
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", refuse)
    rows, problems = inspect(files)
    assert rows.tolist() == [0, 2]
    assert (problems[-1].kind, problems[-1].detail) == ("unreadable", "Permission denied")


def test_the_memory_is_in_the_home_folder_where_nothing_else_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TUTELAGE_CACHE")
    assert cache_folder("inspected") == Path.home() / ".cache" / "tutelage" / "inspected"
