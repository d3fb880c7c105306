from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from tutelage.store import shards
from tutelage.store.shards import ShardError, checksum, open_shard, write_shard

GENERATOR = np.random.default_rng(0)

ARRAYS = {
    "pixels": GENERATOR.integers(0, 256, 37, dtype=np.uint8),
    "logits": GENERATOR.normal(size=(3, 5)).astype(np.float16),
    "starts": np.arange(4, dtype=np.int64),
}


def written(path: Path, **about: str) -> Path:
    write_shard(path, ARRAYS, about)
    return path


def same(found: Any, expected: Any) -> bool:
    return found.keys() == expected.keys() and all(
        (found[name].dtype, found[name].shape) == (expected[name].dtype, expected[name].shape)
        and np.array_equal(found[name], expected[name])
        for name in expected
    )


@pytest.mark.parametrize("kind", shards._TYPES.values(), ids=shards._TYPES)
@pytest.mark.parametrize("shape", [(), (0,), (7,), (3, 5), (2, 0, 4), (1, 2, 3, 4)])
def test_an_array_comes_back_with_its_type_shape_and_values(
    tmp_path: Path, kind: np.dtype[Any], shape: tuple[int, ...]
) -> None:
    arrays = {"x": np.asarray(GENERATOR.integers(0, 100, shape)).astype(kind)}
    write_shard(tmp_path / "s", arrays, {})
    assert same(open_shard(tmp_path / "s").arrays, arrays)


def test_arrays_of_several_types_come_back_side_by_side(tmp_path: Path) -> None:
    arrays = {
        f"{number} {name}": GENERATOR.integers(0, 100, 2 * number + 1).astype(kind)
        for number, (name, kind) in enumerate(shards._TYPES.items())
    }
    write_shard(tmp_path / "s", arrays, {})
    assert same(open_shard(tmp_path / "s").arrays, arrays)


def test_every_array_begins_where_its_type_wants_to(tmp_path: Path) -> None:
    arrays = open_shard(written(tmp_path / "s")).arrays
    assert all(array.flags.aligned for array in arrays.values())


def test_arrays_need_not_be_contiguous(tmp_path: Path) -> None:
    array = np.arange(24, dtype=np.float32).reshape(4, 6)
    for number, each in enumerate((array[::-1, ::2], array.T, np.broadcast_to(array[0], (3, 6)))):
        write_shard(path := tmp_path / str(number), {"x": each}, {})
        assert same(open_shard(path).arrays, {"x": each})


def test_a_shard_may_hold_nothing(tmp_path: Path) -> None:
    write_shard(tmp_path / "s", {}, {"why": "test"})
    found = open_shard(tmp_path / "s")
    assert not found.arrays
    assert found.about["why"] == "test"


def test_text_is_kept(tmp_path: Path) -> None:
    about = {"store": "0f", "name": 'größer "quoted"\n', "": ""}
    found = open_shard(written(tmp_path / "s", **about)).about
    assert found == {**about, "checksum": checksum(ARRAYS)}


def test_safetensors_reads_a_shard(tmp_path: Path) -> None:
    assert same(load_file(written(tmp_path / "s", store="x")), ARRAYS)


def test_the_checksum_is_the_same_after_reading(tmp_path: Path) -> None:
    assert checksum(open_shard(written(tmp_path / "s")).arrays) == checksum(ARRAYS)


def test_the_order_of_arrays_does_not_change_the_checksum() -> None:
    assert checksum(dict(reversed(ARRAYS.items()))) == checksum(ARRAYS)


@pytest.mark.parametrize("name", ARRAYS)
def test_every_value_changes_the_checksum(name: str) -> None:
    for place in range(ARRAYS[name].size):
        array = ARRAYS[name].copy()
        array.flat[place] += 1
        assert checksum({**ARRAYS, name: array}) != checksum(ARRAYS)


