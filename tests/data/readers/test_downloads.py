"""Image-text collections as they are published and as downloaders leave them: CC3M, YFCC15M, DataComp."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tutelage.data.readers import check_data, read_samples
from tutelage.data.samples import Samples, Stored
from tutelage.errors import DataError, UnknownNameError

if TYPE_CHECKING:
    from conftest import Archives, MakeImages, Pictures


def content(samples: Samples) -> list[bytes]:
    assert samples.images is not None
    return [image.read() for image in samples.images if isinstance(image, Stored)]


def written(folder: Path, number: int, picture: Pictures, **columns: Any) -> Path:
    """Write a Parquet file as img2dataset does: a row a downloaded image."""
    rows = {
        "key": [f"{number:05d}{row:04d}" for row in range(2)],
        "url": ["https://somewhere"] * 2,
        "caption": [f"caption {number} {row}" for row in range(2)],
        "status": ["success"] * 2,
        "jpg": [picture(2 * number + row) for row in range(2)],
        **columns,
    }
    folder.mkdir(exist_ok=True)
    path = folder / f"{number:05d}.parquet"
    pq.write_table(pa.table({name: values for name, values in rows.items() if values is not None}), path)
    (folder / f"{number:05d}_stats.json").write_text("{}")
    return path


@pytest.mark.parametrize("text", ["txt", "json", "both"])
def test_shards_of_a_downloader_give_images_and_captions(
    tmp_path: Path, archive: Archives, picture: Pictures, text: str
) -> None:
    """As img2dataset and datacomp's download leave them, with a table and statistics beside each archive."""
    for shard in range(2):
        members = []
        for row in range(2):
            key, caption = f"{shard:05d}{row:04d}", f"caption {shard} {row}"
            members.append((f"{key}.jpg", picture(2 * shard + row)))
            if text != "json":
                members.append((f"{key}.txt", caption.encode()))
            about = {
                "caption": caption if text == "json" else "another one",
                "key": key,
                "width": 7,
                "url": "https://x",
            }
            if text != "txt":
                members.append((f"{key}.json", json.dumps(about).encode()))
        archive(tmp_path / "pairs" / f"{shard:05d}.tar", members)
        (tmp_path / "pairs" / f"{shard:05d}_stats.json").write_text("{}")
        pq.write_table(pa.table({"key": ["1"]}), tmp_path / "pairs" / f"{shard:05d}.parquet")
    found = read_samples(str(tmp_path / "pairs"), labeled=False, modality="pair")
    assert content(found) == [picture(number) for number in range(4)]
    assert found.texts == [f"caption {shard} {row}" for shard in range(2) for row in range(2)]
    assert found.problems == ()


def test_a_json_s_text_goes_before_its_caption(tmp_path: Path, archive: Archives, picture: Pictures) -> None:
    where = archive(tmp_path / "t.tar", [("1.jpg", picture(1)), ("1.json", b'{"caption": "a", "text": "b"}')])
    assert read_samples(str(where), labeled=False, modality="pair").texts == ["b"]


@pytest.mark.parametrize("form", ["/*.parquet", "/{00000..00001}.parquet", "/00000.parquet"])
def test_parquet_of_a_downloader_gives_images_and_captions(tmp_path: Path, picture: Pictures, form: str) -> None:
    for number in range(2):
        written(tmp_path / "pairs", number, picture)
    where, count = f"{tmp_path / 'pairs'}{form}", 1 if form.startswith("/00000") else 2
    check_data(where)
    found = read_samples(where, labeled=False, modality="pair")
    assert content(found) == [picture(number) for number in range(2 * count)]
    assert found.texts == [f"caption {number} {row}" for number in range(count) for row in range(2)]
    assert found.ids[0] == ("000000000" if count == 1 else "00000.parquet/000000000")


@pytest.mark.parametrize(
    ("columns", "caption"),
    [
        ({"jpg": None, "png": "jpg"}, "caption 0 0"),
        ({"caption": None, "txt": ["of a .txt", "another"]}, "of a .txt"),
        ({"text": ["its own", "another"]}, "its own"),
    ],
)
def test_other_forms_of_a_downloader_s_columns_are_known(
    tmp_path: Path, picture: Pictures, columns: dict[str, Any], caption: str
) -> None:
    if columns.get("png"):
        columns = {**columns, "png": [picture(0), picture(1)]}
    found = read_samples(str(written(tmp_path, 0, picture, **columns)), labeled=False, modality="pair")
    assert found.texts is not None
    assert (content(found), found.texts[0]) == ([picture(0), picture(1)], caption)


def test_such_columns_of_another_table_are_not_guessed(tmp_path: Path, picture: Pictures) -> None:
    with pytest.raises(DataError, match="has no column 'image'"):
        read_samples(str(written(tmp_path, 0, picture, key=None)), labeled=False)


def test_a_file_that_cannot_be_read_is_named_among_several(tmp_path: Path, picture: Pictures) -> None:
    written(tmp_path, 0, picture)
    (tmp_path / "00001.parquet").write_bytes(b"none")
    with pytest.raises(DataError, match=r"00001\.parquet"):
        read_samples(f"{tmp_path}/*.parquet", labeled=False)


def test_a_missing_table_of_a_range_is_named(tmp_path: Path, picture: Pictures) -> None:
    written(tmp_path, 0, picture)
    with pytest.raises(UnknownNameError, match=r"00001\.parquet"):
        check_data(f"{tmp_path}/{{00000..00001}}.parquet")


def test_a_pattern_without_a_table_says_which_files_it_looked_for(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no shard has such a name; expected files ending in \.csv"):
        check_data(f"{tmp_path}/*.csv")


def test_a_table_with_braces_in_its_name_is_one_table(tmp_path: Path, make_images: MakeImages) -> None:
    make_images(tmp_path, ["1.png"])
    (tmp_path / "t{1..9}.csv").write_text("image,text\n1.png,a dog\n")
    assert read_samples(str(tmp_path / "t{1..9}.csv"), labeled=False).ids == ("1.png",)


def test_several_csv_files_keep_rows_apart(tmp_path: Path, make_images: MakeImages) -> None:
    make_images(tmp_path, ["1.png"])
    for name in "ab":
        (tmp_path / f"{name}.csv").write_text(f"image,text\n1.png,{name}\n")
    found = read_samples(f"{tmp_path}/*.csv", labeled=False, modality="pair")
    assert (found.ids, found.texts) == (("a.csv/1.png", "b.csv/1.png"), ["a", "b"])


@pytest.mark.parametrize("name", ["Train_GCC-training.tsv", "list.csv"])
def test_a_list_of_addresses_says_that_it_must_be_downloaded_first(tmp_path: Path, name: str) -> None:
    """CC3M is published so: a caption and an address a line, no header."""
    separator = "\t" if name.endswith("tsv") else ","
    lines = [f"a very typical bus station{separator}http://somewhere/1.jpg", f"sierra{separator}https://else/2.jpg"]
    (tmp_path / name).write_text("\n".join(lines))
    with pytest.raises(DataError, match=r"has no header, and looks like a list .*download the images first"):
        read_samples(str(tmp_path / name), labeled=False)
