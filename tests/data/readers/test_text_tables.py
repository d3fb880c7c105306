"""Texts, and pairs of them, in tables: which columns are read, and what is wrong with files as people have them."""

from __future__ import annotations

import gzip
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tutelage.data.readers import check_data, read_samples
from tutelage.data.readers.kinds import find_kind
from tutelage.data.readers.stream import stream_samples
from tutelage.data.samples import Samples
from tutelage.errors import DataError
from tutelage.runtime.texts import SEPARATOR

if TYPE_CHECKING:
    from conftest import MakeImages

ROWS: tuple[dict[str, Any], ...] = (
    {"text": "good, 👍", "label": "pos"},
    {"text": "bad\nand long", "label": "neg"},
    {"text": "שלום, עולם", "label": "pos"},
)


def lines(path: Path, rows: Sequence[Any]) -> str:
    path.write_text("".join(f"{row if isinstance(row, str) else json.dumps(row)}\n" for row in rows), "utf-8")
    return str(path)


def delimited(path: Path, rows: Sequence[dict[str, Any]], separator: str = ",") -> str:
    def quoted(value: object) -> str:
        return '"' + str(value).replace('"', '""') + '"'

    table = [list(rows[0]), *(row.values() for row in rows)]
    path.write_text("".join(separator.join(map(quoted, row)) + "\n" for row in table), "utf-8")
    return str(path)


def written(folder: Path, form: str, rows: Sequence[dict[str, Any]]) -> str:
    path = folder / f"t.{form}"
    if form == "parquet":
        pq.write_table(pa.Table.from_pylist(list(rows)), path, row_group_size=2)
        return str(path)
    if form.endswith(".gz"):
        plain = written(folder, form.removesuffix(".gz"), rows)
        path.write_bytes(gzip.compress(Path(plain).read_bytes()))
        return str(path)
    if form in ("jsonl", "ndjson"):
        return lines(path, rows)
    return delimited(path, rows, "\t" if form == "tsv" else ",")


def texts(where: str, **wanted: Any) -> Samples:
    return read_samples(where, labeled=wanted.pop("labeled", True), modality="text", **wanted)


def kinds(samples: Samples) -> list[tuple[str, str]]:
    return [(problem.kind, problem.where) for problem in samples.problems]


FORMS = ["csv", "tsv", "jsonl", "ndjson", "parquet", "csv.gz", "tsv.gz", "jsonl.gz"]


@pytest.mark.parametrize("form", FORMS)
def test_each_form_of_table_gives_the_same_texts_and_classes(tmp_path: Path, form: str) -> None:
    where = written(tmp_path, form, ROWS)
    check_data(where)
    found = texts(where)
    assert found.texts == [row["text"] for row in ROWS]
    assert [found.classes[number] for number in found.labels()] == [row["label"] for row in ROWS]
    assert (found.images, found.ids, found.modality) == (None, ("00000000", "00000001", "00000002"), "text")


@pytest.mark.parametrize("form", FORMS)
def test_columns_are_what_a_recipe_says(tmp_path: Path, form: str) -> None:
    rows = [{"gold": "yes", "hypothesis": "a man", "premise": "someone", "text": "no", "key": "k1"}]
    where = written(tmp_path, form, rows)
    columns = {"text": "premise", "text_pair": "hypothesis", "label": "gold", "id": "key"}
    found = texts(where, columns=columns)
    assert (found.ids, found.texts, found.classes) == (("k1",), [f"someone{SEPARATOR}a man"], ("yes",))


@pytest.mark.parametrize("form", ["csv", "jsonl", "parquet"])
def test_a_column_text_pair_makes_pairs(tmp_path: Path, form: str) -> None:
    rows = [{"text": f"o{SEPARATOR}ne ", "text_pair": " two"}, {"text": "three", "text_pair": ""}]
    found = texts(written(tmp_path, form, rows), labeled=False)
    assert found.texts == [f"o ne{SEPARATOR}two"]
    assert kinds(found) == [("characters", "00000000"), ("no text", "00000001")]


def test_our_own_name_counts_where_a_table_lacks_the_one_that_is_said(tmp_path: Path) -> None:
    where = written(tmp_path, "csv", ROWS)
    assert texts(where, columns={"text": "review", "label": "gold"}).texts == [row["text"] for row in ROWS]


def test_a_column_that_is_said_and_is_not_there_is_named(tmp_path: Path) -> None:
    where = written(tmp_path, "csv", ROWS)
    with pytest.raises(
        DataError, match=r"no column 'second', which data\.columns says text_pair is; its columns are te"
    ):
        texts(where, columns={"text_pair": "second"})


