from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tutelage.data import pixels
from tutelage.data.pixels import decode_pixels, image_size
from tutelage.data.problems import ImageError


def encoded(image: Image.Image, form: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def png(width: int, depth: int, color: int, row: bytes, *more: bytes, height: int = 1) -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0))
    rest = b"".join(more) + chunk(b"IDAT", zlib.compress(b"\0" + row)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + header + rest


def tiff(width: int, channels: int, values: np.ndarray, *, black_is_zero: bool = True, order: str = "<") -> bytes:
    """A TIFF of one row, written by hand: Pillow does not write these kinds."""
    bits, kind = values.dtype.itemsize * 8, {"u": 1, "i": 2, "f": 3}[values.dtype.kind]
    data = values.astype(values.dtype.newbyteorder(order)).tobytes()
    behind = 8 + 2 + 12 * 10 + 4
    table = struct.pack(f"{order}{channels}H", *[bits] * channels)
    photometric = 2 if channels == 3 else int(black_is_zero)
    fields = [
        *((256, 4, 1, width), (257, 4, 1, 1), (258, 3, channels, behind if channels == 3 else bits)),
        *((259, 3, 1, 1), (262, 3, 1, photometric), (273, 4, 1, behind + len(table)), (277, 3, 1, channels)),
        *((278, 4, 1, 1), (279, 4, 1, len(data)), (339, 3, 1, kind)),
    ]
    out = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}IH", 8, len(fields))
    for tag, form, count, value in fields:
        short = form == 3 and count == 1
        out += struct.pack(f"{order}HHI", tag, form, count) + struct.pack(
            f"{order}HH" if short else f"{order}I", *((value, 0) if short else (value,))
        )
    return out + struct.pack(f"{order}I", 0) + table + data


U16 = np.array([0, 257, 200 * 257, 65535], dtype=np.uint16)
ADOBE_CMYK = encoded(Image.new("CMYK", (1, 1), (0, 255, 255, 0)), "JPEG", quality=100)
CLEAR = chunk(b"tRNS", b"\0\0")

KINDS: dict[str, tuple[bytes | Image.Image, list[list[int]]]] = {
    "16-bit gray PNG": (png(4, 16, 0, U16.astype(">u2").tobytes()), [[0] * 3, [1] * 3, [200] * 3, [255] * 3]),
    "16-bit RGB PNG": (png(1, 16, 2, U16[[0, 2, 3]].astype(">u2").tobytes()), [[0, 200, 255]]),
    "16-bit RGBA PNG": (png(1, 16, 6, U16[[0, 2, 3, 3]].astype(">u2").tobytes()), [[0, 200, 255]]),
    "16-bit gray PNG with a clear color": (png(2, 16, 0, b"\0\0\1\1", CLEAR), [[255] * 3, [1] * 3]),
    "16-bit gray TIFF": (tiff(4, 1, U16), [[0] * 3, [1] * 3, [200] * 3, [255] * 3]),
    "16-bit gray TIFF, the other byte order": (tiff(4, 1, U16, order=">"), [[0] * 3, [1] * 3, [200] * 3, [255] * 3]),
    "16-bit gray TIFF, white is zero": (
        tiff(4, 1, U16, black_is_zero=False),
        [[255] * 3, [254] * 3, [55] * 3, [0] * 3],
    ),
    "8-bit gray TIFF, white is zero": (
        tiff(2, 1, np.array([10, 250], np.uint8), black_is_zero=False),
        [[245] * 3, [5] * 3],
    ),
    "16-bit RGB TIFF": (tiff(1, 3, U16[[0, 2, 3]]), [[0, 200, 255]]),
    "16-bit RGB TIFF, the other byte order": (tiff(1, 3, U16[[0, 2, 3]], order=">"), [[0, 200, 255]]),
    "32-bit gray TIFF": (tiff(2, 1, np.array([257, 65535], np.int32)), [[1] * 3, [255] * 3]),
    "floating-point TIFF to 1": (tiff(3, 1, np.array([0, 0.2, 1], np.float32)), [[0] * 3, [51] * 3, [255] * 3]),
    "floating-point TIFF to 255": (tiff(3, 1, np.array([-1, 64, 300], np.float32)), [[0] * 3, [64] * 3, [255] * 3]),
    "floating-point TIFF with gaps": (tiff(2, 1, np.array([np.nan, 1], np.float32)), [[0] * 3, [255] * 3]),
    "two-bit gray": (png(4, 2, 0, bytes([0b00011011])), [[0] * 3, [85] * 3, [170] * 3, [255] * 3]),
    "one bit": (png(2, 1, 0, bytes([0b01000000])), [[0] * 3, [255] * 3]),
    "gray with alpha": (png(2, 8, 4, bytes([40, 51, 40, 255])), [[212] * 3, [40] * 3]),
    "gray with a clear color": (png(2, 8, 0, bytes([0, 9]), CLEAR), [[255] * 3, [9] * 3]),
    "palette with alpha": (Image.new("PA", (1, 1)), [[255] * 3]),
    "premultiplied alpha": (Image.new("RGBA", (1, 1), (100, 0, 0, 51)).convert("RGBa"), [[224, 204, 204]]),
    "CMYK TIFF": (encoded(Image.new("CMYK", (1, 1), (0, 255, 255, 0)), "TIFF"), [[255, 0, 0]]),
    "CMYK JPEG, inverted as Adobe does": (ADOBE_CMYK, [[255, 0, 0]]),
    "YCbCr TIFF": (encoded(Image.new("YCbCr", (1, 1), (76, 85, 255)), "TIFF"), [[254, 0, 0]]),
}


