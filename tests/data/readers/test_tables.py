from __future__ import annotations

import concurrent.futures
import pickle
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tutelage.data.pixels import decode_pixels
from tutelage.data.readers import check_data, read_samples
from tutelage.data.readers.parquet import ParquetFile
from tutelage.data.samples import Samples, Stored
from tutelage.errors import DataError, UnknownNameError

if TYPE_CHECKING:
    from conftest import MakeImages, Pictures


def csv(folder: Path, *lines: str, name: str = "t.csv", encoding: str = "utf-8") -> str:
    folder.mkdir(exist_ok=True)
    (folder / name).write_bytes("".join(f"{line}\n" for line in lines).encode(encoding))
    return str(folder / name)


def kinds(samples: Samples) -> list[tuple[str, str]]:
    return [(problem.kind, problem.where) for problem in samples.problems]


@pytest.fixture
def folder(tmp_path: Path, make_images: MakeImages) -> Path:
    return make_images(tmp_path / "data", ["x/1.png", "x/2.png", "3.png"])


def test_a_csv_gives_images_beside_it_and_their_classes(folder: Path) -> None:
    found = read_samples(csv(folder, "image,label", "x/1.png,dog", "3.png,cat"), labeled=True)
    assert (found.ids, found.classes, found.labels().tolist()) == (("x/1.png", "3.png"), ("cat", "dog"), [1, 0])
    assert found.images == [folder / "x/1.png", folder / "3.png"]


def test_a_tsv_is_separated_by_tabs(folder: Path) -> None:
    where = csv(folder, "image\tlabel", "x/1.png\ta, b", name="t.tsv")
    assert read_samples(where, labeled=True).classes == ("a, b",)


def test_texts_and_ids_of_their_own_are_taken(folder: Path) -> None:
    found = read_samples(csv(folder, "id,image,text", 'one,x/1.png,"a dog, asleep"'), labeled=False, modality="pair")
    assert (found.ids, found.texts) == (("one",), ["a dog, asleep"])


def test_texts_need_no_images(folder: Path) -> None:
    found = read_samples(csv(folder, "text,label", "hello,a", "bye,b"), labeled=True, modality="text")
    assert (found.ids, found.images, found.texts) == (("00000000", "00000001"), None, ["hello", "bye"])


def test_labels_are_not_looked_at_where_none_are_wanted(folder: Path) -> None:
    found = read_samples(csv(folder, "image,label", "x/1.png,0.25"), labeled=False)
    assert (found.targets, found.classes) == (None, ())


def test_whole_paths_are_taken_anywhere(tmp_path: Path, folder: Path) -> None:
    where = csv(tmp_path / "tables", "image", str(folder / "3.png"))
    assert read_samples(where, labeled=False).ids == (str(folder / "3.png"),)


def test_paths_may_lead_up(tmp_path: Path, folder: Path) -> None:
    where = csv(tmp_path / "tables", "image", "../data/x/../3.png")
    assert read_samples(where, labeled=False).ids == ("../data/3.png",)


def test_one_image_has_one_id_however_it_is_written(folder: Path) -> None:
    found = read_samples(csv(folder, "image", "x/1.png", "./x/1.png", str(folder / "x/1.png")), labeled=False)
    assert (found.ids, [kind for kind, _ in kinds(found)]) == (("x/1.png",), ["duplicate id", "duplicate id"])


def test_the_first_of_rows_with_one_id_is_kept(folder: Path) -> None:
    found = read_samples(csv(folder, "id,image,label", "a,x/1.png,p", "a,3.png,q"), labeled=True)
    assert (found.images, found.classes) == ([folder / "x/1.png"], ("p",))


def test_missing_files_are_left_out(folder: Path) -> None:
    found = read_samples(csv(folder, "image", "x/1.png", "gone.png"), labeled=False)
    assert (found.ids, kinds(found)) == (("x/1.png",), [("vanished", "gone.png")])


def test_rows_without_a_label_are_left_out_of_labeled_data(folder: Path) -> None:
    found = read_samples(csv(folder, "image,label", "x/1.png,a", "3.png,"), labeled=True)
    assert (found.ids, kinds(found)) == (("x/1.png",), [("no label", "3.png")])


def test_rows_without_an_image_are_left_out(folder: Path) -> None:
    where = csv(folder, "image,label", ",a", "3.png,a")
    assert kinds(read_samples(where, labeled=True)) == [("no image", f"{where}, row 1")]


def test_a_table_without_any_label_is_no_labeled_data(folder: Path) -> None:
    with pytest.raises(DataError, match=r"none of 1 samples has a label.*fill in the column label"):
        read_samples(csv(folder, "image,label", "x/1.png,"), labeled=True)


