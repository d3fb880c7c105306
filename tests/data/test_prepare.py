from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from tutelage.data.leaks import exact_copies
from tutelage.data.prepare import PreparedData, draw_labels, prepare_data, read_parts
from tutelage.data.samples import ImageSource, Samples
from tutelage.data.settings import DataSettings
from tutelage.errors import DataError

if TYPE_CHECKING:
    from conftest import MakeImages

Folders = dict[str, Path]


@pytest.fixture(autouse=True)
def _own_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUTELAGE_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def folders(tmp_path: Path, make_images: MakeImages) -> Folders:
    """Three classes of four labeled images; three test, three validation, five transfer images; two other classes."""
    return {
        "labeled": make_images(tmp_path / "labeled", [f"{name}/l{n}.png" for name in "abc" for n in range(4)]),
        "validation": make_images(tmp_path / "validation", [f"{name}/v.png" for name in "abc"]),
        "test": make_images(tmp_path / "test", [f"{name}/t.png" for name in "abc"]),
        "transfer": make_images(tmp_path / "transfer", [f"u{n}.png" for n in range(5)]),
        "pretraining": make_images(tmp_path / "pretraining", [f"{name}/p{n}.png" for name in "xy" for n in range(2)]),
    }


def prepared(folders: Folders, *parts: str, labels: str = "all", tolerate: float = 0.05) -> PreparedData:
    settings = {part: str(folders[part]) for part in ("labeled", *parts)}
    return prepare_data(DataSettings(labels=labels, tolerate=tolerate, **settings), seed=0)


def test_the_transfer_set_is_all_of_the_labeled_data_without_labels(folders: Folders) -> None:
    found = prepared(folders, labels="1")
    assert len(found.labeled) == 3
    assert found.transfer.ids == prepared(folders).labeled.ids
    assert found.transfer.targets is None


def test_a_given_transfer_set_takes_its_place(folders: Folders) -> None:
    assert prepared(folders, "transfer").transfer.ids == tuple(f"u{n}.png" for n in range(5))


def test_what_is_not_given_is_not_there(folders: Folders) -> None:
    found = prepared(folders)
    assert (found.validation, found.test) == (None, None)


def test_copies_of_test_images_leave_the_labeled_data(folders: Folders) -> None:
    shutil.copy(folders["test"] / "b/t.png", folders["labeled"] / "b/renamed.png")
    found = prepared(folders, "test")
    assert found.dropped == {"labeled": 1, "validation": 0, "transfer": 0}
    assert "b/renamed.png" not in {*found.labeled.ids, *found.transfer.ids}
    assert len(found.labeled) == 12


def test_copies_of_test_and_validation_images_leave_the_transfer_set(folders: Folders) -> None:
    shutil.copy(folders["test"] / "b/t.png", folders["transfer"] / "x.png")
    shutil.copy(folders["validation"] / "c/v.png", folders["transfer"] / "y.png")
    found = prepared(folders, "validation", "test", "transfer")
    assert found.dropped == {"labeled": 0, "validation": 0, "transfer": 2}
    assert found.transfer.ids == tuple(f"u{n}.png" for n in range(5))


def test_copies_of_test_images_leave_the_validation_data(folders: Folders) -> None:
    shutil.copy(folders["test"] / "b/t.png", folders["validation"] / "b/x.png")
    found = prepared(folders, "validation", "test")
    assert found.dropped == {"labeled": 0, "validation": 1, "transfer": 0}
    assert found.validation is not None
    assert found.validation.ids == ("a/v.png", "b/v.png", "c/v.png")


def test_an_image_in_both_held_out_parts_is_dropped_once(folders: Folders) -> None:
    for part in ("validation", "labeled"):
        shutil.copy(folders["test"] / "a/t.png", folders[part] / "a/x.png")
    assert prepared(folders, "validation", "test").dropped["labeled"] == 1


def test_the_labels_are_counted_after_copies_are_gone(folders: Folders) -> None:
    for n in range(2):
        shutil.copy(folders["labeled"] / f"a/l{n}.png", folders["test"] / f"a/{n}.png")
    with pytest.raises(DataError, match="class 'a' has 2 images, 3 were asked for"):
        prepared(folders, "test", labels="3")