@pytest.mark.parametrize("name", KINDS)
def test_each_kind_of_pixel_becomes_its_color(name: str) -> None:
    image, expected = KINDS[name]
    found = decode_pixels(image)
    assert found.dtype == np.uint8
    assert np.abs(found[0].astype(int) - expected).max() <= ("premultiplied" in name)


def test_the_adobe_jpeg_is_marked_as_such() -> None:
    assert b"Adobe" in ADOBE_CMYK


@pytest.mark.parametrize("form", ["GIF", "WEBP", "PNG"])
def test_of_every_animation_the_first_frame_is_taken(form: str) -> None:
    frames = [Image.new("RGB", (4, 4), color) for color in ("red", "blue")]
    found = decode_pixels(encoded(frames[0], form, save_all=True, append_images=frames[1:]))
    assert np.abs(found.astype(int) - [255, 0, 0]).max() <= 1


@pytest.mark.parametrize("function", [decode_pixels, image_size])
@pytest.mark.parametrize(("width", "height"), [(15000, 15000), (200_000_001, 1), (1, 200_000_001), (30000, 30000)])
def test_too_many_pixels_are_refused_by_the_header(width: int, height: int, function: Any) -> None:
    with pytest.raises(ImageError, match=r"has \d+ x \d+ pixels, more than the limit of 200,000,000") as raised:
        function(png(width, 8, 2, b"", height=height))
    assert raised.value.kind == "too large"


def test_as_many_pixels_as_the_limit_are_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pixels, "PIXEL_LIMIT", 12)
    assert decode_pixels(encoded(Image.new("RGB", (4, 3)))).shape == (3, 4, 3)


def test_more_pixels_than_pillow_warns_of_are_told_without_a_warning() -> None:
    assert image_size(png(10_000, 8, 2, b"", height=19_000)) == (19_000, 10_000)


@pytest.mark.parametrize("function", [decode_pixels, image_size])
@pytest.mark.parametrize(
    ("number", "kind", "message"),
    [
        (13, "unreadable", r"a\.png: cannot be read \(Permission denied\); repair"),
        (5, "unreadable", r"a\.png: cannot be read \(Input/output error\)"),
        (2, "vanished", r"a\.png: cannot be read \(No such file or directory\); was it moved\?"),
    ],
)
def test_what_the_system_says_when_opening_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, kind: str, message: str, function: Any
) -> None:
    import os

    path = tmp_path / "a.png"
    path.write_bytes(b"anything")

    def refuse(*args: Any, **options: Any) -> Any:
        path.unlink()
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(Path, "read_bytes", refuse)
    monkeypatch.setattr(Image, "open", refuse)
    with pytest.raises(ImageError, match=message) as raised:
        function(path)
    assert raised.value.kind == kind


def test_a_name_that_is_no_text_can_be_printed(tmp_path: Path) -> None:
    with pytest.raises(ImageError) as raised:
        decode_pixels(tmp_path / "caf\udce9.png")
    assert str(raised.value).encode().count(b"caf\\udce9.png") == 1


def test_what_is_raised_comes_whole_from_another_process() -> None:
    import copy

    error = copy.copy(ImageError("a.png: bad", "damaged", "its header"))
    assert (str(error), error.kind, error.detail) == ("a.png: bad", "damaged", "its header")


def test_foreign_content_is_named() -> None:
    with pytest.raises(ImageError, match="not an image but a Git LFS pointer; fetch the files"):
        decode_pixels(b"version https://git-lfs.github.com/spec/v1\noid sha256:1")
