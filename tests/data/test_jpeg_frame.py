from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from tutelage.data.formats import jpeg_frame


def encoded(mode: str = "RGB", size: tuple[int, int] = (37, 21), form: str = "JPEG", **options: object) -> bytes:
    file = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).convert(mode).save(file, form, **options)
    return file.getvalue()


@pytest.mark.parametrize(("mode", "components"), [("L", 1), ("RGB", 3), ("CMYK", 4)])
@pytest.mark.parametrize("progressive", [False, True])
def test_height_width_and_components_are_found(mode: str, components: int, progressive: bool) -> None:
    assert jpeg_frame(encoded(mode, progressive=progressive)) == (21, 37, components)


def test_what_stands_before_the_frame_is_skipped() -> None:
    exif = Image.Exif()
    exif[0x010E] = "a description " * 500
    assert jpeg_frame(encoded(exif=exif, comment=b"\xff\xc0 is no frame here")) == (21, 37, 3)


@pytest.mark.parametrize("form", ["PNG", "BMP", "GIF"])
def test_other_formats_have_none(form: str) -> None:
    assert jpeg_frame(encoded(form=form)) is None


def test_wherever_a_file_ends_nothing_but_a_frame_or_none_is_found() -> None:
    content = encoded()
    found = [jpeg_frame(content[:length]) for length in range(len(content))]
    assert set(found) == {None, (21, 37, 3)}


@pytest.mark.parametrize("content", [b"", b"\xff\xd8\xff", b"\xff\xd8\xff\xe0\x00\x00" + bytes(50), bytes(100)])
def test_damaged_headers_have_none(content: bytes) -> None:
    assert jpeg_frame(content) is None
