from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tutelage.data.readers import check_data, read_samples
from tutelage.data.samples import Samples
from tutelage.errors import DataError, UnknownNameError

if TYPE_CHECKING:
    from conftest import MakeImages


class Lists:
    """Writes a list beside a folder of images, and reads it."""

    def __init__(self, tmp_path: Path, make_images: MakeImages) -> None:
        self.tmp_path, self.make_images = tmp_path, make_images

    def __call__(self, lines: list[str], files: list[str], labeled: bool = True) -> Samples:
        root = self.make_images(self.tmp_path / "images", files)
        (self.tmp_path / "train.txt").write_text("".join(f"{line}\n" for line in lines))
        return read_samples(f"list:{self.tmp_path / 'train.txt'}@{root}", labeled=labeled)


@pytest.fixture
def lists(tmp_path: Path, make_images: MakeImages) -> Lists:
    return Lists(tmp_path, make_images)


def where(samples: Samples) -> list[str]:
    assert samples.images is not None
    return [str(image).partition("/images/")[2] for image in samples.images]


def test_files_in_a_folder_per_class_are_found(lists: Lists) -> None:  # EuroSAT
    found = lists(
        ["AnnualCrop_1.jpg,AnnualCrop", "River_10.jpg,River"],
        ["AnnualCrop/AnnualCrop_1.jpg", "River/River_10.jpg", "River/River_11.jpg"],
    )
    assert found.ids == ("AnnualCrop/AnnualCrop_1.jpg", "River/River_10.jpg")
    assert where(found) == ["AnnualCrop/AnnualCrop_1.jpg", "River/River_10.jpg"]
    assert (found.classes, found.labels().tolist()) == (("AnnualCrop", "River"), [0, 1])


def test_files_in_one_folder_are_found(lists: Lists) -> None:
    found = lists(["ISIC_1.jpg,NV", "ISIC_2.jpg,MEL"], ["ISIC_1.jpg", "ISIC_2.jpg"])
    assert found.ids == ("NV/ISIC_1.jpg", "MEL/ISIC_2.jpg")


def test_files_spread_over_folders_are_found_by_name(lists: Lists) -> None:  # HAM10000
    found = lists(["ISIC_1.jpg,NV", "ISIC_2.jpg,MEL"], ["part_1/ISIC_1.jpg", "part_2/ISIC_2.jpg"])
    assert where(found) == ["part_1/ISIC_1.jpg", "part_2/ISIC_2.jpg"]


def test_files_without_a_class_are_unlabeled(lists: Lists) -> None:  # ADE20K
    found = lists(
        ["ADE_train_1.jpg", "ADE_train_2.jpg"], ["training/ADE_train_1.jpg", "training/ADE_train_2.jpg"], False
    )
    assert (found.ids, found.targets) == (("ADE_train_1.jpg", "ADE_train_2.jpg"), None)


def test_file_names_repeated_across_classes_stay_apart(lists: Lists) -> None:  # Places365
    found = lists(["1.jpg,lake", "1.jpg,alley"], ["alley/1.jpg", "lake/1.jpg"])
    assert found.ids == ("lake/1.jpg", "alley/1.jpg")
    assert where(found) == ["lake/1.jpg", "alley/1.jpg"]


def test_ids_are_the_same_without_labels(lists: Lists) -> None:
    lines, files = ["1.jpg,lake", "1.jpg,alley"], ["alley/1.jpg", "lake/1.jpg"]
    assert lists(lines, files).ids == lists(lines, files, labeled=False).ids


def test_the_file_of_another_class_is_not_taken_for_a_missing_one(lists: Lists) -> None:
    found = lists(["1.jpg,lake", "2.jpg,lake", "1.jpg,alley"], ["alley/1.jpg", "lake/2.jpg"])
    assert found.ids == ("lake/2.jpg", "alley/1.jpg")
    assert [(problem.kind, problem.where) for problem in found.problems] == [("vanished", "lake/1.jpg")]


