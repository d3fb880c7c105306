from __future__ import annotations

import concurrent.futures
import pickle
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tutelage.data.pixels import decode_pixels
from tutelage.data.readers import check_data, read_samples
from tutelage.data.samples import Samples, Stored
from tutelage.errors import DataError

if TYPE_CHECKING:
    from conftest import MakeImages, Pictures

FEATURES = {"image": datasets.Image(), "label": datasets.ClassLabel(names=["zebra", "ant", "never"])}


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


def made(pictures: list[bytes | None], labels: list[int], **more: Any) -> datasets.Dataset:
    cells = [None if each is None else {"bytes": each, "path": None} for each in pictures]
    features = datasets.Features({**FEATURES, **{name: datasets.Value("string") for name in more}})
    return datasets.Dataset.from_dict({"image": cells, "label": labels, **more}, features=features)


def content(samples: Samples) -> list[bytes]:
    assert samples.images is not None
    return [image.read() for image in samples.images if isinstance(image, Stored)]


def kinds(samples: Samples) -> list[tuple[str, str]]:
    return [(problem.kind, problem.where) for problem in samples.problems]


@pytest.fixture
def saved(tmp_path: Path, picture: Pictures) -> str:
    """A set saved with a training and a test split."""
    parts = {
        "train": made([picture(0), picture(1), picture(2)], [0, 1, 0]),
        "test": made([picture(3)], [1]),
    }
    datasets.DatasetDict(parts).save_to_disk(str(tmp_path / "saved"))
    return f"hf:{tmp_path / 'saved'}"


def test_a_saved_set_gives_images_and_classes(saved: str, picture: Pictures) -> None:
    found = read_samples(saved, labeled=True)
    assert content(found) == [picture(0), picture(1), picture(2)]
    assert [found.classes[label] for label in found.labels()] == ["zebra", "ant", "zebra"]


def test_classes_keep_the_order_of_the_set_and_need_an_image(saved: str) -> None:
    found = read_samples(saved, labeled=True)
    assert (found.classes, kinds(found)) == (("zebra", "ant"), [("empty class", "never")])


def test_parts_are_splits(saved: str, picture: Pictures) -> None:
    found = read_samples(saved, part="test", labeled=True)
    assert (found.ids, content(found)) == (("test/00000000",), [picture(3)])


def test_validation_is_the_test_part_of_a_set_without_one(tmp_path: Path, picture: Pictures) -> None:
    datasets.DatasetDict({"train": made([picture(0)], [0]), "validation": made([picture(1)], [1])}).save_to_disk(
        str(tmp_path / "saved")
    )
    found = read_samples(f"hf:{tmp_path / 'saved'}", part="test", labeled=True)
    assert content(found) == [picture(1)]
    assert found.origin.endswith("(validation)")


def test_a_part_that_no_split_is_names_the_splits(tmp_path: Path, picture: Pictures) -> None:
    datasets.DatasetDict({"train": made([picture(0)], [0])}).save_to_disk(str(tmp_path / "saved"))
    with pytest.raises(DataError, match="has no split for test; its splits are train"):
        read_samples(f"hf:{tmp_path / 'saved'}", part="test", labeled=True)


def test_a_set_saved_without_splits_is_read(tmp_path: Path, picture: Pictures) -> None:
    made([picture(0)], [1]).save_to_disk(str(tmp_path / "saved"))
    assert content(read_samples(f"hf:{tmp_path / 'saved'}", labeled=False)) == [picture(0)]


def test_a_folder_of_parquet_is_read(tmp_path: Path, picture: Pictures) -> None:
    folder = tmp_path / "set" / "data"
    folder.mkdir(parents=True)
    for shard in range(2):
        made([picture(shard)], [shard]).to_parquet(str(folder / f"train-0000{shard}-of-00002.parquet"))
    found = read_samples(f"hf:{folder.parent}", labeled=True)
    assert (content(found), found.classes) == ([picture(0), picture(1)], ("zebra", "ant"))


def test_a_folder_of_images_is_read(tmp_path: Path, make_images: MakeImages) -> None:
    folder = make_images(tmp_path / "set", ["train/a/1.png", "train/b/2.png"])
    found = read_samples(f"hf:{folder}", labeled=True)
    assert sorted(content(found)) == sorted((folder / f"train/{name}.png").read_bytes() for name in ("a/1", "b/2"))


def test_images_are_not_decoded_to_be_read(tmp_path: Path) -> None:
    made([b"no image"], [0]).save_to_disk(str(tmp_path / "saved"))
    assert content(read_samples(f"hf:{tmp_path / 'saved'}", labeled=True)) == [b"no image"]


def test_an_image_decodes_like_any(saved: str, picture: Pictures) -> None:
    found = read_samples(saved, labeled=False)
    assert found.images is not None
    assert np.array_equal(decode_pixels(found.images[1]), decode_pixels(picture(1)))


def test_images_go_to_other_processes(saved: str, picture: Pictures) -> None:
    found = pickle.loads(pickle.dumps(read_samples(saved, labeled=False)))
    assert content(found)[1] == picture(1)


def test_a_set_read_again_has_the_same_fingerprint(saved: str) -> None:
    assert read_samples(saved, labeled=True).fingerprint == read_samples(saved, labeled=True).fingerprint


