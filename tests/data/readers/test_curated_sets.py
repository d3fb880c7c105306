from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tutelage.curation.transfer_set import TransferSet, write_transfer_set
from tutelage.data.readers import check_data, read_samples
from tutelage.data.readers.kinds import find_kind
from tutelage.data.readers.stream import stream_samples
from tutelage.errors import DataError
from tutelage.run import LOCK, MANIFEST

if TYPE_CHECKING:
    from conftest import MakeImages


def write(path: Path, gallery: str) -> Path:
    whole = np.tile(np.array([0, 0, 1, 1], np.float32), (3, 1))
    whole[0] = [0, 0.5, 0.5, 0.5]
    nothing = np.full(3, np.nan, np.float32)
    found = TransferSet(
        ("x/1.png", "2.png", "digits/0002"),
        (gallery, gallery, "digits"),
        np.array([True, True, False]),
        np.array([3, -1, -1]),
        whole,
        np.array([0, 1, -1]),
        ("digits/0002", "digits/0002", None),
        nothing,
        {},
        np.zeros(3, dtype=bool),
        {"gallery": gallery, "strategy": "best-matches"},
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    write_transfer_set(path, found)
    return path


@pytest.fixture
def gallery(tmp_path: Path, make_images: MakeImages) -> Path:
    return make_images(tmp_path / "gallery", ["x/1.png", "2.png", "3.png"])


@pytest.fixture
def run(tmp_path: Path, gallery: Path) -> Path:
    """A run folder with a finished curation."""
    stage = write(tmp_path / "run" / "02-curate" / "transfer.parquet", str(gallery)).parent
    (stage / MANIFEST).write_text("{}")
    (stage.parent / LOCK).touch()
    return stage.parent


@pytest.mark.parametrize("name", ["{}", "{}/02-curate", "{}/02-curate/transfer.parquet", "curated:{}"])
def test_a_transfer_set_is_read_by_its_file_or_its_folders(run: Path, name: str) -> None:
    where = name.format(run)
    check_data(where)
    found = read_samples(where, labeled=False)
    assert (find_kind(where)[0], found.ids) == ("curated", ("x/1.png#3", "2.png", "digits/0002"))


def test_a_transfer_set_may_have_another_name(tmp_path: Path, gallery: Path) -> None:
    assert find_kind(str(write(tmp_path / "mine.parquet", str(gallery))))[0] == "curated"


def test_a_transfer_set_is_streamed_as_it_is_read(run: Path) -> None:
    read = read_samples(str(run), labeled=False)
    assert [name for chunk in stream_samples(str(run)) for name in chunk.ids] == list(read.ids)


def test_a_transfer_set_of_images_is_none_of_texts(run: Path) -> None:
    with pytest.raises(DataError, match="is a transfer set of images, and texts are wanted here; curate another"):
        read_samples(str(run), labeled=False, modality="text")


def test_a_table_is_no_transfer_set(gallery: Path) -> None:
    pq.write_table(pa.table({"image": ["2.png"]}), gallery / "transfer.parquet")
    assert find_kind(str(gallery / "transfer.parquet"))[0] == "table"
    assert find_kind(str(gallery))[0] == "folder"


def test_a_transfer_set_has_no_labels(run: Path) -> None:
    with pytest.raises(DataError, match=r"which has no labels; give it as data\.transfer"):
        read_samples(str(run), labeled=True)


def test_an_unfinished_curation_is_refused(run: Path) -> None:
    (run / "02-curate" / MANIFEST).unlink()
    with pytest.raises(DataError, match="was not finished"):
        check_data(str(run))


def test_of_several_transfer_sets_one_has_to_be_named(run: Path) -> None:
    shutil.copytree(run / "02-curate", run / "05-curate")
    with pytest.raises(DataError, match=r"several transfer sets: .*02-curate.*05-curate.*; name the one"):
        check_data(str(run))


def test_data_that_the_transfer_set_names_have_to_be_there(run: Path, gallery: Path) -> None:
    gallery.rename(gallery.with_name("moved"))
    for look in (check_data, lambda where: read_samples(where, labeled=False)):
        with pytest.raises(DataError, match=r"transfer\.parquet: has images of .*gallery, which cannot be read here"):
            look(str(run))


def test_a_damaged_transfer_set_in_a_run_is_told(run: Path) -> None:
    (run / "02-curate" / "transfer.parquet").write_bytes(b"PAR1")
    with pytest.raises(DataError, match=r"transfer\.parquet: cannot be read"):
        check_data(str(run))


def test_a_named_transfer_set_has_to_be_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"holds no transfer\.parquet"):
        check_data(f"curated:{tmp_path}")
    with pytest.raises(DataError, match="is not there"):
        check_data(f"curated:{tmp_path}/none.parquet")


def test_transfer_sets_are_read_on_this_machine() -> None:
    with pytest.raises(DataError, match="read on this machine"):
        check_data("curated:s3://bucket/transfer.parquet")