CHANGES: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "name": lambda arrays: {**{key: arrays[key] for key in arrays if key != "starts"}, "start": arrays["starts"]},
    "shape": lambda arrays: {**arrays, "logits": arrays["logits"].reshape(5, 3)},
    "dimensions": lambda arrays: {**arrays, "starts": arrays["starts"][None]},
    "type": lambda arrays: {**arrays, "logits": arrays["logits"].view(np.uint16)},
    "missing": lambda arrays: {key: arrays[key] for key in arrays if key != "starts"},
    "more": lambda arrays: {**arrays, "empty": np.zeros(0, np.uint8)},
    "exchanged": lambda arrays: {**arrays, "pixels": arrays["starts"], "starts": arrays["pixels"]},
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_names_types_and_shapes_change_the_checksum(change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    assert checksum(change(dict(ARRAYS))) != checksum(ARRAYS)


def test_a_scalar_and_a_row_of_one_have_different_checksums() -> None:
    assert checksum({"x": np.float32(1)}) != checksum({"x": np.ones(1, np.float32)})


def test_a_shard_cut_short_anywhere_is_refused(tmp_path: Path) -> None:
    whole = written(tmp_path / "s", store="x").read_bytes()
    cut = tmp_path / "cut"
    for length in range(len(whole)):
        cut.write_bytes(whole[:length])
        with pytest.raises(ShardError, match="cut"):
            open_shard(cut)


def test_a_shard_with_something_after_its_end_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path / "s")
    path.write_bytes(path.read_bytes() + b"\0")
    with pytest.raises(ShardError, match="longer than it should be"):
        open_shard(path)


@pytest.mark.parametrize("bits", [0x01, 0x20, 0x80, 0xFF])
def test_no_flipped_byte_gives_other_values_under_the_same_checksum(tmp_path: Path, bits: int) -> None:
    whole = written(tmp_path / "s", store="x").read_bytes()
    refused = found = 0
    for place in range(len(whole)):
        damaged = bytearray(whole)
        damaged[place] ^= bits
        (tmp_path / "bad").write_bytes(damaged)
        try:
            arrays = open_shard(tmp_path / "bad").arrays
        except ShardError:
            refused += 1
            continue
        if checksum(arrays) != checksum(ARRAYS):
            found += 1
        else:
            assert same(arrays, ARRAYS)
    assert refused > 100  # most of the header
    assert found >= sum(array.nbytes for array in ARRAYS.values())  # all of the content


def test_arbitrary_bytes_are_refused(tmp_path: Path) -> None:
    generator = np.random.default_rng(1)
    for length in [*range(12), 100, 5000]:
        (tmp_path / "s").write_bytes(generator.bytes(length))
        with pytest.raises(ShardError):
            open_shard(tmp_path / "s")


def raw(path: Path, header: bytes, content: bytes = b"", length: int | None = None) -> Path:
    path.write_bytes((len(header) if length is None else length).to_bytes(8, "little") + header + content)
    return path


def entry(**changes: Any) -> dict[str, Any]:
    return {"x": {"dtype": "U8", "shape": [4], "data_offsets": [0, 4], **changes}}


def test_the_entry_that_the_next_tests_change_is_a_good_one(tmp_path: Path) -> None:
    found = open_shard(raw(tmp_path / "s", json.dumps(entry()).encode(), b"abcd"))
    assert found.arrays["x"].tobytes() == b"abcd"


HEADERS: dict[str, Any] = {
    "list": [],
    "text": "x",
    "number": 1,
    "nothing": None,
    "entry is a list": {"x": []},
    "entry is a number": {"x": 4},
    "no type": {"x": {"shape": [4], "data_offsets": [0, 4]}},
    "text is a number": {"__metadata__": 3, **entry()},
    "text is a list": {"__metadata__": [1, 2], **entry()},
    "unknown type": entry(dtype="F64"),
    "type is a list": entry(dtype=["U8"]),
    "negative side": entry(shape=[-4]),
    "two negative sides": entry(shape=[-2, -2]),
    "huge side": entry(shape=[2**62]),
    "side past all integers": entry(shape=[10**30]),
    "empty but huge": entry(shape=[0, 10**30], data_offsets=[0, 0]),
    "infinite side": entry(shape=[float("inf")]),
    "side is no number": entry(shape=[float("nan")]),
    "side is text": entry(shape=["four"]),
    "shape is a number": entry(shape=4),
    "too many dimensions": entry(shape=[4] + [1] * 200),
    "wrong size": entry(shape=[3]),
    "wrong size for its type": entry(dtype="F16"),
    "negative offset": entry(data_offsets=[-4, 0]),
    "backwards": entry(data_offsets=[4, 0]),
    "past the end": entry(data_offsets=[1, 5]),
    "huge offset": entry(data_offsets=[2**63, 2**63 + 4]),
    "one offset": entry(data_offsets=[0]),
    "three offsets": entry(data_offsets=[0, 2, 4]),
    "fractions": entry(data_offsets=[0.0, 4.0]),
    "no offsets": entry(data_offsets=None),
    "overlapping": {**entry(), "y": {"dtype": "U8", "shape": [2], "data_offsets": [2, 4]}},
    "the same twice": {**entry(), "y": entry()["x"]},
    "a gap": {
        "x": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]},
        "y": {"dtype": "U8", "shape": [1], "data_offsets": [3, 4]},
    },
    "begins late": entry(shape=[2], data_offsets=[2, 4]),
    "ends early": entry(shape=[2], data_offsets=[0, 2]),
    "nothing in it": {},
}


