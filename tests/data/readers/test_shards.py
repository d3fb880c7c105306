from __future__ import annotations

import concurrent.futures
import gzip
import io
import os
import pickle
import tarfile
import tracemalloc
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tutelage.data.problems import Problem
from tutelage.data.readers import check_data, read_samples
from tutelage.data.samples import Samples, Stored
from tutelage.errors import DataError, UnknownNameError

if TYPE_CHECKING:
    from conftest import Archives, MakeImages, Pictures


def content(samples: Samples) -> list[bytes]:
    assert samples.images is not None
    return [image.read() for image in samples.images if isinstance(image, Stored)]


def kinds(samples: Samples) -> list[tuple[str, str]]:
    return [(problem.kind, problem.where) for problem in samples.problems]


@pytest.fixture
def folder(tmp_path: Path, archive: Archives, picture: Pictures) -> Path:
    """Two shards of three images, classes 0 to 2."""
    for shard in range(2):
        members = []
        for row in range(3):
            members += [(f"{row:04d}.png", picture(3 * shard + row)), (f"{row:04d}.cls", f"{row}\n".encode())]
        archive(tmp_path / "data" / f"shard-{shard:03d}.tar", members)
    return tmp_path / "data"


@pytest.mark.parametrize("form", ["", "/*.tar", "/shard-{000..001}.tar", "/shard-00{0,1}.tar", "/shard-00[01].tar"])
def test_shards_may_be_named_in_any_form(folder: Path, picture: Pictures, form: str) -> None:
    found = read_samples(f"{folder}{form}", labeled=True)
    assert content(found) == [picture(number) for number in range(6)]
    assert (found.classes, found.labels().tolist()) == (("0", "1", "2"), [0, 1, 2, 0, 1, 2])
    assert found.ids[2:4] == ("shard-000.tar/0002", "shard-001.tar/0000")


def test_one_shard_may_be_named(folder: Path) -> None:
    assert len(read_samples(f"{folder}/shard-001.tar", labeled=False)) == 3


def test_a_missing_shard_of_a_range_is_named(folder: Path) -> None:
    with pytest.raises(UnknownNameError, match=r"unknown file 'shard-002.tar'"):
        check_data(f"{folder}/shard-{{000..002}}.tar")


def test_a_mistyped_range_does_not_fill_the_memory(folder: Path) -> None:
    with pytest.raises(DataError, match="names more than 1,000,000 shards"):
        check_data(f"{folder}/shard-{{000..999999999999}}.tar")


def test_a_pattern_that_fits_nothing_is_refused(folder: Path) -> None:
    with pytest.raises(DataError, match=r"none-\*\.tar: no shard has such a name"):
        check_data(f"{folder}/none-*.tar")


def test_a_folder_of_images_and_a_tar_is_a_folder(folder: Path, make_images: MakeImages) -> None:
    make_images(folder, ["a.png"])
    assert read_samples(str(folder), labeled=False).ids == ("a.png",)


def test_shards_of_one_name_in_two_folders_stay_apart(tmp_path: Path, archive: Archives, picture: Pictures) -> None:
    for part in ("x", "y"):
        archive(tmp_path / part / "0.tar", [("1.png", picture(1))])
    assert read_samples(f"{tmp_path}/*/0.tar", labeled=False).ids == ("x/0.tar/1", "y/0.tar/1")


@pytest.mark.parametrize(
    ("notes", "label"),
    [
        ([("1.cls", b"cat")], "cat"),
        ([("1.json", b'{"label": "cat"}')], "cat"),
        ([("1.json", b'{"label": 7, "width": 3}')], "7"),
        ([("1.json", b'{"label": "dog"}'), ("1.cls", b"cat")], "cat"),
    ],
)
def test_labels_come_from_notes(
    tmp_path: Path, archive: Archives, picture: Pictures, notes: list[tuple[str, bytes]], label: str
) -> None:
    where = archive(tmp_path / "t.tar", [*notes, ("1.png", picture(1))])
    assert read_samples(str(where), labeled=True).classes == (label,)


def test_texts_come_from_notes(tmp_path: Path, archive: Archives, picture: Pictures) -> None:
    where = archive(
        tmp_path / "t.tar",
        [
            ("1.png", picture(1)),
            ("1.txt", "ein Hündchen".encode()),
            ("2.png", picture(2)),
            ("2.json", b'{"text": "b"}'),
        ],
    )
    assert read_samples(str(where), labeled=False, modality="pair").texts == ["ein Hündchen", "b"]


