"""A shard: one safetensors file of named arrays, written whole, and mapped when read."""

from __future__ import annotations

import json
import math
import mmap
import os
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tutelage.run import write_whole

Array = npt.NDArray[Any]

_HEADER = 8
"""Bytes that say how long the header is (the safetensors format)."""

_LONGEST_HEADER = 1 << 20

_TYPES: dict[str, np.dtype[Any]] = {
    "U8": np.dtype("u1"),
    "I8": np.dtype("i1"),
    "U16": np.dtype("<u2"),
    "I32": np.dtype("<i4"),
    "U32": np.dtype("<u4"),
    "I64": np.dtype("<i8"),
    "F16": np.dtype("<f2"),
    "F32": np.dtype("<f4"),
}


_NAMES = {kind: name for name, kind in _TYPES.items()}


FAULT = 2 << 20
"""Most bytes that come into memory when one byte of a mapped file is read: systems map whole large pages at once."""

TOUCHED = 64
"""Reads at distant places before the memory that they were mapped to is given back: 128 MB at most."""


class ShardError(Exception):
    """A file that is no shard, or not a whole one; whoever reads it makes it again."""


@dataclass(frozen=True)
class Shard:
    """An open shard.

    Attributes:
        arrays: Arrays by name; mapped, so that only what is read of them comes into memory.
        about: What it was written with: plain text by name.
        mapping: The file in memory.
    """

    arrays: Mapping[str, Array]
    about: Mapping[str, str]
    mapping: mmap.mmap

    def release(self) -> None:
        """Give back the memory that reading took; pages that are read again come from the system's cache."""
        self.mapping.madvise(mmap.MADV_DONTNEED)


@dataclass(frozen=True)
class Joined:
    """Flat arrays of bytes that are written one behind the other, as one array, without being copied together.

    Attributes:
        parts: uint8 [n_i] each.
    """

    parts: Sequence[Array]


Content = Array | Joined


def write_shard(path: Path, arrays: Mapping[str, Content], about: Mapping[str, str]) -> None:
    """Write a shard whole or not at all; its checksum goes with it.

    Args:
        path: The file; what was there is replaced, and stays valid for whoever has it open.
        arrays: Arrays by name.
        about: Text to keep with them; ``checksum`` is added.

    Raises:
        RunError: It cannot be written.
    """
    # Not safetensors' own writer, which copies everything twice: a pack is written while the next images are decoded
    # on the same cores. Wide types first, so that each array begins where its type wants to.
    described = {name: _described(array) for name, array in arrays.items()}
    ordered = sorted(described, key=lambda name: (-described[name][0].itemsize, name))
    header: dict[str, Any] = {"__metadata__": {**about, "checksum": checksum(arrays)}}
    end = 0
    for name in ordered:
        kind, shape = described[name]
        start, end = end, end + math.prod(shape) * kind.itemsize
        header[name] = {"dtype": _NAMES[kind], "shape": list(shape), "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % _HEADER)
    buffers = [buffer for name in ordered for buffer in _buffers(arrays[name])]
    write_whole(path, [len(text).to_bytes(_HEADER, "little") + text, *buffers])


def open_shard(path: Path) -> Shard:
    """Map a shard.

    Raises:
        ShardError: It is missing, no shard, or cut short.
    """
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            length = int.from_bytes(file.read(_HEADER), "little")
            if not 2 <= length <= min(_LONGEST_HEADER, size):
                raise ShardError(f"{path}: no shard")
            header = json.loads(file.read(length))
            about = dict(header.pop("__metadata__", {}))
            start = _HEADER + length
            parts = {name: _part(entry, size - start) for name, entry in header.items()}
            spans = sorted((begin, end) for *_, begin, end in parts.values())
            if [begin for begin, _ in spans] + [size - start] != [0] + [end for _, end in spans]:
                raise ShardError(f"{path}: cut short, or longer than it should be")
            mapping = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)  # torch wants memory that can be written
        arrays = {
            name: np.frombuffer(mapping, kind, math.prod(shape), start + begin).reshape(shape)
            for name, (kind, shape, begin, _) in parts.items()
        }
    except (ShardError, MemoryError):
        raise
    except Exception as error:  # what a damaged header raises is nowhere listed
        raise ShardError(f"{path}: {error}") from error
    return Shard(arrays, about, mapping)


def checksum(arrays: Mapping[str, Content]) -> str:
    """Return a CRC-32 over names, types, shapes and values."""
    found = 0
    for name in sorted(arrays):
        kind, shape = _described(arrays[name])
        found = zlib.crc32(f"{name}|{kind.str}|{shape}|".encode(), found)
        for buffer in _buffers(arrays[name]):
            found = zlib.crc32(buffer, found)
    return f"{found:08x}"


def _described(array: Content) -> tuple[np.dtype[Any], tuple[int, ...]]:
    """Return type and shape."""
    if isinstance(array, Joined):
        return np.dtype(np.uint8), (sum(part.size for part in array.parts),)
    return array.dtype, array.shape


def _buffers(array: Content) -> list[memoryview]:
    """Return the bytes of an array, in order."""
    parts = array.parts if isinstance(array, Joined) else [array]
    return [np.asarray(part, order="C").reshape(-1).view(np.uint8).data for part in parts]


def _part(entry: Mapping[str, Any], room: int) -> tuple[np.dtype[Any], tuple[int, ...], int, int]:
    kind, shape = _TYPES[entry["dtype"]], tuple(int(side) for side in entry["shape"])
    begin, end = entry["data_offsets"]
    if min(shape, default=0) < 0 or not 0 <= begin <= end <= room or end - begin != math.prod(shape) * kind.itemsize:
        raise ValueError("its header does not fit its content")
    return kind, shape, begin, end