def test_other_images_have_another_fingerprint(tmp_path: Path, saved: str, picture: Pictures) -> None:
    parts = {"train": made([picture(9), picture(1), picture(2)], [0, 1, 0])}
    datasets.DatasetDict(parts).save_to_disk(str(tmp_path / "other"))
    other = read_samples(f"hf:{tmp_path / 'other'}", labeled=True)
    assert other.fingerprint != read_samples(saved, labeled=True).fingerprint


def test_rows_without_an_image_or_a_label_are_left_out(tmp_path: Path, picture: Pictures) -> None:
    made([None, picture(1), picture(2)], [0, -1, 1]).save_to_disk(str(tmp_path / "saved"))
    found = read_samples(f"hf:{tmp_path / 'saved'}", labeled=True)
    assert content(found) == [picture(2)]
    assert kinds(found)[:2] == [("no image", "train/00000000"), ("no label", "train/00000001")]


def test_texts_come_along(tmp_path: Path, picture: Pictures) -> None:
    made([picture(0)], [0], text=["a zebra"]).save_to_disk(str(tmp_path / "saved"))
    assert read_samples(f"hf:{tmp_path / 'saved'}", labeled=False, modality="pair").texts == ["a zebra"]


def save_columns(folder: Path, **columns: Any) -> str:
    features = {name: datasets.Image() if name.startswith("im") else datasets.Value("string") for name in columns}
    datasets.Dataset.from_dict(columns, features=datasets.Features(features)).save_to_disk(str(folder))
    return f"hf:{folder}"


def test_the_image_column_is_known_by_its_type(tmp_path: Path, picture: Pictures) -> None:
    where = save_columns(tmp_path / "saved", img=[{"bytes": picture(4), "path": None}], label=["b"])
    found = read_samples(where, labeled=True)
    assert (content(found), found.classes) == ([picture(4)], ("b",))


def test_a_set_without_images_names_its_columns(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no column holds images; its columns are words \(Value\)"):
        read_samples(save_columns(tmp_path / "saved", words=["a"]), labeled=False)


def test_a_set_without_labels_names_its_columns(tmp_path: Path, picture: Pictures) -> None:
    where = save_columns(tmp_path / "saved", image=[{"bytes": picture(4), "path": None}], kind=["b"])
    with pytest.raises(
        DataError, match=r"no column holds class labels; its columns are image \(Image\), kind \(Value\)"
    ):
        read_samples(where, labeled=True)


def test_an_image_beside_the_set_is_read_from_its_file(tmp_path: Path, make_images: MakeImages) -> None:
    file = make_images(tmp_path, ["1.png"]) / "1.png"
    where = save_columns(tmp_path / "saved", image=[{"bytes": None, "path": str(file)}])
    found = read_samples(where, labeled=False)
    assert content(found) == [file.read_bytes()]


def test_the_library_is_asked_for_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(DataError, match=r"hf:a/b: needs the library datasets; pip install 'tutelage\[hf\]'"):
        check_data("hf:a/b")


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"hf:.*none: no such folder"):
        check_data(f"hf:{tmp_path / 'none'}")


def test_a_set_that_cannot_be_had_is_named() -> None:
    with pytest.raises(DataError, match=r"hf:nobody/nothing: cannot be had .*check the name"):
        read_samples("hf:nobody/nothing", labeled=True)


@pytest.mark.parametrize(
    ("name", "asked"),
    [("cifar", ("cifar", None)), ("a/b", ("a/b", None)), ("a/b/c", ("a/b", "c"))],
)
def test_a_name_has_an_owner_and_a_configuration(
    monkeypatch: pytest.MonkeyPatch, picture: Pictures, name: str, asked: tuple[str, str | None]
) -> None:
    calls: list[Any] = []

    def load(*args: Any, **options: Any) -> Any:
        calls.append((args, options))
        return {"train": made([picture(0)], [0])}

    monkeypatch.setattr(datasets, "load_dataset", load)
    read_samples(f"hf:{name}", labeled=True)
    assert calls == [(asked, {})]  # and no leave to run code


def test_code_in_a_folder_is_not_run(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    folder.mkdir()
    (folder / "set.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    with pytest.raises(DataError, match="cannot be had"):
        read_samples(f"hf:{folder}", labeled=True)
    assert not (tmp_path / "ran").exists()


def test_a_parquet_file_and_the_folder_of_it_hold_the_same(tmp_path: Path, picture: Pictures) -> None:
    folder = tmp_path / "set"
    folder.mkdir()
    made([picture(0), picture(1)], [0, 1]).to_parquet(str(folder / "train.parquet"))
    assert pq.read_table(folder / "train.parquet").schema.field("label").type == pa.int64()
    whole, file = (read_samples(where, labeled=True) for where in (f"hf:{folder}", f"{folder}/train.parquet"))
    assert content(whole) == content(file)
    named = [[found.classes[label] for label in found.labels()] for found in (whole, file)]
    assert named == [["zebra", "ant"]] * 2


def test_threads_get_their_own_images(tmp_path: Path, picture: Pictures) -> None:
    pictures = [picture(number) for number in range(12)]
    made(list(pictures), [0] * 12).save_to_disk(str(tmp_path / "saved"))
    found = read_samples(f"hf:{tmp_path / 'saved'}", labeled=False)
    assert found.images is not None
    images = [image for image in found.images if isinstance(image, Stored)]
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        read = list(pool.map(lambda image: image.read(), images * 30))
    assert read == pictures * 30
