from __future__ import annotations

import shutil
import socket
import struct
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tutelage.data.images import decode
from tutelage.data.readers import PATIENCE, check_data, read_samples
from tutelage.errors import DataError, UnknownNameError

if TYPE_CHECKING:
    from conftest import MakeImages


def test_a_folder_per_class_gives_sorted_classes_and_their_numbers(tmp_path: Path, make_images: MakeImages) -> None:
    make_images(tmp_path, ["dog/1.png", "cat/1.png", "cat/2.png"])
    found = read_samples(str(tmp_path), labeled=True)
    assert found.classes == ("cat", "dog")
    assert found.labels().tolist() == [0, 0, 1]


def test_ids_are_relative_paths_in_order(tmp_path: Path, make_images: MakeImages) -> None:
    make_images(tmp_path, ["b/2.png", "b/1.png", "a/x/9.png", "a/3.png"])
    assert read_samples(str(tmp_path), labeled=True).ids == ("a/3.png", "a/x/9.png", "b/1.png", "b/2.png")


def test_the_first_level_of_nested_folders_names_the_class(tmp_path: Path, make_images: MakeImages) -> None:
    make_images(tmp_path, ["a/deep/er/1.png", "b/a/1.png"])
    found = read_samples(str(tmp_path), labeled=True)
    assert [found.classes[label] for label in found.labels()] == ["a", "b"]


def test_each_id_goes_with_its_image(tmp_path: Path, make_images: MakeImages) -> None:
    make_images(tmp_path, ["b/2.png", "a/1.png"])
    found = read_samples(str(tmp_path), labeled=True)
    assert found.images is not None
    assert [tmp_path / name for name in found.ids] == list(found.images)


def test_hidden_folders_are_no_classes(tmp_path: Path, make_images: MakeImages) -> None:
    make_images(tmp_path, ["a/1.png", "b/1.png", ".trash/1.png"])
    assert read_samples(str(tmp_path), labeled=True).classes == ("a", "b")


def test_any_tree_of_images_is_read_without_labels(tmp_path: Path, make_images: MakeImages) -> None:
    make_images(tmp_path, ["top.png", "x/y/deep.png", ".trash/1.png"])
    found = read_samples(str(tmp_path), labeled=False)
    assert found.ids == ("top.png", "x/y/deep.png")
    assert found.targets is None
    assert found.classes == ()


def test_a_home_folder_may_be_written_with_a_tilde(
    tmp_path: Path, make_images: MakeImages, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_images(tmp_path / "mine", ["a/1.png"])
    monkeypatch.setenv("HOME", str(tmp_path))
    check_data("~/mine")
    assert len(read_samples("~/mine", labeled=False)) == 1


def test_a_folder_with_a_colon_in_its_name_is_a_folder(tmp_path: Path, make_images: MakeImages) -> None:
    make_images(tmp_path / "a:b", ["1.png"])
    assert len(read_samples(str(tmp_path / "a:b"), labeled=False)) == 1


@pytest.mark.parametrize("function", [check_data, lambda where: read_samples(where, labeled=True)])
def test_a_missing_folder_is_answered_with_the_close_one(tmp_path: Path, function: Any) -> None:
    (tmp_path / "train").mkdir()
    (tmp_path / "elsewhere").mkdir()
    with pytest.raises(UnknownNameError, match=r"unknown folder 'trian'; did you mean 'train'\? \(looked in "):
        function(str(tmp_path / "trian"))


def test_a_file_is_not_suggested_as_a_folder(tmp_path: Path) -> None:
    (tmp_path / "train.zip").touch()
    (tmp_path / "other").mkdir()
    with pytest.raises(UnknownNameError, match="known: other") as caught:
        check_data(str(tmp_path / "train"))
    assert caught.value.close == []


def test_a_folder_in_a_missing_folder_names_both(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=rf"{tmp_path}/no/train: no such folder, nor is there {tmp_path}/no"):
        check_data(str(tmp_path / "no" / "train"))


@pytest.mark.parametrize(("given", "meant"), [("digit", "digits"), ("FashionMNIST", "torchvision:FashionMNIST")])
def test_a_misspelled_built_in_name_is_answered_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str, meant: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UnknownNameError) as caught:
        check_data(given)
    assert meant in caught.value.close


