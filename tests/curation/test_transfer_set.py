from __future__ import annotations

import dataclasses
import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from tutelage.curation import gallery as gallery_module
from tutelage.curation.transfer_set import TransferSet, read_transfer_set, samples_of, write_transfer_set
from tutelage.data.mask_codes import MaskReading
from tutelage.data.pixels import decode_pixels
from tutelage.data.readers import read_samples
from tutelage.data.samples import CutOut
from tutelage.errors import DataError

ABOUT = {
    "gallery": "somewhere",
    "encoders": ["timm:a", "openclip:B/c"],
    "strategy": "query-balanced",
    "size": 3,
    "k": 2,
}
BOXES = np.array([[0.1, 0.2, 0.3, 0.4], [0, 0, 1, 1], [0.5, 0.25, 0.5, 0.75], [0, 0, 1, 1]], np.float32)


def table(
    ids: Sequence[str], sources: Sequence[str], *, queries: int = 0, numbers: Sequence[int] | None = None
) -> TransferSet:
    """So many items, of which the last are queries."""
    count = len(ids)
    similarity = np.linspace(0.9, 0.1, count).astype(np.float32)
    retrieved = np.arange(count) < count - queries
    similarity[~retrieved] = np.nan
    cut = np.array(numbers if numbers is not None else [-1] * count)
    boxes = np.tile(np.array([0, 0, 1, 1], np.float32), (count, 1))
    boxes[cut >= 0] = [0.25, 0.5, 0.5, 0.25]
    return TransferSet(
        tuple(ids),
        tuple(sources),
        retrieved,
        cut,
        boxes,
        np.where(retrieved, np.arange(count), -1),
        tuple("q" if each else None for each in retrieved),
        similarity,
        {"timm:a": similarity / 2, "openclip:B/c": similarity},
        np.arange(count) == 0,
        ABOUT,
    )