def test_whole_numbers_that_pandas_made_floats_are_whole_again(folder: Path) -> None:
    where = csv(folder, "image,label", "x/1.png,10.0", "x/2.png,", "3.png,2.0")
    assert read_samples(where, labeled=True).classes == ("10", "2")


def test_numbers_that_are_not_whole_are_no_labels(folder: Path) -> None:
    with pytest.raises(DataError, match=r"t\.csv: label 0\.5 names no class; give text or whole numbers"):
        read_samples(csv(folder, "image,label", "x/1.png,0.5", "3.png,1.0"), labeled=True)


def test_leading_zeros_are_part_of_a_class(folder: Path) -> None:
    assert read_samples(csv(folder, "image,label", "x/1.png,007", "3.png,7"), labeled=True).classes == ("007", "7")


@pytest.mark.parametrize(
    ("header", "missing", "remedy"),
    [
        ("imag,label", "image", "rename 'imag'"),
        ("File_Name,label", "image", "rename 'File_Name'"),
        ("image,category", "label", "rename 'category'"),
        ("image,zzz", "label", "add it"),
    ],
)
def test_a_missing_column_is_answered_with_those_there_are(
    folder: Path, header: str, missing: str, remedy: str
) -> None:
    expected = rf"has no column '{missing}'; its columns are {header.replace(',', ', ')}; {remedy}"
    with pytest.raises(DataError, match=expected):
        read_samples(csv(folder, header, "x/1.png,a"), labeled=True)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([], "is empty; write a header"),
        (["image,label"], "has no rows"),
        (["image,label", "x/1.png,a,b"], "line 2: has 3 fields, the header 2"),
        (["image,label", "x/1.png,a", "x/2.png"], "line 3: has 1 fields, the header 2"),
        (["image,label", '"x/1.png,a'], "line 2: is no valid CSV"),
        (["image,label,label", "x/1.png,a,b"], "several columns label"),
    ],
)
def test_a_broken_table_is_refused_with_the_place(folder: Path, lines: list[str], message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_samples(csv(folder, *lines), labeled=True)


def test_a_table_that_is_not_utf8_is_refused_with_the_line(folder: Path) -> None:
    with pytest.raises(DataError, match="line 2: is not UTF-8; save the table as UTF-8"):
        read_samples(csv(folder, "image,label", "x/1.png,café", encoding="latin-1"), labeled=True)


def test_the_mark_that_spreadsheets_write_is_no_part_of_a_column(folder: Path) -> None:
    where = csv(folder, "image,label", "x/1.png,a", encoding="utf-8-sig")
    assert read_samples(where, labeled=True).ids == ("x/1.png",)


def test_a_misspelled_table_is_answered_with_the_close_one(folder: Path) -> None:
    csv(folder, "image", name="train.csv")
    with pytest.raises(UnknownNameError, match=r"unknown file 'trian.csv'; did you mean 'train.csv'\?"):
        check_data(str(folder / "trian.csv"))


def write(path: Path, columns: dict[str, Any], per_group: int = 2) -> str:
    path.parent.mkdir(exist_ok=True)
    pq.write_table(pa.table(columns), path, row_group_size=per_group)
    return str(path)


def content(samples: Samples) -> list[bytes]:
    assert samples.images is not None
    read = []
    for image in samples.images:
        assert isinstance(image, Stored)
        read.append(image.read())
    return read


def test_a_parquet_of_bytes_gives_each_image_back(tmp_path: Path, picture: Pictures) -> None:
    pictures = [picture(number) for number in range(5)]
    where = write(tmp_path / "t.parquet", {"image": pictures, "label": list("ababa")})
    found = read_samples(where, labeled=True)
    assert content(found) == pictures
    assert found.labels().tolist() == [0, 1, 0, 1, 0]


def test_a_parquet_of_structs_gives_bytes_or_else_the_file(folder: Path, picture: Pictures) -> None:
    cells = [{"bytes": picture(1), "path": "1.png"}, {"bytes": None, "path": "3.png"}, None]
    found = read_samples(write(folder / "t.parquet", {"image": cells}, 3), labeled=False)
    assert found.images is not None
    assert content(found.subset(np.array([0]))) == [picture(1)]
    assert found.images[1] == folder / "3.png"
    assert [kind for kind, _ in kinds(found)] == ["no image"]


def test_a_parquet_of_paths_reads_the_files(folder: Path) -> None:
    found = read_samples(write(folder / "t.parquet", {"image": ["x/1.png", "3.png"], "label": [1, 0]}), labeled=True)
    assert (found.images, found.classes) == ([folder / "x/1.png", folder / "3.png"], ("0", "1"))


def test_a_cell_decodes_like_any_image(tmp_path: Path, picture: Pictures) -> None:
    found = read_samples(write(tmp_path / "t.parquet", {"image": [picture(3)]}), labeled=False)
    assert found.images is not None
    assert np.array_equal(decode_pixels(found.images[0]), decode_pixels(picture(3)))


def test_reading_a_parquet_holds_no_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    where = write(tmp_path / "t.parquet", {"image": [b"x" * 1000] * 4, "label": list("abab"), "text": list("pqrs")})
    asked: list[list[str]] = []
    read = pq.ParquetFile.read_row_group

    def spy(self: Any, group: int, columns: Any = None, **options: Any) -> Any:
        asked.append(columns)
        return read(self, group, columns=columns, **options)

    monkeypatch.setattr(pq.ParquetFile, "read_row_group", spy)
    read_samples(where, labeled=True, modality="pair")
    assert [sorted(columns) for columns in asked] == [["label", "text"]] * 2


def test_one_row_group_is_held_at_a_time(tmp_path: Path, picture: Pictures, monkeypatch: pytest.MonkeyPatch) -> None:
    where = write(tmp_path / "t.parquet", {"image": [picture(number) for number in range(4)]})
    found = read_samples(where, labeled=False)
    groups: list[int] = []
    read = pq.ParquetFile.read_row_group

    def spy(self: Any, group: int, **options: Any) -> Any:
        groups.append(group)
        return read(self, group, **options)

    monkeypatch.setattr(pq.ParquetFile, "read_row_group", spy)
    content(found)
    content(found)
    assert groups == [0, 1, 0, 1]


def test_threads_get_their_own_cells(tmp_path: Path, picture: Pictures) -> None:
    pictures = [picture(number) for number in range(12)]
    found = read_samples(write(tmp_path / "t.parquet", {"image": pictures}), labeled=False)
    order = np.random.default_rng(0).integers(0, 12, 300)
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        read = list(pool.map(lambda row: content(found.subset(np.array([row])))[0], order))
    assert read == [pictures[row] for row in order]


def test_cells_go_to_other_processes(tmp_path: Path, picture: Pictures) -> None:
    found = read_samples(write(tmp_path / "t.parquet", {"image": [picture(1)]}), labeled=False)
    content(found)
    assert content(pickle.loads(pickle.dumps(found))) == [picture(1)]


def test_a_changed_table_has_another_fingerprint(tmp_path: Path, picture: Pictures) -> None:
    where = write(tmp_path / "t.parquet", {"image": [picture(1)]})
    before = read_samples(where, labeled=False).fingerprint
    write(tmp_path / "t.parquet", {"image": [picture(2)]})
    assert read_samples(where, labeled=False).fingerprint != before


@pytest.mark.parametrize(
    ("labels", "what"),
    [([0.5, 1.0], "label 0.5"), ([[1], [2]], "label a list"), ([{"a": 1}] * 2, "label a dict")],
)
def test_labels_that_name_no_class_are_refused(tmp_path: Path, labels: list[Any], what: str) -> None:
    where = write(tmp_path / "t.parquet", {"image": [b"x", b"y"], "label": labels})
    with pytest.raises(DataError, match=rf"{what} names no class"):
        read_samples(where, labeled=True)


def test_whole_floats_and_nothing_are_a_class_and_no_label(tmp_path: Path) -> None:
    where = write(tmp_path / "t.parquet", {"image": [b"x", b"y"], "label": [3.0, None]})
    found = read_samples(where, labeled=True)
    assert (found.classes, [kind for kind, _ in kinds(found)]) == (("3",), ["no label"])


def test_an_image_column_of_numbers_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="column image holds int64; give paths, image bytes, or structs"):
        read_samples(write(tmp_path / "t.parquet", {"image": [1, 2]}), labeled=False)


def test_a_file_that_is_no_parquet_is_refused(tmp_path: Path) -> None:
    (tmp_path / "t.parquet").write_bytes(b"not at all")
    with pytest.raises(DataError, match=r"t\.parquet: cannot be read \("):
        read_samples(str(tmp_path / "t.parquet"), labeled=False)


def test_a_parquet_without_counts_of_nulls_is_looked_through(tmp_path: Path) -> None:
    table = pa.table({"image": [{"bytes": b"x", "path": None}, {"bytes": None, "path": None}]})
    pq.write_table(table, tmp_path / "t.parquet", write_statistics=False)
    from tutelage.data.readers.places import find_place

    file = ParquetFile(find_place(str(tmp_path / "t.parquet")))
    assert file.present(0, "image.bytes") == [True, False]


def test_a_parquet_of_repeated_paths_is_read(folder: Path) -> None:
    paths = pa.array(["x/1.png", "3.png"]).dictionary_encode()
    found = read_samples(write(folder / "t.parquet", {"image": paths}), labeled=False)
    assert found.images == [folder / "x/1.png", folder / "3.png"]