def test_an_unknown_kind_of_data_is_answered_with_the_close_one() -> None:
    with pytest.raises(UnknownNameError, match=r"unknown kind of data 'torchvison'; did you mean 'torchvision'\?"):
        check_data("torchvison:MNIST")


def test_a_file_in_place_of_a_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "train").touch()
    with pytest.raises(DataError, match="train: is a file; a folder of images or texts is expected"):
        check_data(str(tmp_path / "train"))


def test_labeled_images_without_class_folders_are_refused(tmp_path: Path, make_images: MakeImages) -> None:
    make_images(tmp_path, ["1.png"])
    with pytest.raises(DataError, match="has no subfolders; labeled images are expected in a folder per class"):
        read_samples(str(tmp_path), labeled=True)


def test_classes_without_images_are_left_out_and_counted(tmp_path: Path, make_images: MakeImages) -> None:
    make_images(tmp_path, ["a/1.png", "d/1.png"])
    for name in ("b", "c"):
        (tmp_path / name).mkdir()
    found = read_samples(str(tmp_path), labeled=True)
    assert (found.classes, found.labels().tolist()) == (("a", "d"), [0, 1])
    assert [(problem.kind, problem.where) for problem in found.problems] == [
        ("empty class", "b"),
        ("empty class", "c"),
    ]


def test_nothing_but_empty_classes_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    with pytest.raises(DataError, match=r"no images found \(left out: a, empty class\); expected files ending in"):
        read_samples(str(tmp_path), labeled=True)


