from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from tutelage.data.thumbnails import LOSSLESS, thumbnail

SIDE = 160


@pytest.mark.parametrize(
    ("size", "kept"),
    [((8, 8), (8, 8)), ((LOSSLESS, 3), (LOSSLESS, 3)), ((640, 480), (SIDE, 120)), ((1, 4000), (1, SIDE))],
)
def test_thumbnails_are_small_and_small_images_untouched(size: tuple[int, int], kept: tuple[int, int]) -> None:
    pixels = np.random.default_rng(5).integers(0, 256, (size[1], size[0], 3)).astype(np.uint8)
    content, ending = thumbnail(pixels, SIDE)
    with Image.open(io.BytesIO(content)) as picture:
        assert picture.size == kept
        assert picture.format == ("PNG" if ending == "png" else "JPEG")
    assert (ending == "png") == (max(kept) <= LOSSLESS)