def test_a_key_ends_at_the_first_dot(tmp_path: Path, archive: Archives, picture: Pictures) -> None:
    where = archive(
        tmp_path / "t.tar", [("a/1.seg.png", b"mask"), ("a/1.PNG", picture(1)), ("a.b/1.png", picture(2))]
    )
    found = read_samples(str(where), labeled=False)
    assert (found.ids, content(found)) == (("t.tar/a/1", "t.tar/a.b/1"), [picture(1), picture(2)])


def test_keys_without_a_label_or_an_image_are_left_out(tmp_path: Path, archive: Archives, picture: Pictures) -> None:
    members = [("1.png", picture(1)), ("2.cls", b"a"), ("3.png", picture(3)), ("3.cls", b"a")]
    found = read_samples(str(archive(tmp_path / "t.tar", members)), labeled=True)
    assert (found.ids, sorted(kinds(found))) == (("t.tar/3",), [("no image", "t.tar/2"), ("no label", "t.tar/1")])


def test_shards_without_labels_are_no_labeled_data(tmp_path: Path, archive: Archives, picture: Pictures) -> None:
    with pytest.raises(DataError, match=r"none of 1 samples has a label.*members \.cls"):
        read_samples(str(archive(tmp_path / "t.tar", [("1.png", picture(1))])), labeled=True)


def test_notes_that_are_no_json_are_damaged(tmp_path: Path, archive: Archives, picture: Pictures) -> None:
    members = [("1.png", picture(1)), ("1.json", b"{"), ("2.png", picture(2))]
    assert kinds(read_samples(str(archive(tmp_path / "t.tar", members)), labeled=False)) == [("damaged", "t.tar/1")]


def test_a_label_of_several_does_not_matter_without_labels(
    tmp_path: Path, archive: Archives, picture: Pictures
) -> None:
    where = archive(tmp_path / "t.tar", [("1.png", picture(1)), ("1.json", b'{"label": [1, 2]}')])
    assert len(read_samples(str(where), labeled=False)) == 1
    with pytest.raises(DataError, match="label a list names no class"):
        read_samples(str(where), labeled=True)


@pytest.mark.parametrize("name", ["../1.png", "/etc/1.png", "a/../../1.png"])
def test_members_that_lead_out_are_left_out(tmp_path: Path, archive: Archives, picture: Pictures, name: str) -> None:
    where = archive(tmp_path / "t.tar", [(name, picture(1)), ("2.png", picture(2))])
    found = read_samples(str(where), labeled=False)
    assert (found.ids, [problem.kind for problem in found.problems]) == (("t.tar/2",), ["unsafe path"])


@pytest.mark.parametrize(
    ("kind", "problem"),
    [
        (tarfile.SYMTYPE, "link"),
        (tarfile.LNKTYPE, "link"),
        (tarfile.CHRTYPE, "special file"),
        (tarfile.FIFOTYPE, "special file"),
    ],
)
def test_members_that_are_no_files_are_left_out(tmp_path: Path, picture: Pictures, kind: bytes, problem: str) -> None:
    with tarfile.open(tmp_path / "t.tar", "w") as tar:
        odd = tarfile.TarInfo("1.png")
        odd.type, odd.linkname = kind, "/etc/passwd"
        tar.addfile(odd)
        whole = tarfile.TarInfo("2.png")
        whole.size = len(picture(2))
        tar.addfile(whole, io.BytesIO(picture(2)))
    found = read_samples(str(tmp_path / "t.tar"), labeled=False)
    assert (found.ids, kinds(found)) == (("t.tar/2",), [(problem, "t.tar/1.png")])


def test_hidden_members_are_left_out(tmp_path: Path, archive: Archives, picture: Pictures) -> None:
    where = archive(tmp_path / "t.tar", [("./._1.png", b"copy"), ("./1.png", picture(1))])
    found = read_samples(str(where), labeled=False)
    assert (found.ids, found.problems) == (("t.tar/1",), ())


@pytest.mark.parametrize("cut", [100, 700, 1024, 1025, 1500])
def test_a_truncated_archive_gives_what_came_before(folder: Path, picture: Pictures, cut: int) -> None:
    """Cut within a picture, a header, or between members."""
    shard = folder / "shard-000.tar"
    with tarfile.open(shard) as tar:
        second = tar.getmembers()[2]
    end = second.offset + {100: 512 + 50, 700: 200, 1024: 0, 1025: 1, 1500: 511}[cut]
    os.truncate(shard, end)
    found = read_samples(str(shard), labeled=True)
    assert content(found) == [picture(0)]
    assert kinds(found) == [("truncated", "shard-000.tar")]