def test_a_tree_without_images_names_the_suffixes(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    with pytest.raises(DataError, match=r"no images found; expected files ending in .*\.jpg"):
        read_samples(str(tmp_path), labeled=False)


def test_the_parts_of_the_digits_share_nothing_and_leave_nothing() -> None:
    train, test = (read_samples("digits", part=part, labeled=True) for part in ("train", "test"))
    assert (len(train), len(test)) == (1200, 597)
    assert len({*train.ids, *test.ids}) == 1797


def test_the_test_part_of_the_digits_stays_the_same() -> None:
    ids = read_samples("digits", part="test", labeled=True).ids
    assert ids[:4] == ("digits/0001", "digits/0004", "digits/0010", "digits/0021")


def test_the_digits_are_whole_range_pixels_with_their_labels() -> None:
    from sklearn.datasets import load_digits

    bunch = load_digits()
    found = read_samples("digits", labeled=True)
    assert found.images is not None
    row = int(found.ids[5].removeprefix("digits/"))
    assert found.labels()[5] == bunch.target[row]
    assert np.abs(decode(found.images[5])[0].numpy() / 255 - bunch.images[row] / 16).max() < 1 / 255


def test_the_digits_without_labels_have_none() -> None:
    assert read_samples("digits", labeled=False).targets is None


@pytest.mark.parametrize("function", [check_data, lambda where: read_samples(where, labeled=True)])
@pytest.mark.parametrize(("given", "meant"), [("FashionMINST", "FashionMNIST"), ("kmnist", "KMNIST")])
def test_an_unknown_torchvision_set_is_answered_with_the_close_one(function: Any, given: str, meant: str) -> None:
    with pytest.raises(UnknownNameError, match="unknown torchvision data set") as caught:
        function(f"torchvision:{given}")
    assert meant in caught.value.close


def write_fashion(root: Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Write a tiny FashionMNIST in the raw form that torchvision keeps."""
    folder = root / "FashionMNIST" / "raw"
    folder.mkdir(parents=True)
    made = {}
    for number, (part, count) in enumerate({"train": 20, "t10k": 10}.items()):
        generator = np.random.default_rng(number)
        pixels = generator.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        labels = (np.arange(count) % 10).astype(np.uint8)
        head = struct.pack(">4i", 2051, count, 28, 28)
        (folder / f"{part}-images-idx3-ubyte").write_bytes(head + pixels.tobytes())
        (folder / f"{part}-labels-idx1-ubyte").write_bytes(struct.pack(">2i", 2049, count) + labels.tobytes())
        made[part] = (pixels, labels)
    return made


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> list[float | None]:
    """Refuse all downloads; the list gets the patience of each try."""
    tries: list[float | None] = []

    def refuse(*args: Any, **kwargs: Any) -> Any:
        tries.append(socket.getdefaulttimeout())
        raise urllib.error.URLError("no network here")

    monkeypatch.setattr(urllib.request, "urlopen", refuse)
    return tries


@pytest.mark.parametrize(("part", "file"), [("train", "train"), ("test", "t10k")])
def test_a_torchvision_set_is_read_where_it_lies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_network: list[float | None], part: Any, file: str
) -> None:
    pixels, labels = write_fashion(tmp_path)[file]
    monkeypatch.setenv("TUTELAGE_DATA", str(tmp_path))
    found = read_samples("torchvision:FashionMNIST", part=part, labeled=True)
    assert found.images is not None
    assert np.array_equal(np.stack(list(found.images)), pixels)
    assert found.labels().tolist() == labels.tolist()
    assert found.classes[9] == "Ankle boot"
    assert not no_network


def test_the_parts_of_a_torchvision_set_share_no_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_fashion(tmp_path)
    monkeypatch.setenv("TUTELAGE_DATA", str(tmp_path))
    train, test = (read_samples("torchvision:FashionMNIST", part=part, labeled=True) for part in ("train", "test"))
    assert len({*train.ids, *test.ids}) == 30


@pytest.mark.parametrize("name", ["FashionMNIST", "KMNIST"])
def test_a_failed_download_says_where_data_are_expected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_network: list[float | None], name: str
) -> None:
    monkeypatch.setenv("TUTELAGE_DATA", str(tmp_path))
    with pytest.raises(DataError, match=rf"torchvision:{name}: neither whole in {tmp_path} nor .*TUTELAGE_DATA"):
        read_samples(f"torchvision:{name}", labeled=True)


def test_a_silent_server_is_not_waited_for_without_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_network: list[float | None]
) -> None:
    monkeypatch.setenv("TUTELAGE_DATA", str(tmp_path))
    with pytest.raises(DataError):
        read_samples("torchvision:MNIST", labeled=True)
    assert set(no_network) == {PATIENCE}
    assert socket.getdefaulttimeout() is None


def test_downloads_say_nothing_on_stdout(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def download(**options: Any) -> Any:
        print("downloading")
        raise RuntimeError("no")

    monkeypatch.setattr("torchvision.datasets.MNIST", download)
    with pytest.raises(DataError):
        read_samples("torchvision:MNIST", labeled=True)
    said = capsys.readouterr()
    assert (said.out, said.err) == ("", "downloading\n")


@pytest.mark.parametrize("kept", [0, 10, 200])
def test_a_damaged_torchvision_set_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kept: int) -> None:
    write_fashion(tmp_path)
    file = tmp_path / "FashionMNIST" / "raw" / "train-images-idx3-ubyte"
    file.write_bytes(file.read_bytes()[:kept])
    monkeypatch.setenv("TUTELAGE_DATA", str(tmp_path))
    with pytest.raises(DataError, match=rf"FashionMNIST: neither whole in {tmp_path}"):
        read_samples("torchvision:FashionMNIST", labeled=True)


def test_ids_do_not_depend_on_where_a_folder_lies(tmp_path: Path, make_images: MakeImages) -> None:
    here = make_images(tmp_path / "here", ["a/1.png", "b/1.png"])
    there = shutil.copytree(here, tmp_path / "there" / "moved")
    assert read_samples(str(here), labeled=True).ids == read_samples(str(there), labeled=True).ids
