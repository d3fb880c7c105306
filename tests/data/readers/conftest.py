from __future__ import annotations

import io
import tarfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

Pictures = Callable[[int], bytes]
Archives = Callable[[Path, Sequence[tuple[str, bytes]]], Path]


@pytest.fixture
def picture() -> Pictures:
    """Return an encoded image whose pixels depend on a number."""

    def make(number: int) -> bytes:
        file = io.BytesIO()
        pixels = np.random.default_rng(number).integers(0, 256, (6, 7, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(file, "PNG")
        return file.getvalue()

    return make


@pytest.fixture
def archive() -> Archives:
    """Write a tar of (name, content) members."""

    def make(path: Path, members: Sequence[tuple[str, bytes]]) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tarfile.open(path, "w") as tar:
            for name, content in members:
                header = tarfile.TarInfo(name)
                header.size = len(content)
                tar.addfile(header, io.BytesIO(content))
        return path

    return make


@pytest.fixture
def memory() -> Iterator[Any]:
    """Give fsspec's file system in memory, empty before and after."""
    import fsspec

    store = fsspec.filesystem("memory")
    store.store.clear()
    store.pseudo_dirs[:] = [""]
    yield store
    store.store.clear()
    store.pseudo_dirs[:] = [""]
