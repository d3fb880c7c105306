"""Texts, and images with a text each: what is left out, what is set right, and what is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tutelage.data.prepare import PreparedData, prepare_data
from tutelage.data.samples import Samples
from tutelage.data.settings import DataSettings
from tutelage.data.texts import clean, normalized
from tutelage.errors import DataError
from tutelage.runtime.texts import SEPARATOR

if TYPE_CHECKING:
    from conftest import MakeImages

NAMES = [f"p{number}.png" for number in range(6)]


@pytest.fixture(autouse=True)
def _own_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUTELAGE_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def folder(tmp_path: Path, make_images: MakeImages) -> Path:
    """Two classes of labeled, validation and test images, and six other images."""
    make_images(tmp_path / "labeled", [f"{name}/l{number}.png" for name in "ab" for number in range(3)])
    make_images(tmp_path / "validation", [f"{name}/v.png" for name in "ab"])
    make_images(tmp_path / "test", [f"{name}/t.png" for name in "ab"])
    make_images(tmp_path / "pairs", NAMES)
    return tmp_path


def captioned(folder: Path, captions: list[str], header: str = "image,text") -> str:
    table = folder / "pairs" / "pairs.csv"
    lines = [header, *(f"{name},{caption}" for name, caption in zip(NAMES, captions, strict=True))]
    table.write_bytes("\n".join(lines).encode("utf-8", "surrogatepass"))
    return str(table)


def prepared(folder: Path, pairs: str, *, tolerate: float = 0.05) -> PreparedData:
    parts = {part: str(folder / part) for part in ("labeled", "validation", "test")}
    return prepare_data(DataSettings(pairs=pairs, tolerate=tolerate, **parts), seed=0)


def kinds(data: PreparedData) -> list[tuple[str, str]]:
    return [(problem.kind, problem.where) for problem in data.problems.get("pairs", ())]


def test_pairs_are_images_and_their_texts(folder: Path) -> None:
    data = prepared(folder, captioned(folder, list("uvwxyz")))
    assert data.pairs is not None
    assert (data.pairs.ids, data.pairs.texts) == (tuple(NAMES), list("uvwxyz"))
    assert data.pairs.targets is None
    assert data.counts()["pairs"] == 6


def test_without_pairs_nothing_is_said_of_them(folder: Path) -> None:
    data = prepare_data(DataSettings(labeled=str(folder / "labeled")), seed=0)
    assert data.pairs is None
    assert "pairs" not in data.counts()


def test_images_without_a_text_are_left_out_and_counted(folder: Path) -> None:
    data = prepared(folder, captioned(folder, ["u", "", "w", "  ", "y", "z"]), tolerate=0.5)
    assert data.pairs is not None
    assert data.pairs.texts == ["u", "w", "y", "z"]
    assert kinds(data) == [("no text", "p1.png"), ("no text", "p3.png")]


def test_more_without_a_text_than_is_tolerated_is_an_error(folder: Path) -> None:
    with pytest.raises(DataError, match=r"2 of 6 pairs cannot be used \(2 no text\), more than data\.tolerate"):
        prepared(folder, captioned(folder, ["u", "", "w", "", "y", "z"]))


def test_pairs_whose_texts_are_all_empty_are_refused(folder: Path) -> None:
    with pytest.raises(DataError, match=r"pairs\.csv: no pairs found \(left out: p0\.png, no text\)"):
        prepared(folder, captioned(folder, [""] * 6), tolerate=1.0)


def test_a_table_without_texts_is_refused(folder: Path) -> None:
    with pytest.raises(
        DataError, match=r"pairs\.csv: has no column 'text'; its columns are image, caption; rename 'caption'"
    ):
        prepared(folder, captioned(folder, list("uvwxyz"), header="image,caption"))


def test_a_folder_of_images_is_refused(folder: Path) -> None:
    with pytest.raises(
        DataError, match=r"pairs are not read from data of this kind \(folder\); give one of table, tar"
    ):
        prepared(folder, str(folder / "pairs"))


def test_texts_without_images_are_refused(folder: Path) -> None:
    (folder / "texts.csv").write_text("text\nhello\nbye\n")
    with pytest.raises(DataError, match=r"texts\.csv: has no column 'image'"):
        prepared(folder, str(folder / "texts.csv"))


@pytest.mark.parametrize("left", [0, 1])
def test_fewer_than_two_pairs_are_refused(folder: Path, left: int) -> None:
    # The others are copies of test images.
    for name in NAMES[left:]:
        shutil.copy(folder / "test" / "a" / "t.png", folder / "pairs" / name)
    with pytest.raises(DataError, match=rf"{left or 'no'} pair is left, and pairs are told apart from each other"):
        prepared(folder, captioned(folder, list("uvwxyz")))


def test_copies_of_test_and_validation_images_leave_the_pairs_and_are_counted(folder: Path) -> None:
    shutil.copy(folder / "test" / "a" / "t.png", folder / "pairs" / "p1.png")
    shutil.copy(folder / "validation" / "b" / "v.png", folder / "pairs" / "p4.png")
    data = prepared(folder, captioned(folder, list("uvwxyz")))
    assert data.pairs is not None
    assert data.pairs.texts == ["u", "w", "x", "z"]
    assert data.dropped == {"labeled": 0, "validation": 0, "transfer": 0, "pairs": 2}


def test_broken_images_leave_with_their_texts(folder: Path) -> None:
    (folder / "pairs" / "p2.png").write_bytes(b"no image")
    data = prepared(folder, captioned(folder, list("uvwxyz")), tolerate=0.5)
    assert data.pairs is not None
    assert data.pairs.texts == ["u", "v", "x", "y", "z"]
    assert kinds(data) == [("not an image", str(folder / "pairs" / "p2.png"))]


def test_characters_that_are_none_become_spaces_and_are_counted(folder: Path) -> None:
    data = prepared(folder, captioned(folder, ["a\0dog", "b", " whole 😀 ", "x", "y\x1ez", "z"]))
    assert data.pairs is not None
    assert data.pairs.texts == ["a dog", "b", "whole 😀", "x", "y z", "z"]
    assert kinds(data) == [("characters", "p0.png"), ("characters", "p4.png")]


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("a\0dog", ("a dog", True)),
        (json.loads('"half \\ud83d"'), ("half", True)),
        (f"two{SEPARATOR}texts", ("two texts", True)),
        ("\0\0", ("", True)),
        (" whole 😀 ", ("whole 😀", False)),
        ("‏שלום, עולם‎ مرحبا", ("‏שלום, עולם‎ مرحبا", False)),
        ('one\ntwo\t"three"', ('one\ntwo\t"three"', False)),
        ("👩‍👩‍👧 e\u0301", ("👩‍👩‍👧 e\u0301", False)),
    ],
)
def test_only_what_no_text_has_is_replaced(given: str, kept: tuple[str, bool]) -> None:
    assert clean(given) == kept


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("a  dog\n", " a dog", True),
        ("caf\u00e9", "cafe\u0301", True),
        ("A dog", "a dog", False),
        (f"a{SEPARATOR} b", f"a {SEPARATOR}b", True),
        (f"a{SEPARATOR}b", "a b", False),
    ],
)
def test_copies_differ_in_white_space_and_composition_alone(one: str, other: str, same: bool) -> None:
    assert (normalized(one) == normalized(other)) is same


def test_texts_with_halves_of_characters_have_a_fingerprint() -> None:
    one, other = (Samples(("a",), texts=[text]) for text in ("a \ud83d", "a \ud83e"))
    assert one.fingerprint != other.fingerprint