def test_validation_on_the_test_data_is_refused(folders: Folders) -> None:
    with pytest.raises(DataError, match=r"validation: every validation image is also a test image"):
        prepared({**folders, "test": folders["validation"]}, "validation", "test")


def test_testing_on_the_labeled_data_is_refused(folders: Folders) -> None:
    with pytest.raises(DataError, match=r"every image of a, b, c is also a test or validation image"):
        prepared({**folders, "test": folders["labeled"]}, "test")


def test_a_transfer_set_of_test_images_is_refused(folders: Folders) -> None:
    with pytest.raises(DataError, match=r"test: every transfer image is also a test or validation image"):
        prepared({**folders, "transfer": folders["test"]}, "test", "transfer")


@pytest.mark.parametrize("part", ["test", "validation"])
def test_classes_that_are_not_in_the_labeled_data_are_named(
    folders: Folders, make_images: MakeImages, part: str
) -> None:
    make_images(folders[part], ["d/1.png", "e/1.png"])
    with pytest.raises(DataError, match=rf"{part}: 2 of 5 images cannot be used .*\n.*class 'd' is not in .*labeled"):
        prepared(folders, part)


def test_test_data_with_fewer_classes_keep_the_numbers(folders: Folders) -> None:
    shutil.rmtree(folders["test"] / "b")
    test = prepared(folders, "test").test
    assert test is not None
    assert dict(zip(test.ids, test.labels().tolist(), strict=True)) == {"a/t.png": 0, "c/t.png": 2}
    assert test.classes == ("a", "b", "c")


def test_a_single_class_is_refused(folders: Folders) -> None:
    for name in "bc":
        shutil.rmtree(folders["labeled"] / name)
    with pytest.raises(DataError, match=r"labeled: holds one class \(a\); telling classes apart takes two or more"):
        prepared(folders)


def test_the_short_side_is_the_median_of_the_transfer_images(folders: Folders) -> None:
    for number, size in enumerate([(30, 90), (70, 50), (400, 400), (300, 200), (20, 500)]):
        Image.new("RGB", size, (number, 0, 0)).save(folders["transfer"] / f"u{number}.png")
    assert prepared(folders, "transfer").short_side == 50


def test_the_short_side_of_many_images_is_found_from_a_few(
    folders: Folders, make_images: MakeImages, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[ImageSource] = []

    def size(image: ImageSource) -> tuple[int, int]:
        looked.append(image)
        return 48, 64

    monkeypatch.setattr("tutelage.data.prepare.MEASURED", 3)
    monkeypatch.setattr("tutelage.data.prepare.image_size", size)
    assert prepared(folders, "transfer").short_side == 48
    assert [path.name for path in looked if isinstance(path, Path)] == ["u0.png", "u2.png", "u4.png"]


def test_the_digits_train_and_test_on_different_images() -> None:
    found = prepare_data(DataSettings(labeled="digits", labels="5", test="digits"), seed=0)
    assert found.test is not None
    assert (len(found.labeled), len(found.test)) == (50, 597)
    assert found.short_side == 8
    assert not {*found.transfer.ids} & {*found.test.ids}


def images(*sources: ImageSource) -> Samples:
    return Samples(tuple(map(str, range(len(sources)))), images=list(sources))


def test_copies_among_pixels_are_found_by_content() -> None:
    pixels = list(np.random.default_rng(0).integers(0, 256, (4, 5, 5), dtype=np.uint8))
    assert exact_copies(images(*pixels), images(pixels[2].copy(), pixels[0])).tolist() == [0, 2]


def test_copies_among_bytes_are_found_by_content() -> None:
    assert exact_copies(images(b"one", b"two", b"three"), images(b"two", b"tow")).tolist() == [1]


def test_pixels_of_another_shape_are_no_copy() -> None:
    pixels = np.arange(12, dtype=np.uint8)
    assert not len(exact_copies(images(pixels.reshape(3, 4)), images(pixels.reshape(4, 3))))


def test_files_of_another_size_are_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = []
    for name, content in {"one": b"12", "two": b"123", "three": b"456"}.items():
        paths.append(tmp_path / name)
        paths[-1].write_bytes(content)
    read: list[str] = []
    read_bytes = Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda path: read.append(path.name) or read_bytes(path))
    assert exact_copies(images(paths[0], paths[1]), images(paths[2])).tolist() == []
    assert sorted(read) == ["three", "two"]