def pictures(folder: Path, names: Sequence[str], seed: int = 0) -> Path:
    for number, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng([seed, number]).integers(0, 256, (8, 12, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path)
    return folder


@pytest.fixture
def made(tmp_path: Path) -> Path:
    found = dataclasses.replace(table("abcd", "xxxy", queries=1, numbers=[2, -1, 0, -1]), boxes=BOXES)
    write_transfer_set(tmp_path / "transfer.parquet", found)
    return tmp_path / "transfer.parquet"


def altered(path: Path, columns: Mapping[str, Any] | None = None, metadata: Mapping[str, Any] | None = None) -> Path:
    """Change a written file's columns (``None`` removes one), or what its metadata say."""
    held = pq.read_table(path)
    about = json.loads(held.schema.metadata[b"tutelage"]) | (metadata or {})
    for name, values in (columns or {}).items():
        place = held.column_names.index(name)
        held = held.remove_column(place) if values is None else held.set_column(place, name, values)
    pq.write_table(held.replace_schema_metadata({b"tutelage": json.dumps(about).encode()}), path)
    return path


def test_what_is_written_is_read(made: Path) -> None:
    found, expected = read_transfer_set(made), table("abcd", "xxxy", queries=1, numbers=[2, -1, 0, -1])
    for field in dataclasses.fields(TransferSet):
        one, other = getattr(found, field.name), getattr(expected, field.name)
        if field.name == "similarities":
            assert list(one) == list(other)
            for name, values in one.items():
                np.testing.assert_array_equal(values, other[name])
        elif field.name == "boxes":
            np.testing.assert_array_equal(one, BOXES)
        elif isinstance(other, np.ndarray):
            np.testing.assert_array_equal(one, other)
        else:
            assert one == other


def test_other_tools_find_the_columns_that_were_promised(made: Path) -> None:
    rows = pq.read_table(made).to_pylist()
    assert list(rows[0]) == [
        *("id", "source", "kind", "number", "left", "top", "width", "height", "rank", "query", "similarity"),
        *("similarity.timm:a", "similarity.openclip:B/c", "suspect"),
    ]
    box = {
        name: pytest.approx(value) for name, value in (("top", 0.1), ("left", 0.2), ("height", 0.3), ("width", 0.4))
    }
    assert rows[0] | box == rows[0]
    assert [row["kind"] for row in rows] == ["retrieved"] * 3 + ["query"]
    assert (rows[3]["query"], rows[3]["similarity"], rows[3]["similarity.timm:a"]) == (None, None, None)
    about = json.loads(pq.read_schema(made).metadata[b"tutelage"])
    assert about == {"transfer_set": 1, **ABOUT}


def test_a_set_that_nothing_was_searched_for_is_written(tmp_path: Path) -> None:
    nothing = np.full(2, np.nan, np.float32)
    found = dataclasses.replace(table("ab", "xx"), queries=(None, None), similarity=nothing, similarities={})
    write_transfer_set(tmp_path / "t.parquet", found)
    read = read_transfer_set(tmp_path / "t.parquet")
    assert (read.queries, read.similarities) == ((None, None), {})
    assert np.isnan(read.similarity).all()


@pytest.mark.parametrize("change", [{"ids": ("a",)}, {"boxes": np.zeros((2, 3))}, {"ranks": np.zeros((2, 1))}])
def test_columns_of_other_lengths_are_a_mistake(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="items, got"):
        dataclasses.replace(table("ab", "xx"), **change)


def test_a_file_that_is_gone_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no\.parquet: is not there"):
        read_transfer_set(tmp_path / "no.parquet")


@pytest.mark.parametrize("keep", [0, 3, 100, -20])
def test_a_damaged_file_is_told(made: Path, keep: int) -> None:
    made.write_bytes(made.read_bytes()[:keep])
    with pytest.raises(DataError, match=r"transfer\.parquet: cannot be read \(.+\); curate it again"):
        read_transfer_set(made)


def test_another_table_is_told(tmp_path: Path) -> None:
    pq.write_table(pa.table({"image": ["a.png"]}), tmp_path / "t.parquet")
    with pytest.raises(DataError, match=r"is no transfer set; give the transfer\.parquet"):
        read_transfer_set(tmp_path / "t.parquet")


def test_a_file_of_a_newer_version_is_told(made: Path) -> None:
    with pytest.raises(DataError, match="written by a newer version"):
        read_transfer_set(altered(made, metadata={"transfer_set": 2}))


@pytest.mark.parametrize(
    ("columns", "problem"),
    [
        ({"number": None}, "has no column number of type int32"),
        ({"id": pa.array([1, 2, 3, 4])}, "has no column id of type string"),
        ({"id": pa.array(["a", None, "c", "d"])}, "row 2 has no id"),
        ({"kind": pa.array(["retrieved", "query", "odd", "query"])}, "of kind 'odd'"),
        ({"similarity.timm:a": pa.array(["a", "b", "c", "d"])}, "no column similarity.timm:a of type float"),
    ],
)
def test_columns_that_cannot_be_are_told(made: Path, columns: dict[str, Any], problem: str) -> None:
    with pytest.raises(DataError, match=problem):
        read_transfer_set(altered(made, columns))


def test_samples_are_what_was_retrieved_and_the_queries(tmp_path: Path) -> None:
    gallery = pictures(tmp_path / "gallery", ["a.png", "x/b.png", "c.png"])
    labeled = pictures(tmp_path / "labeled", ["cat/1.png", "dog/2.png"], seed=1)
    found = samples_of(table(["x/b.png", "a.png", "dog/2.png"], [str(gallery)] * 2 + [str(labeled)], queries=1))
    assert found.ids == ("x/b.png", "a.png", "dog/2.png")
    assert found.images == [gallery / "x/b.png", gallery / "a.png", labeled / "dog/2.png"]
    assert (found.targets, found.texts, found.classes) == (None, None, ())


def test_the_origin_says_what_they_are(tmp_path: Path) -> None:
    gallery = str(pictures(tmp_path / "gallery", ["a.png", "b.png"]))
    found = samples_of(table(["a.png", "b.png"], [gallery, gallery], queries=1))
    assert found.origin == "transfer set of somewhere (1 retrieved by query-balanced, 1 query)"


def test_crops_are_numbered_and_share_their_image(tmp_path: Path) -> None:
    gallery = str(pictures(tmp_path / "gallery", ["a.png", "b.png"]))
    found = samples_of(table(["a.png", "b.png", "a.png"], [gallery] * 3, numbers=[4, 0, 1]))
    assert found.ids == ("a.png#4", "b.png#0", "a.png#1")
    first, _, last = found.images or ()
    assert isinstance(first, CutOut)
    assert isinstance(last, CutOut)
    assert first.box == (0.25, 0.5, 0.5, 0.25)
    assert first.source is last.source


def test_crops_are_cut_out_of_their_images(tmp_path: Path) -> None:
    gallery = pictures(tmp_path / "gallery", ["a.png"])
    (crop,) = samples_of(table(["a.png"], [str(gallery)], numbers=[0])).images or ()
    assert np.array_equal(decode_pixels(crop), decode_pixels(gallery / "a.png")[2:6, 6:9])


def test_a_query_with_an_id_of_the_gallery_is_told_apart(tmp_path: Path) -> None:
    places = [str(pictures(tmp_path / name, ["a/1.png"])) for name in ("gallery", "labeled")]
    assert samples_of(table(["a/1.png"] * 2, places, queries=1)).ids == ("a/1.png", "a/1.png (query)")


def test_no_two_ids_are_the_same_whatever_images_are_called(tmp_path: Path) -> None:
    names = ["a.png", "a.png#0.png", "a.png (query)"]
    rows = "".join(f"{name},x.png\n" for name in ("a.png", "a.png#0", "a.png (query)"))
    folder = pictures(tmp_path / "data", ["x.png", *names[:1]])
    (folder / "t.csv").write_text(f"id,image\n{rows}")
    where = str(folder / "t.csv")
    ids = ["a.png", "a.png#0", "a.png", "a.png (query)", "a.png"]
    found = samples_of(table(ids, [where] * 5, queries=1, numbers=[0, -1, -1, -1, -1]))
    assert len(set(found.ids)) == 5


def test_data_are_read_through_once_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gallery, labeled = (str(pictures(tmp_path / name, ["a/1.png", "a/2.png"])) for name in ("gallery", "labeled"))
    read: list[str] = []
    stream = gallery_module.stream_samples
    monkeypatch.setattr(
        gallery_module, "stream_samples", lambda where, **how: read.append(where) or stream(where, **how)
    )
    samples_of(table(["a/1.png", "a/2.png", "a/2.png"], [gallery, gallery, labeled], queries=1))
    assert sorted(read) == [gallery, labeled]


def test_an_image_that_is_gone_is_told(tmp_path: Path) -> None:
    gallery = pictures(tmp_path / "gallery", ["a.png", "b.png"])
    with pytest.raises(DataError, match=r"gallery: lacks 1 images that it had, such as c\.png"):
        samples_of(table(["a.png", "c.png"], [str(gallery)] * 2))


def tar(path: Path) -> str:
    with tarfile.open(path, "w") as archive:
        for number in range(4):
            file = io.BytesIO()
            Image.new("RGB", (6, 5), (number, 0, 0)).save(file, "PNG")
            for ending, content in (("png", file.getvalue()), ("cls", b"cat" if number % 2 else b"dog")):
                header = tarfile.TarInfo(f"{number}.{ending}")
                header.size = len(content)
                archive.addfile(header, io.BytesIO(content))
    return str(path)


@pytest.fixture(params=["folder", "csv", "numbered", "parquet", "list", "tar", "digits", "masks"])
def labeled(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, MaskReading | None]:
    """Labeled data of each kind, and how their masks are read."""
    names = ["cat/1.png", "dog/2.png", "cat/3.png"]
    folder = pictures(tmp_path / "data", names)
    rows = "".join(f"{name},{name[:3]}\n" for name in names)
    if request.param == "csv":
        (folder / "t.csv").write_text(f"image,label\n{rows}cat/3.png,\n")
        return str(folder / "t.csv"), None
    if request.param in ("numbered", "parquet"):
        content = [(folder / name).read_bytes() for name in names]
        columns = {"image": content, "label": ["cat", "dog", None]}
        columns |= {"id": ["one", "two", "three"]} if request.param == "parquet" else {}
        pq.write_table(pa.table(columns), folder / "t.parquet")
        return str(folder / "t.parquet"), None
    if request.param == "list":
        (tmp_path / "list.txt").write_text(rows.replace("cat/1.png", "1"))
        return f"list:{tmp_path / 'list.txt'}@{folder}", None
    if request.param == "masks":
        pair = pictures(tmp_path / "pairs", ["images/a/1.png", "images/2.png"])
        for name in ("masks/a/1.png", "masks/2.png"):
            (pair / name).parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.zeros((8, 12), np.uint8)).save(pair / name)
        return str(pair), MaskReading()
    if request.param == "tar":
        return tar(tmp_path / "a.tar"), None
    return ("digits" if request.param == "digits" else str(folder)), None


def test_queries_are_found_by_the_ids_that_they_are_labeled_under(labeled: tuple[str, MaskReading | None]) -> None:
    where, reading = labeled
    known = read_samples(where, labeled=True, masks=reading)
    some = known.subset(np.arange(len(known))[:: max(1, len(known) // 4)])
    found = samples_of(table(some.ids, [where] * len(some), queries=len(some)))
    assert found.ids == some.ids
    for one, other in zip(found.images or (), some.images or (), strict=True):
        assert np.array_equal(decode_pixels(one), decode_pixels(other))