@pytest.mark.parametrize("form", ["csv", "jsonl", "parquet"])
@pytest.mark.parametrize(
    ("names", "remedy"),
    [
        (("Review", "label"), r"rename 'Review' or set data\.columns=\{text: Review\}"),
        (("txt", "label"), r"rename 'txt' or set data\.columns=\{text: txt\}"),
        (("premise", "hypothesis"), r"set data\.columns=\{text: premise, text_pair: hypothesis\}"),
        (("zzz", "label"), r"add it, or say which is meant: data\.columns=\{text: NAME\}"),
    ],
)
def test_a_missing_text_column_is_answered_with_what_may_be_meant(
    tmp_path: Path, form: str, names: tuple[str, str], remedy: str
) -> None:
    where = written(tmp_path, form, [dict.fromkeys(names, "x")])
    with pytest.raises(DataError, match=rf"has no column 'text'; its columns are {', '.join(names)}; {remedy}"):
        texts(where, labeled=False)


def test_of_a_table_of_images_with_texts_each_modality_takes_its_own(tmp_path: Path, make_images: MakeImages) -> None:
    make_images(tmp_path, ["1.png"])
    where = written(tmp_path, "csv", [{"image": "1.png", "text": "a dog", "label": "x"}])
    image, text, pair = (read_samples(where, labeled=True, modality=each) for each in ("image", "text", "pair"))
    assert (image.texts, image.images) == (None, [tmp_path / "1.png"])
    assert (text.texts, text.images) == (["a dog"], None)
    assert (pair.texts, pair.images) == (["a dog"], [tmp_path / "1.png"])


def test_images_of_texts_alone_are_not_looked_for(tmp_path: Path) -> None:
    where = written(tmp_path, "csv", [{"image": "gone.png", "text": "a dog"}])
    assert texts(where, labeled=False).texts == ["a dog"]


@pytest.mark.parametrize("form", FORMS)
def test_empty_texts_are_left_out_and_counted(tmp_path: Path, form: str) -> None:
    rows = [{"text": "", "label": "a"}, {"text": " \u00a0\n", "label": "a"}, {"text": "x", "label": "b"}]
    found = texts(written(tmp_path, form, rows))
    assert (found.texts, kinds(found)) == (["x"], [("no text", "00000000"), ("no text", "00000001")])


@pytest.mark.parametrize("form", ["csv", "tsv", "jsonl", "parquet"])
def test_a_huge_text_is_read_whole(tmp_path: Path, form: str) -> None:
    huge = "word " * 200_000 + "end"
    assert texts(written(tmp_path, form, [{"text": huge}]), labeled=False).texts == [huge]


@pytest.mark.parametrize("form", ["csv", "tsv", "jsonl", "parquet"])
def test_nul_becomes_a_space(tmp_path: Path, form: str) -> None:
    found = texts(written(tmp_path, form, [{"text": "a\0b"}, {"text": "c"}]), labeled=False)
    assert (found.texts, kinds(found)) == (["a b", "c"], [("characters", "00000000")])


def test_half_a_character_in_json_becomes_a_space(tmp_path: Path) -> None:
    found = texts(
        lines(tmp_path / "t.jsonl", ['{"text": "half \\ud83d"}', '{"text": "\\ud83d\\ude00"}']), labeled=False
    )
    assert (found.texts, kinds(found)) == (["half", "😀"], [("characters", "00000000")])


def test_ends_of_lines_inside_json_are_none(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    path.write_text('{"text": "one\u2028two\u0085three"}\r\n\n{"text": "four"}', "utf-8", newline="")
    assert texts(str(path), labeled=False).texts == ["one\u2028two\u0085three", "four"]


def test_broken_lines_of_json_are_left_out_with_their_place(tmp_path: Path) -> None:
    where = tmp_path / "t.jsonl"
    lines(where, ['{"text": "a"}', '{"text": "b"', "[1, 2]", "5", '{"label": "x"}'])
    where.write_bytes(where.read_bytes() + b'{"text": "caf\xe9"}\n' + b"[" * 100_000 + b"\n")
    found = texts(str(where), labeled=False)
    assert found.texts == ["a"]
    assert kinds(found) == [
        ("damaged", f"{where}, line 2"),
        ("damaged", f"{where}, line 3"),
        ("damaged", f"{where}, line 4"),
        ("no text", "00000004"),
        ("not text", f"{where}, line 6"),
        ("damaged", f"{where}, line 7"),
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('[{"text": "a"}]', r"is a JSON array; write one JSON object a line, such as"),
        ('[\n{"text": "a"},\n{"text": "b"}\n]', r"is a JSON array; write one JSON object a line"),
        ("5\n", "is no JSON lines; write one JSON object a line"),
        ("", "the table has no rows"),
        ("\n\n", "the table has no rows"),
    ],
)
def test_json_that_is_no_lines_of_objects_is_refused(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "t.jsonl").write_text(content)
    with pytest.raises(DataError, match=message):
        texts(str(tmp_path / "t.jsonl"), labeled=False)