def test_a_share_of_the_labeled_data_can_be_held_out(folders: Folders) -> None:
    settings = DataSettings(labeled=str(folders["labeled"]), test="25%", validation="25%")
    found = prepare_data(settings, seed=0)
    assert found.test is not None
    assert found.validation is not None
    parts = [found.labeled.ids, found.test.ids, found.validation.ids]
    assert [len(part) for part in parts] == [6, 3, 3]
    assert len({name for part in parts for name in part}) == 12
    assert found.transfer.ids == found.labeled.ids


PARTS = ("labeled", "validation", "test", "transfer", "pretraining")


def fingerprints(data: PreparedData) -> dict[str, str | None]:
    found = {part: getattr(data, part) for part in PARTS}
    return {part: None if samples is None else samples.fingerprint for part, samples in found.items()}


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("labels", ["1", "3", "all"])
def test_labels_drawn_from_the_parts_are_those_of_all_at_once(folders: Folders, labels: str, seed: int) -> None:
    shutil.copy(folders["test"] / "b/t.png", folders["labeled"] / "b/copy.png")
    settings = DataSettings(labels=labels, **{part: str(folders[part]) for part in PARTS})
    apart, whole = draw_labels(read_parts(settings), labels, seed=seed), prepare_data(settings, seed=seed)
    assert fingerprints(apart) == fingerprints(whole)
    assert (apart.dropped, apart.problems, apart.short_side) == (whole.dropped, whole.problems, whole.short_side)


def test_parts_are_read_with_all_labels_whatever_is_asked_for(folders: Folders) -> None:
    assert len(read_parts(DataSettings(labeled=str(folders["labeled"]), labels="1")).labeled) == 12


def test_drawing_labels_leaves_the_other_parts_alone(folders: Folders) -> None:
    parts = read_parts(DataSettings(**{part: str(folders[part]) for part in PARTS}))
    found, before = fingerprints(draw_labels(parts, "1", seed=0)), fingerprints(parts)
    assert {part for part in PARTS if found[part] != before[part]} == {"labeled"}


def test_another_task_keeps_its_own_classes(folders: Folders) -> None:
    found = prepared(folders, "pretraining").pretraining
    assert found is not None
    assert (found.classes, found.labels().tolist()) == (("x", "y"), [0, 0, 1, 1])


@pytest.mark.parametrize("held", ["test", "validation"])
def test_pretraining_images_that_are_held_out_images_are_dropped_and_counted(folders: Folders, held: str) -> None:
    source = next(folders[held].glob("c/*.png"))
    for copy in ("x/copy.png", "y/copy.png"):
        shutil.copy(source, folders["pretraining"] / copy)
    found = prepared(folders, held, "pretraining")
    assert found.pretraining is not None
    assert found.pretraining.ids == ("x/p0.png", "x/p1.png", "y/p0.png", "y/p1.png")
    assert found.dropped == {"labeled": 0, "validation": 0, "transfer": 0, "pretraining": 2}


def test_labeled_images_may_be_pretrained_on(folders: Folders) -> None:
    shutil.copy(folders["labeled"] / "a/l0.png", folders["pretraining"] / "x/copy.png")
    found = prepared(folders, "test", "pretraining").pretraining
    assert found is not None
    assert "x/copy.png" in found.ids


def test_pretraining_on_the_test_data_is_refused(folders: Folders) -> None:
    with pytest.raises(DataError, match="test: fewer than two classes are left to learn from"):
        prepared({**folders, "pretraining": folders["test"]}, "test", "pretraining")


def test_pretraining_images_are_counted(folders: Folders) -> None:
    assert [prepared(folders, *parts).counts()["pretraining"] for parts in ((), ("pretraining",))] == [0, 4]