def test_a_damaged_header_ends_an_archive_with_a_problem(folder: Path) -> None:
    shard = folder / "shard-000.tar"
    with tarfile.open(shard) as tar:
        third = tar.getmembers()[4].offset
    with shard.open("r+b") as file:
        file.seek(third)
        file.write(b"x" * 512)
    found = read_samples(str(shard), labeled=True)
    assert (len(found), kinds(found)) == (2, [("truncated", "shard-000.tar")])


def test_an_empty_shard_is_a_problem_of_its_own(folder: Path) -> None:
    (folder / "shard-000.tar").write_bytes(b"")
    found = read_samples(str(folder), labeled=True)
    assert (len(found), kinds(found)) == (3, [("empty file", "shard-000.tar")])


@pytest.mark.parametrize("name", ["t.tar.gz", "t.tgz"])
def test_compressed_archives_are_refused_in_words(tmp_path: Path, folder: Path, name: str) -> None:
    (tmp_path / name).write_bytes(gzip.compress((folder / "shard-000.tar").read_bytes()))
    with pytest.raises(DataError, match="compressed archives cannot be read in place; unpack"):
        check_data(str(tmp_path / name))


def test_a_compressed_archive_under_the_name_of_a_plain_one_is_refused(tmp_path: Path, folder: Path) -> None:
    (tmp_path / "t.tar").write_bytes(gzip.compress((folder / "shard-000.tar").read_bytes()))
    with pytest.raises(DataError, match=r"t\.tar: is no tar archive, or a compressed one"):
        read_samples(str(tmp_path / "t.tar"), labeled=False)


def test_threads_get_their_own_images(folder: Path, picture: Pictures) -> None:
    found = read_samples(str(folder), labeled=False)
    assert found.images is not None
    images = [image for image in found.images if isinstance(image, Stored)]
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        read = list(pool.map(lambda image: image.read(), images * 50))
    assert read == [picture(number) for number in range(6)] * 50


def test_images_go_to_other_processes(folder: Path, picture: Pictures) -> None:
    found = pickle.loads(pickle.dumps(read_samples(str(folder), labeled=False)))
    assert content(found)[5] == picture(5)


def test_a_shard_that_was_cut_since_is_named(folder: Path) -> None:
    found = read_samples(str(folder), labeled=False)
    os.truncate(folder / "shard-000.tar", 600)
    with pytest.raises(DataError, match=r"shard-000\.tar: gave 88 of \d+ bytes at 512; was it changed"):
        content(found)


def test_a_shard_that_is_gone_is_named(folder: Path) -> None:
    found = read_samples(str(folder), labeled=False)
    (folder / "shard-000.tar").unlink()
    with pytest.raises(DataError, match=r"shard-000\.tar: is not there \(any more\)"):
        content(found)


def test_an_image_says_where_it_lies(folder: Path) -> None:
    found = read_samples(str(folder), labeled=False)
    assert found.images is not None
    assert str(found.images[0]) == f"{folder}/shard-000.tar: 0000.png"


def test_images_of_one_shard_have_stamps_of_their_own(folder: Path) -> None:
    found = read_samples(str(folder), labeled=False)
    assert len({image.stamp() for image in found.images or () if isinstance(image, Stored)}) == 6


def test_a_changed_shard_has_another_fingerprint(folder: Path) -> None:
    before = read_samples(str(folder), labeled=False).fingerprint
    os.utime(folder / "shard-001.tar", (1, 1))
    assert read_samples(str(folder), labeled=False).fingerprint != before


def test_memory_does_not_grow_with_the_images(tmp_path: Path, archive: Archives) -> None:
    count = 500
    where = archive(tmp_path / "t.tar", [(f"{row}.png", bytes(20_000)) for row in range(count)])
    tracemalloc.start()
    found = read_samples(str(where), labeled=False)
    held, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(found) == count
    assert held < count * 1_000
    assert most < count * 4_000


def test_a_sample_twice_in_a_shard_counts_once(tmp_path: Path, archive: Archives, picture: Pictures) -> None:
    members = [("1.png", picture(1)), ("2.png", picture(2)), ("1.png", picture(3))]
    found = read_samples(str(archive(tmp_path / "t.tar", members)), labeled=False)
    assert content(found) == [picture(1), picture(2)]
    assert found.problems == (Problem("duplicate id", "t.tar/1", "the first is kept"),)