def test_one_of_several_files_of_a_name_is_not_guessed(lists: Lists) -> None:
    found = lists(["1.jpg", "2.jpg"], ["x/1.jpg", "y/1.jpg", "2.jpg"], labeled=False)
    assert found.ids == ("2.jpg",)
    assert found.problems[0].detail == "2 files have that name: x/1.jpg, y/1.jpg"


def test_a_missing_extension_is_filled_in(lists: Lists) -> None:
    found = lists(["ISIC_1,NV", "ISIC_2,MEL"], ["ISIC_1.jpg", "MEL/ISIC_2.png"])
    assert where(found) == ["ISIC_1.jpg", "MEL/ISIC_2.png"]


def test_a_file_listed_with_its_class_folder_has_it_once_in_its_id(lists: Lists) -> None:
    assert lists(["lake/1.jpg,lake"], ["lake/1.jpg"]).ids == ("lake/1.jpg",)


@pytest.mark.parametrize("name", ["../secret.png", "/etc/secret.png", "a/../../secret.png"])
def test_a_list_does_not_lead_out_of_its_folder(lists: Lists, make_images: MakeImages, name: str) -> None:
    make_images(lists.tmp_path, ["secret.png"])
    found = lists([f"{name},a", "1.png,a"], ["1.png"])
    assert (found.ids, found.problems[0].kind, found.problems[0].where) == (("a/1.png",), "unsafe path", name)


def test_a_file_listed_twice_counts_once(lists: Lists) -> None:
    found = lists(["1.png,a", "1.png,a"], ["1.png"])
    assert (len(found), found.problems[0].kind) == (1, "duplicate id")


def test_lines_without_a_class_are_left_out_of_labeled_data(lists: Lists) -> None:
    found = lists(["1.png,a", "2.png"], ["1.png", "2.png"])
    assert (found.ids, found.problems[0].kind) == (("a/1.png",), "no label")


def test_a_list_without_classes_is_no_labeled_data(lists: Lists) -> None:
    with pytest.raises(DataError, match=r"none of 1 samples has a label.* write lines file,Class in .*train\.txt"):
        lists(["1.png"], ["1.png"])


def test_a_folder_that_holds_nothing_of_the_list_is_refused(lists: Lists) -> None:
    with pytest.raises(DataError, match=r"no file that .*train\.txt lists is below .*images; give the folder"):
        lists(["1.png,a"], ["2.png"])


@pytest.mark.parametrize("rest", ["train.txt", "@images", "train.txt@"])
def test_another_form_is_answered_with_the_right_one(rest: str) -> None:
    with pytest.raises(DataError, match="has the form list:FILE@ROOT"):
        check_data(f"list:{rest}")


def test_a_misspelled_list_is_answered_with_the_close_one(tmp_path: Path) -> None:
    (tmp_path / "train.txt").touch()
    with pytest.raises(UnknownNameError, match=r"unknown file 'trian.txt'; did you mean 'train.txt'\?"):
        check_data(f"list:{tmp_path}/trian.txt@{tmp_path}")


def test_windows_line_ends_and_marks_are_taken(tmp_path: Path, make_images: MakeImages) -> None:
    root = make_images(tmp_path / "images", ["1.png"])
    (tmp_path / "list.txt").write_bytes(b"\xef\xbb\xbf1.png,a\r\n\r\n")
    found = read_samples(f"list:{tmp_path / 'list.txt'}@{root}", labeled=True)
    assert (found.ids, found.classes) == (("a/1.png",), ("a",))


def test_a_list_that_is_no_text_is_refused(tmp_path: Path, make_images: MakeImages) -> None:
    root = make_images(tmp_path / "images", ["1.png"])
    with pytest.raises(DataError, match=r"1\.png: is not UTF-8 text"):
        read_samples(f"list:{root / '1.png'}@{root}", labeled=True)
