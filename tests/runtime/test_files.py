from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import pytest

from tutelage.errors import DataError
from tutelage.runtime.files import find_images

Make = Callable[..., Path]


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in (
        "b.png",
        "a.JPG",
        "notes.txt",
        ".hidden.png",
        "in/c.webp",
        ".git/d.png",
        "odd[1].png",
        "empty/x.txt",
    ):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def names(*arguments: str, stdin: bytes = b"") -> list[str]:
    return [name for name, _ in find_images(arguments, io.BytesIO(stdin))]


@pytest.mark.parametrize(
    ("argument", "expected"),
    [
        (".", ["a.JPG", "b.png", "in/c.webp", "odd[1].png"]),
        ("in", ["in/c.webp"]),
        ("notes.txt", ["notes.txt"]),
        ("odd[1].png", ["odd[1].png"]),
        ("missing.png", ["missing.png"]),
        ("i*", ["in/c.webp"]),
        ("*.png", ["b.png", "odd[1].png"]),
        ("**/*.webp", ["in/c.webp"]),
    ],
)
def test_what_an_argument_names(tree: Path, argument: str, expected: list[str]) -> None:
    assert sorted(names(argument)) == expected


def test_arguments_keep_their_order(tree: Path) -> None:
    assert names("in", "b.png", "in/c.webp") == ["in/c.webp", "b.png", "in/c.webp"]


@pytest.mark.parametrize("argument", ["*.bmp", "empty"])
def test_what_names_no_image_is_told_before_anything_runs(tree: Path, argument: str) -> None:
    with pytest.raises(DataError, match=r"nothing has a name|no images found"):
        find_images(["b.png", argument], io.BytesIO())


@pytest.mark.parametrize("text", [b"a.JPG\nb.png\n", b"a.JPG\r\n\r\nb.png", b"a.JPG\nb.png"])
def test_a_list_on_stdin_is_paths(text: bytes) -> None:
    assert names("-", stdin=text) == ["a.JPG", "b.png"]


def test_a_long_list_keeps_every_line() -> None:
    lines = [f"folder/picture {number}.png" for number in range(1000)]
    assert names("-", stdin="\n".join(lines).encode()) == lines


@pytest.mark.parametrize("name", ["x.png", "x.jpg", "x.gif", "x.webp", "x.bmp", "x.tiff", "x.ppm"])
def test_an_image_on_stdin_is_one_image(tmp_path: Path, painted: Make, name: str) -> None:
    content = painted(tmp_path / name, (1, 2, 3)).read_bytes()
    assert list(find_images(["-"], io.BytesIO(content))) == [("-", content)]


def test_a_path_that_begins_like_a_bitmap_is_a_path() -> None:
    assert names("-", stdin=b"BMW/front.jpg\n") == ["BMW/front.jpg"]


def test_an_empty_stdin_names_nothing() -> None:
    assert names("-") == []
