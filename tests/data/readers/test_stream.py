from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tutelage.data.readers import read_samples
from tutelage.data.readers import stream as module
from tutelage.data.readers.stream import CHUNK, stream_samples
from tutelage.errors import DataError, UnknownNameError

if TYPE_CHECKING:
    from conftest import Archives, MakeImages


def ids(where: str, **share: int) -> list[str]:
    return [name for chunk in stream_samples(where, **share) for name in chunk.ids]


@pytest.fixture(params=["folder", "tars", "url", "list", "table"])
def where(
    request: pytest.FixtureRequest, tmp_path: Path, make_images: MakeImages, archive: Archives, memory: Any
) -> str:
    """Forty samples of each kind."""
    names = [f"{'ab'[number % 2]}/{number}.png" for number in range(40)]
    if request.param == "tars":
        for shard in range(8):
            archive(tmp_path / f"{shard}.tar", [(f"{number}.png", b"x") for number in range(5)])
        return str(tmp_path)
    if request.param == "url":
        for name in names:
            memory.pipe(f"/data/{name}", b"x")
        return "memory://data"
    folder = make_images(tmp_path / "images", names)
    if request.param == "folder":
        return str(folder)
    text = "\n".join(names)
    (tmp_path / "list.txt").write_text(text)
    (folder / "t.csv").write_text(f"image\n{text}\n")
    return f"list:{tmp_path / 'list.txt'}@{folder}" if request.param == "list" else f"{folder}/t.csv"


def test_a_stream_holds_what_reading_does(where: str) -> None:
    assert sorted(ids(where)) == sorted(read_samples(where, labeled=False).ids)


def test_images_of_a_stream_are_those_of_reading(where: str) -> None:
    read = read_samples(where, labeled=False)
    streamed = {
        name: str(image)
        for chunk in stream_samples(where)
        for name, image in zip(chunk.ids, chunk.images or (), strict=True)
    }
    assert streamed == {name: str(image) for name, image in zip(read.ids, read.images or (), strict=True)}


def test_a_stream_has_one_order(where: str) -> None:
    assert ids(where) == ids(where)


@pytest.mark.parametrize("shards", [2, 3, 7])
def test_shares_have_nothing_in_common_and_all_together(where: str, shards: int) -> None:
    shares = [ids(where, shard=shard, shards=shards) for shard in range(shards)]
    assert sorted(name for share in shares for name in share) == sorted(ids(where))
    assert sum(map(bool, shares)) > 1


def test_chunks_are_full_but_for_the_last(where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CHUNK", 16)
    assert [len(chunk) for chunk in stream_samples(where)] == [16, 16, 8]


def test_chunks_have_no_targets(where: str) -> None:
    assert all(chunk.targets is None for chunk in stream_samples(where))


def test_a_chunk_is_at_most_a_thousand() -> None:
    assert [len(chunk) for chunk in stream_samples("digits")] == [CHUNK, 200]


def test_archives_go_to_shares_whole(tmp_path: Path, archive: Archives) -> None:
    for shard in range(4):
        archive(tmp_path / f"{shard}.tar", [(f"{number}.png", b"x") for number in range(3)])
    names = ids(str(tmp_path), shard=1, shards=2)
    assert {name.partition("/")[0] for name in names} == {"1.tar", "3.tar"}


def test_new_images_do_not_move_old_ones_to_other_shares(tmp_path: Path, make_images: MakeImages) -> None:
    make_images(tmp_path, [f"{number}.png" for number in range(20)])
    before = set(ids(str(tmp_path), shard=0, shards=3))
    make_images(tmp_path, [f"0{number}.png" for number in range(20)])
    assert before <= set(ids(str(tmp_path), shard=0, shards=3))


def test_problems_come_with_the_chunks(tmp_path: Path, make_images: MakeImages) -> None:
    make_images(tmp_path, ["a.png"])
    os.mkfifo(tmp_path / "z.png")
    assert [[problem.where for problem in chunk.problems] for chunk in stream_samples(str(tmp_path))] == [["z.png"]]


def test_the_first_chunk_does_not_wait_for_the_last_archive(tmp_path: Path, archive: Archives) -> None:
    archive(tmp_path / "0.tar", [(f"{number}.png", b"x") for number in range(CHUNK + 1)])
    (tmp_path / "1.tar").write_bytes(b"no archive at all")
    stream = stream_samples(str(tmp_path))
    assert len(next(stream)) == CHUNK
    with pytest.raises(DataError, match=r"1\.tar: is no tar archive"):
        next(stream)


@pytest.mark.parametrize(("shard", "shards"), [(2, 2), (-1, 2), (0, 0)])
def test_a_share_that_is_none_is_refused(shard: int, shards: int) -> None:
    with pytest.raises(DataError, match=f"there is no share {shard} of {shards}"):
        stream_samples("digits", shard=shard, shards=shards)


def test_missing_data_are_named(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="unknown folder 'none'"):
        next(stream_samples(str(tmp_path / "none")))