def test_a_damaged_gzip_is_refused(tmp_path: Path) -> None:
    (tmp_path / "t.csv.gz").write_bytes(b"not at all")
    with pytest.raises(DataError, match=r"t\.csv\.gz: cannot be read \("):
        texts(str(tmp_path / "t.csv.gz"))


@pytest.mark.parametrize("name", ["t.parquet.gz", "t.txt.gz", "t.gz"])
def test_other_gzipped_files_are_no_tables(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    assert find_kind(str(tmp_path / name))[0] != "table"


def test_labels_of_json_may_be_of_any_plain_kind(tmp_path: Path) -> None:
    rows = [{"text": str(row), "label": label} for row, label in enumerate([1, 2.0, "3", True, None])]
    found = texts(lines(tmp_path / "t.jsonl", rows))
    assert (found.classes, kinds(found)) == (("1", "2", "3", "True"), [("no label", "00000004")])


def test_numbers_are_texts_too(tmp_path: Path) -> None:
    assert texts(lines(tmp_path / "t.jsonl", [{"text": 5}, {"text": 0.5}]), labeled=False).texts == ["5", "0.5"]


@pytest.mark.parametrize("form", ["jsonl", "parquet"])
@pytest.mark.parametrize("value", [["a", "b"], {"a": "b"}])
def test_texts_that_are_none_are_refused(tmp_path: Path, form: str, value: object) -> None:
    with pytest.raises(DataError, match=rf"row 1: its text is a {type(value).__name__}; give strings, one a sample"):
        texts(written(tmp_path, form, [{"text": value}]), labeled=False)


def test_what_pandas_writes_for_no_text_is_none(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": pa.array([float("nan"), 1.5])}), tmp_path / "t.parquet")
    found = texts(str(tmp_path / "t.parquet"), labeled=False)
    assert (found.texts, kinds(found)) == (["1.5"], [("no text", "00000000")])


def test_class_names_that_hugging_face_writes_are_found_under_another_name(tmp_path: Path) -> None:
    about = {"info": {"features": {"gold": {"names": ["no", "yes"], "_type": "ClassLabel"}}}}
    table = pa.table({"text": ["a", "b", "c"], "gold": [1, 0, -1]})
    pq.write_table(table.replace_schema_metadata({"huggingface": json.dumps(about)}), tmp_path / "t.parquet")
    found = texts(str(tmp_path / "t.parquet"), columns={"label": "gold"})
    assert ([found.classes[number] for number in found.labels()], kinds(found)) == (
        ["yes", "no"],
        [("no label", "00000002")],
    )


def test_texts_are_streamed_as_they_are_read(tmp_path: Path) -> None:
    rows = [{"premise": f"{number}", "text_pair": " b "} for number in range(5)]
    where, columns = written(tmp_path, "jsonl", rows), {"text": "premise"}
    shares = [
        text
        for shard in range(2)
        for chunk in stream_samples(where, shard=shard, shards=2, modality="text", columns=columns)
        for text in chunk.texts or ()
    ]
    assert sorted(shares) == texts(where, labeled=False, columns=columns).texts


def test_several_tables_of_texts_keep_rows_apart(tmp_path: Path) -> None:
    for name in "ab":
        lines(tmp_path / f"{name}.jsonl", [{"text": name}])
    found = texts(f"{tmp_path}/*.jsonl", labeled=False)
    assert (found.ids, found.texts) == (("a.jsonl/00000000", "b.jsonl/00000000"), ["a", "b"])


@pytest.mark.parametrize("where", ["digits", "torchvision:MNIST", "ade20k:there", "list:file@root"])
@pytest.mark.parametrize("modality", ["text", "pair"])
def test_kinds_of_data_that_hold_images_alone_are_refused(where: str, modality: Any) -> None:
    with pytest.raises(
        DataError, match=rf"{modality}s are not read from data of this kind .*; give one of .*table, tar"
    ):
        read_samples(where, labeled=False, modality=modality)
