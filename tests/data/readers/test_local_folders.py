from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tutelage.data.problems import KINDS
from tutelage.data.readers import check_data, read_samples
from tutelage.data.samples import Samples
from tutelage.errors import DataError, TutelageError

if TYPE_CHECKING:
    from conftest import MakeImages


def read(folder: Path) -> Samples:
    return read_samples(str(folder), labeled=True)


def kinds(samples: Samples) -> list[tuple[str, str]]:
    assert all(problem.kind in KINDS for problem in samples.problems)
    return [(problem.kind, problem.where) for problem in samples.problems]


@pytest.fixture
def folder(tmp_path: Path, make_images: MakeImages) -> Path:
    return make_images(tmp_path / "data", ["a/1.png", "b/1.png"])


def test_a_link_in_a_circle_is_left_out(folder: Path) -> None:
    (folder / "a" / "round").symlink_to(folder)
    assert (read(folder).ids, kinds(read(folder))) == (("a/1.png", "b/1.png"), [("link", "a/round")])


def test_a_link_to_itself_is_left_out(folder: Path) -> None:
    (folder / "a" / "self.png").symlink_to(folder / "a" / "self.png")
    assert kinds(read(folder)) == [("link", "a/self.png")]


def test_a_link_to_nowhere_is_left_out(folder: Path) -> None:
    (folder / "b" / "2.png").symlink_to(folder / "gone.png")
    assert (len(read(folder)), kinds(read(folder))) == (2, [("link", "b/2.png")])


def test_a_link_to_an_image_is_an_image(folder: Path) -> None:
    (folder / "b" / "2.png").symlink_to(folder / "a" / "1.png")
    assert read(folder).ids == ("a/1.png", "b/1.png", "b/2.png")


def test_a_class_may_be_a_link_to_a_folder_elsewhere(tmp_path: Path, folder: Path, make_images: MakeImages) -> None:
    (folder / "c").symlink_to(make_images(tmp_path / "elsewhere", ["1.png"]))
    assert read(folder).classes == ("a", "b", "c")


def test_links_across_do_not_multiply_images(folder: Path) -> None:
    for level in range(30):  # 2 ** 30 ways through
        place = folder / "a" / f"level{level}"
        place.mkdir()
        for way in ("left", "right"):
            (place / way).symlink_to(folder / "a" / f"level{level + 1}")
    assert len(read(folder)) == 2


def test_a_folder_comes_under_its_own_name_before_its_links(folder: Path) -> None:
    (folder / "0").symlink_to(folder / "b")
    found = read(folder)
    assert found.classes == ("a", "b")
    assert kinds(found) == [("link", "0"), ("empty class", "0")]


@pytest.mark.parametrize("kind", ["pipe", "socket", "device"])
def test_what_is_no_file_is_left_out_and_not_waited_for(
    folder: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)  # the path of a socket may not be long
    if kind == "pipe":
        os.mkfifo("a/2.png")
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as made:
            made.bind("a/2.png")
    else:
        Path("a/2.png").symlink_to("/dev/zero")
    assert kinds(read(folder)) == [("special file", "a/2.png")]


def test_a_folder_that_may_not_be_listed_is_left_out(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Tests may run as root, whom no mode keeps out.
    listed = os.scandir

    def refuse(path: Any) -> Any:
        if Path(path).name == "b":
            raise PermissionError(13, "Permission denied")
        return listed(path)

    monkeypatch.setattr(os, "scandir", refuse)
    found = read(folder)
    assert (found.classes, kinds(found)) == (("a",), [("unreadable", "b"), ("empty class", "b")])


def test_a_file_that_may_not_be_read_is_left_out(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: not str(path).endswith("b/1.png"))
    assert ("unreadable", "b/1.png") in kinds(read(folder))


def test_a_name_that_is_not_utf8_has_an_id_that_can_be_printed(folder: Path) -> None:
    odd = os.fsencode(folder) + b"/a/caf\xe9.png"
    Path(os.fsdecode(odd)).write_bytes((folder / "a" / "1.png").read_bytes())
    found = read(folder)
    assert found.ids[1] == "a/caf\\xe9.png"
    found.ids[1].encode()
    assert found.images is not None
    assert os.fsencode(str(found.images[1])) == odd


def test_names_as_long_as_they_may_be_are_read(folder: Path) -> None:
    name = "x" * 251 + ".png"
    (folder / "a" / "1.png").rename(folder / "a" / name)
    assert read(folder).ids[0] == f"a/{name}"


def test_a_tree_deeper_than_paths_may_be_is_read_as_far_as_they_go(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder / "a")
    for _ in range(25):
        Path("d" * 200).mkdir()
        os.chdir("d" * 200)
    found = read(folder)
    assert len(found) == 2
    assert [problem.detail for problem in found.problems] == ["File name too long"]


def test_classes_may_have_spaces_and_any_script(tmp_path: Path, make_images: MakeImages) -> None:
    names = ["golden retriever/1.png", "Кошка/1.png", "猫/1.png"]
    assert read(make_images(tmp_path, names)).classes == ("golden retriever", "Кошка", "猫")


def test_problems_do_not_change_the_fingerprint(folder: Path) -> None:
    before = read(folder).fingerprint
    (folder / "b" / "2.png").symlink_to(folder / "gone.png")
    assert read(folder).fingerprint == before


def test_images_beside_class_folders_are_of_no_class(folder: Path, make_images: MakeImages) -> None:
    make_images(folder, ["preview.png"])
    assert read(folder).ids == ("a/1.png", "b/1.png")


def test_listing_leaves_out_what_is_no_file(folder: Path) -> None:
    os.mkfifo(folder / "a" / "2.png")
    assert read(folder).images == [folder / "a" / "1.png", folder / "b" / "1.png"]


@pytest.mark.parametrize("where", ["", "  "])
def test_an_empty_name_is_not_the_folder_one_is_in(where: str) -> None:
    with pytest.raises(DataError, match="the name of the data is empty"):
        read_samples(where, labeled=False)


@pytest.mark.parametrize("name", ["x" * 5000, "x" * 300, "x/" * 3000])
def test_a_name_longer_than_any_file_is_not_there(tmp_path: Path, name: str) -> None:
    with pytest.raises(TutelageError, match=r"unknown folder|no such folder"):
        check_data(f"{tmp_path}/{name}")


def test_a_root_that_may_not_be_listed_says_so(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Any) -> Any:
        raise PermissionError(13, "Permission denied")

    for module in ("scandir", "listdir"):
        monkeypatch.setattr(os, module, refuse)
    with pytest.raises(DataError, match=r"data: cannot be read \(Permission denied\); check its rights"):
        read(folder)