@pytest.mark.parametrize("header", HEADERS.values(), ids=HEADERS)
def test_a_header_that_does_not_fit_is_refused(tmp_path: Path, header: Any) -> None:
    with pytest.raises(ShardError):
        open_shard(raw(tmp_path / "s", json.dumps(header).encode(), b"abcd"))


@pytest.mark.parametrize(
    "header", [b"[" * 100_000, b'{"x":' * 100_000, b"\xff\xfe", b"{}}", b"  ", b'{"\\ud800": 1}']
)
def test_a_header_that_is_no_json_is_refused(tmp_path: Path, header: bytes) -> None:
    with pytest.raises(ShardError):
        open_shard(raw(tmp_path / "s", header))


@pytest.mark.parametrize("length", [0, 1, 2**20 + 1, 2**31, 2**62, 2**64 - 1])
def test_a_header_of_impossible_length_is_refused_before_it_is_read(tmp_path: Path, length: int) -> None:
    with pytest.raises(ShardError, match="no shard"):
        open_shard(raw(tmp_path / "s", json.dumps(entry()).encode(), b"abcd", length))


class Bomb:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def test_nothing_is_unpickled(tmp_path: Path) -> None:
    content = pickle.dumps(Bomb(tmp_path / "exploded"))
    for header in (content, json.dumps(entry(dtype="O", shape=[1])).encode()):
        with pytest.raises(ShardError):
            open_shard(raw(tmp_path / "s", header, content))
    np.save(tmp_path / "s", np.array([Bomb(tmp_path / "exploded")], dtype=object), allow_pickle=True)
    with pytest.raises(ShardError):
        open_shard(tmp_path / "s.npy")
    assert not (tmp_path / "exploded").exists()


@pytest.mark.parametrize("kind", ["missing", "a folder", "a link to nowhere"])
def test_what_is_no_file_is_refused(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "s"
    if kind == "a folder":
        path.mkdir()
    elif kind == "a link to nowhere":
        path.symlink_to(tmp_path / "gone")
    with pytest.raises(ShardError, match="/s"):
        open_shard(path)


def test_arrays_stay_valid_when_memory_is_given_back(tmp_path: Path) -> None:
    found = open_shard(written(tmp_path / "s"))
    for _ in range(3):
        assert same(found.arrays, ARRAYS)
        found.release()
    assert same(found.arrays, ARRAYS)


def resident(path: Path) -> int:
    """KiB of a mapped file that are in this process's memory."""
    lines = iter(Path("/proc/self/smaps").read_text().splitlines())
    return sum(
        int(next(line for line in lines if line.startswith("Rss")).split()[1])
        for line in lines
        if line.endswith(str(path))
    )


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="asks Linux")
def test_releasing_gives_memory_back(tmp_path: Path) -> None:
    write_shard(path := tmp_path / "s", {"x": np.ones(1 << 22, np.uint8)}, {})
    found = open_shard(path)
    assert int(found.arrays["x"].sum()) == 1 << 22
    before = resident(path)
    found.release()
    assert before > 4000
    assert resident(path) < 100


def test_an_open_shard_stays_as_it_was_when_it_is_written_again(tmp_path: Path) -> None:
    first = open_shard(written(tmp_path / "s"))
    write_shard(tmp_path / "s", {"pixels": np.zeros(9, np.uint8)}, {})
    first.release()
    assert same(first.arrays, ARRAYS)
    assert open_shard(tmp_path / "s").arrays["pixels"].tolist() == [0] * 9


def test_an_open_shard_stays_as_it_was_when_it_is_removed(tmp_path: Path) -> None:
    first = open_shard(written(tmp_path / "s"))
    (tmp_path / "s").unlink()
    first.release()
    assert same(first.arrays, ARRAYS)


def test_arrays_outlive_their_shard(tmp_path: Path) -> None:
    arrays = dict(open_shard(written(tmp_path / "s")).arrays)
    (tmp_path / "s").unlink()
    assert same(arrays, ARRAYS)


def test_writing_into_an_open_array_does_not_reach_the_file(tmp_path: Path) -> None:
    first = open_shard(written(tmp_path / "s"))
    first.arrays["pixels"][:] = 0
    assert same(open_shard(tmp_path / "s").arrays, ARRAYS)
