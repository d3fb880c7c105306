from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

MakeImages = Callable[[Path, Sequence[str]], Path]


@pytest.fixture
def make_images() -> MakeImages:
    """Write small images under a folder; each one's pixels depend on its path within it."""

    def make(folder: Path, names: Sequence[str]) -> Path:
        for name in names:
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            generator = np.random.default_rng(zlib.crc32(name.encode()))
            Image.fromarray(generator.integers(0, 256, (10, 14, 3), dtype=np.uint8)).save(path)
        return folder

    return make
