"""A run's texts, and pairs of images and texts: copies, contradictions, labels, and what may be left out."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tutelage.data.leaks import contradictions, exact_copies, other_rows
from tutelage.data.prepare import PreparedData, prepare_data
from tutelage.data.samples import Samples
from tutelage.data.settings import DataSettings
from tutelage.errors import DataError, RecipeError, UnknownNameError
from tutelage.runtime.texts import SEPARATOR

if TYPE_CHECKING:
    from conftest import MakeImages

Row = tuple[str, object] | tuple[str, str, object]


@pytest.fixture(autouse=True)
def _own_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUTELAGE_CACHE", str(tmp_path / "cache"))


def table(path: Path, rows: Sequence[Row]) -> str:
    """Write (text, label) or (text, second text, label)."""
    names = ("text", "text_pair", "label") if len(rows[0]) == 3 else ("text", "label")
    path.write_text("\n".join(json.dumps(dict(zip(names, row, strict=True))) for row in rows))
    return str(path)


LABELED: list[Row] = [(f"{word} number {row}", word) for word in ("cat", "dog") for row in range(5)]


def prepared(folder: Path, labeled: Sequence[Row] = LABELED, **more: Any) -> PreparedData:
    parts = {name: table(folder / f"{name}.jsonl", rows) for name, rows in more.items() if isinstance(rows, list)}
    others = {name: value for name, value in more.items() if name not in parts}
    return prepare_data(
        DataSettings(labeled=table(folder / "labeled.jsonl", labeled), **parts, **others), seed=0, modality="text"
    )


def kinds(data: PreparedData, part: str) -> list[tuple[str, str]]:
    return [(problem.kind, problem.where) for problem in data.problems.get(part, ())]


def test_texts_make_all_parts_of_a_run(tmp_path: Path) -> None:
    data = prepared(tmp_path, labels="2", test=[("cat here", "cat"), ("dog", "dog")], transfer=[("any", None)])
    assert data.test is not None
    assert (len(data.labeled), data.test.texts, data.transfer.texts) == (4, ["cat here", "dog"], ["any"])
    assert (data.short_side, data.labeled.images, data.labeled.modality) == (0, None, "text")
    assert data.pool is not None
    assert data.pool.texts == [text for text, *_ in LABELED]


def test_without_a_transfer_set_it_is_all_labeled_texts(tmp_path: Path) -> None:
    data = prepared(tmp_path, labels="1")
    assert (len(data.labeled), data.transfer.texts, data.transfer.targets) == (
        2,
        [text for text, *_ in LABELED],
        None,
    )


def test_copies_of_held_out_texts_are_dropped_and_counted(tmp_path: Path) -> None:
    held: list[Row] = [("cat  number 0\n", "cat"), ("café", "cat"), ("dog number 9", "dog")]
    data = prepared(tmp_path, test=held, transfer=[("cafe\u0301", ""), ("dog number 9.", ""), ("cat number 0", "")])
    assert data.transfer.texts == ["dog number 9."]
    assert data.dropped == {"labeled": 1, "validation": 0, "transfer": 2}


def test_copies_among_training_texts_stay(tmp_path: Path) -> None:
    data = prepared(tmp_path, [*LABELED, ("cat number 0", "cat")], transfer=[("a", ""), ("a", "")])
    assert (len(data.labeled), len(data.transfer)) == (11, 2)


def test_one_text_under_two_labels_is_left_out_every_copy(tmp_path: Path) -> None:
    data = prepared(tmp_path, [*LABELED, (" cat number 0", "dog"), ("Cat number 1", "dog")], tolerate=0.5)
    assert (len(data.labeled), data.labeled.texts[0] if data.labeled.texts else "") == (10, "cat number 1")
    assert kinds(data, "labeled") == [("contradiction", "00000000"), ("contradiction", "00000010")]
    assert data.problems["labeled"][0].detail == "the same text under 'cat' and 'dog'"


def test_too_many_texts_that_cannot_be_used_are_an_error(tmp_path: Path) -> None:
    rows: list[Row] = [*LABELED, ("", "cat"), (" \n", "dog")]
    with pytest.raises(
        DataError, match=r"2 of 12 texts cannot be used \(2 no text\), more than data\.tolerate=0\.05"
    ):
        prepared(tmp_path, rows)
    assert kinds(prepared(tmp_path, rows, tolerate=0.2), "labeled") == [
        ("no text", "00000010"),
        ("no text", "00000011"),
    ]


def test_a_class_without_a_text_is_named(tmp_path: Path) -> None:
    rows: list[Row] = [("same", "cat"), ("same", "dog"), ("one", "cow"), ("two", "cow")]
    with pytest.raises(DataError, match=r"no text of class 'cat', 'dog' is left \(2 contradiction\)"):
        prepared(tmp_path, rows, tolerate=1.0)


@pytest.mark.parametrize(("part", "what"), [("test", "test"), ("validation", "validation")])
def test_labels_that_are_numbers_in_one_file_and_names_in_another_are_told(
    tmp_path: Path, part: str, what: str
) -> None:
    message = rf"labels of .*labeled\.jsonl are cat, dog; those of .*{what}\.jsonl are 0, 1; write both the same way"
    with pytest.raises(DataError, match=message):
        prepared(tmp_path, **{part: [("a", 0), ("b", 1)]})


def test_many_classes_are_told_by_the_first(tmp_path: Path) -> None:
    rows: list[Row] = [(f"t{number}", f"n{number}") for number in range(5)]
    with pytest.raises(DataError, match=r"those of .* are n0, n1, n2, …; write both"):
        prepared(tmp_path, test=rows)


def test_classes_that_are_partly_unknown_are_left_out_and_counted(tmp_path: Path) -> None:
    data = prepared(tmp_path, test=[("a", "cat"), ("b", "cow")], tolerate=0.5)
    assert kinds(data, "test") == [("unknown class", "00000001")]


def test_fewer_texts_than_asked_for_are_called_texts(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="class 'cat' has 5 texts, 6 were asked for"):
        prepared(tmp_path, labels="6")


def test_a_share_is_held_out_of_each_class(tmp_path: Path) -> None:
    data = prepared(tmp_path, test="40%")
    assert data.test is not None
    assert np.bincount(data.test.labels()).tolist() == [2, 2]
    assert not set(data.test.texts or ()) & set(data.transfer.texts or ())


def test_columns_apply_to_every_part_that_has_them(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text("review,stars\ngood,5\nbad,1\nfine,5\n")
    (tmp_path / "test.csv").write_text("text,label\nnice,5\nugly,1\n")
    settings = DataSettings(
        labeled=str(tmp_path / "train.csv"),
        test=str(tmp_path / "test.csv"),
        columns={"text": "review", "label": "stars"},
    )
    data = prepare_data(settings, seed=0, modality="text")
    assert data.test is not None
    assert (data.labeled.texts, data.test.texts) == (["good", "bad", "fine"], ["nice", "ugly"])


def test_a_column_of_another_name_than_ours_is_refused() -> None:
    with pytest.raises(UnknownNameError, match=r"unknown column 'txt'; did you mean 'text'"):
        DataSettings(labeled="x", columns={"txt": "review"})


def test_segmentation_of_texts_is_refused(tmp_path: Path) -> None:
    settings = DataSettings(labeled=table(tmp_path / "t.jsonl", LABELED))
    with pytest.raises(RecipeError, match="task 'segmentation' is about images, and the student reads texts"):
        prepare_data(settings, seed=0, task="segmentation", modality="text")


def test_pairs_of_texts_are_copies_where_both_are(tmp_path: Path) -> None:
    rows: list[Row] = [("a", "b", "yes"), ("b", "a", "no"), ("c", "d", "no"), ("e", "f", "yes")]
    data = prepared(tmp_path, rows, test=[("c", "d ", "no"), ("c", "e", "yes")])
    assert data.labeled.texts == [f"a{SEPARATOR}b", f"b{SEPARATOR}a", f"e{SEPARATOR}f"]


def pairs(folder: Path, name: str, rows: Sequence[tuple[str, str, str]]) -> str:
    lines = ["image,text,label", *(",".join(row) for row in rows)]
    (folder / f"{name}.csv").write_text("\n".join(lines))
    return str(folder / f"{name}.csv")


def test_of_images_with_texts_copies_have_both(tmp_path: Path, make_images: MakeImages) -> None:
    make_images(tmp_path, ["1.png", "2.png"])
    shutil.copy(tmp_path / "1.png", tmp_path / "copy.png")
    labeled = pairs(
        tmp_path,
        "labeled",
        [("1.png", "a cat", "yes"), ("1.png", "a dog", "no"), ("2.png", "a cat", "no"), ("2.png", "a dog", "yes")],
    )
    test = pairs(tmp_path, "test", [("copy.png", "a  cat", "yes")])
    data = prepare_data(DataSettings(labeled=labeled, test=test), seed=0, modality="pair")
    assert (data.labeled.ids, data.dropped["labeled"]) == (("1.png#2", "2.png", "2.png#2"), 1)
    assert (data.labeled.texts, data.labeled.modality) == (["a dog", "a cat", "a dog"], "pair")
    assert data.short_side == 10


def samples(
    texts: Sequence[str] | None, images: Sequence[bytes] | None = None, labels: Sequence[int] = ()
) -> Samples:
    count = len(texts if texts is not None else images or ())
    targets = np.array(labels, dtype=np.int64) if labels else None
    return Samples(tuple(map(str, range(count))), images, texts, targets)


@pytest.mark.parametrize(
    ("mine", "theirs", "expected"),
    [
        (samples(["a", "b", "a"]), samples(["a "]), [0, 2]),
        (samples(["a", "b"], [b"1", b"1"]), samples(["b", "b"], [b"1", b"2"]), [1]),
        (samples(["a", "b"], [b"1", b"2"]), samples(None, [b"2"]), [1]),
        (samples(["a", "b"], [b"1", b"2"]), samples(["a"]), [0]),
        (samples(["a"]), samples(None, [b"a"]), []),
    ],
)
def test_copies_are_told_by_what_both_have(mine: Samples, theirs: Samples, expected: list[int]) -> None:
    assert exact_copies(mine, theirs).tolist() == expected


def test_contradictions_of_pairs_have_both_in_common() -> None:
    mine = samples(["a", "b", "a ", "b"], [b"1", b"1", b"1", b"2"], [0, 1, 1, 0])
    assert [rows.tolist() for rows in contradictions(mine)] == [[0, 2]]


def test_another_text_under_one_id_is_another_row() -> None:
    assert other_rows(samples(["a", "b", "c"]), samples(["a", "x"])).tolist() == [1, 2]
