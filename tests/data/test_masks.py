from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import ExifTags, Image

from tutelage.data.mask_codes import MOST_CLASSES, Classes, make_code
from tutelage.data.mask_pixels import check_mask
from tutelage.data.masks import IGNORED, Mask, MaskCode, decode_mask, resized
from tutelage.data.problems import ImageError
from tutelage.data.samples import ImageSource
from tutelage.errors import DataError

IDS = np.array([[0, 1, 2], [2, 255, 1]], dtype=np.uint8)
CLASSES = [[0, 1, 2], [2, IGNORED, 1]]
COLORS: dict[str, Any] = {"sky": [0, 128, 255], "road": [9, 9, 9], "tree": [0, 0, 0]}
SHADES = np.array([[0, 128, 255], [9, 9, 9], [0, 0, 0]], dtype=np.uint8)


def encoded(image: Image.Image, form: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def palette(indices: npt.NDArray[np.uint8] = IDS) -> Image.Image:
    image = Image.fromarray(indices, "P")
    colors = np.full((256, 3), 200, dtype=np.uint8)
    colors[:3] = SHADES
    image.putpalette(colors.tobytes())
    return image


def rgb(indices: Any = ((0, 1), (2, 1))) -> Image.Image:
    return Image.fromarray(SHADES[np.array(indices)])


def few_bits(values: npt.NDArray[np.uint8], bits: int) -> bytes:
    """A gray PNG of 2 or 4 bits, which Pillow does not write."""
    import struct
    import zlib

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    height, width = values.shape
    lines = b""
    for line in values:
        text = "".join(f"{value:0{bits}b}" for value in line)
        text += "0" * (-len(text) % 8)
        lines += b"\0" + bytes(int(text[at : at + 8], 2) for at in range(0, len(text), 8))
    header = struct.pack(">IIBBBBB", width, height, bits, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b"")


WHOLE: dict[str, Callable[[], ImageSource]] = {
    "gray": lambda: encoded(Image.fromarray(IDS)),
    "palette": lambda: encoded(palette()),
    "palette with transparency": lambda: encoded(palette(), transparency=1),
    "16 bits": lambda: encoded(Image.fromarray(IDS.astype(np.uint16))),
    "16 bits, TIFF": lambda: encoded(Image.fromarray(IDS.astype(np.uint16)), "TIFF"),
    "32 bits, TIFF": lambda: encoded(Image.fromarray(IDS.astype(np.int32)), "TIFF"),
    "gray with alpha": lambda: encoded(Image.merge("LA", [Image.fromarray(IDS), Image.new("L", (3, 2), 7)])),
    "array": lambda: IDS,
}


@pytest.mark.parametrize("name", WHOLE)
def test_every_form_of_whole_numbers_gives_the_same_classes(name: str) -> None:
    found = decode_mask(Mask(WHOLE[name](), MaskCode()))
    assert found.dtype == torch.int16
    assert found.tolist() == CLASSES


@pytest.mark.parametrize(("bits", "most"), [(2, 4), (4, 16)])
def test_gray_of_few_bits_keeps_its_values(bits: int, most: int) -> None:
    values = np.arange(most, dtype=np.uint8)[None]
    assert decode_mask(Mask(few_bits(values, bits), MaskCode())).tolist() == values.tolist()


def test_one_bit_is_two_classes() -> None:
    image = Image.fromarray(np.array([[0, 255], [255, 0]], dtype=np.uint8)).convert("1")
    assert decode_mask(Mask(encoded(image), MaskCode())).tolist() == [[0, 1], [1, 0]]


def test_16_bits_hold_more_than_255_classes() -> None:
    values = np.array([[300, 65535, 0]], dtype=np.uint16)
    code = MaskCode(ignored=(65535,))
    assert decode_mask(Mask(encoded(Image.fromarray(values)), code)).tolist() == [[300, IGNORED, 0]]


def test_classes_begin_where_the_code_says() -> None:
    code, names = make_code(["wall", "sky"], "here", ignored=(0,), first=1)
    assert decode_mask(Mask(IDS[:1], code)).tolist() == [[IGNORED, 0, 1]]
    assert names == ("wall", "sky")


def test_values_far_apart_become_class_numbers_in_order() -> None:
    code, _ = make_code({"car": 26, "road": 7}, "here")
    pixels = np.array([[7, 26, 255]], dtype=np.uint8)
    assert decode_mask(Mask(pixels, code)).tolist() == [[1, 0, IGNORED]]


def test_an_order_renumbers_classes_by_name() -> None:
    code, names = make_code(["b", "a"], "here", order=("a", "b", "c"))
    assert decode_mask(Mask(np.array([[0, 1]], dtype=np.uint8), code)).tolist() == [[1, 0]]
    assert names == ("a", "b", "c")


COLORED: dict[str, Callable[[], ImageSource]] = {
    "RGB": lambda: encoded(rgb()),
    "RGB with alpha": lambda: encoded(Image.fromarray(np.dstack([np.asarray(rgb()), np.full((2, 2), 3, np.uint8)]))),
    "palette": lambda: encoded(palette(np.array([[0, 1], [2, 1]], dtype=np.uint8))),
    "palette with transparency": lambda: encoded(
        palette(np.array([[0, 1], [2, 1]], dtype=np.uint8)), transparency=bytes([0, 9, 255])
    ),
    "array": lambda: np.asarray(rgb()),
}


@pytest.mark.parametrize("name", COLORED)
def test_colors_become_classes(name: str) -> None:
    code, _ = make_code(COLORS, "here")
    assert decode_mask(Mask(COLORED[name](), code)).tolist() == [[0, 1], [2, 1]]


def test_gray_masks_have_gray_colors() -> None:
    code, _ = make_code({"tree": (0, 0, 0), "road": (9, 9, 9)}, "here")
    pixels = np.array([[9, 0]], dtype=np.uint8)
    expected = [[1, 0]]
    assert decode_mask(Mask(pixels, code)).tolist() == expected
    assert decode_mask(Mask(encoded(Image.fromarray(pixels)), code)).tolist() == expected


def test_colors_can_be_ignored() -> None:
    code, _ = make_code({"sky": (0, 128, 255), "road": (9, 9, 9)}, "here", ignored=((0, 0, 0),))
    assert decode_mask(Mask(encoded(rgb()), code)).tolist() == [[0, 1], [IGNORED, 1]]


def test_ignored_indices_of_a_palette_hold_beside_colors() -> None:
    code, _ = make_code(COLORS, "here")
    assert decode_mask(Mask(encoded(palette()), code)).tolist() == CLASSES


def test_a_mask_is_turned_as_its_image_is() -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    found = decode_mask(Mask(encoded(Image.fromarray(IDS), exif=exif), MaskCode()))
    assert found.tolist() == np.rot90(np.array(CLASSES), -1).tolist()


def in_file(folder: Path, content: bytes) -> Path:
    path = folder / "m.png"
    path.write_bytes(content)
    return path


BAD: dict[str, tuple[bytes, Classes | None, str, str]] = {
    "colors without classes": (encoded(rgb()), None, "RGB mask", "give each class its color"),
    "gray in three channels": (encoded(Image.fromarray(IDS).convert("RGB")), None, "RGB mask", "convert it to gray"),
    "a value of no class": (
        encoded(Image.fromarray(IDS)),
        ["a", "b"],
        "unknown id",
        r"value 2 at row 0, column 2 is that of no class \(classes have 0, 1\)",
    ),
    "a value past many classes": (
        encoded(Image.fromarray(IDS + 200)),
        [str(n) for n in range(100)],
        "unknown id",
        r"value 200 at row 0, column 0 .*\(classes have 0 to 99\)",
    ),
    "a value past all classes": (
        encoded(Image.fromarray(np.array([[0, 40000]], dtype=np.uint16))),
        None,
        "unknown id",
        f"value 40000 at row 0, column 1 .*below {MOST_CLASSES:,}",
    ),
    "a negative value": (
        encoded(Image.fromarray(np.array([[0, -1]], dtype=np.int32)), "TIFF"),
        None,
        "unknown id",
        "value -1 at row 0, column 1",
    ),
    "a color of no class": (
        encoded(rgb()),
        {"sky": (0, 128, 255), "road": (9, 9, 9)},
        "unknown id",
        r"color \[0, 0, 0\] at row 1, column 0 .*\[0, 128, 255\], \[9, 9, 9\]",
    ),
    "a JPEG": (encoded(Image.fromarray(IDS), "JPEG"), None, "not a mask", "a JPEG, .* save masks as PNG"),
    "floats": (encoded(Image.fromarray(IDS.astype(np.float32)), "TIFF"), None, "not a mask", "of mode F"),
    "16 bits where classes have colors": (
        encoded(Image.fromarray(IDS.astype(np.uint16))),
        COLORS,
        "not a mask",
        "16-bit gray, and classes have colors",
    ),
    "half a file": (encoded(Image.fromarray(IDS))[:50], None, "truncated", "cannot be decoded"),
    "text": (b"no mask", None, "not an image", "cannot be decoded"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_mask_is_one_error_that_names_the_file(tmp_path: Path, name: str) -> None:
    content, classes, kind, message = BAD[name]
    code = MaskCode() if classes is None else make_code(classes, "here")[0]
    path = in_file(tmp_path, content)
    with pytest.raises(ImageError, match=message) as caught:
        decode_mask(Mask(path, code))
    assert caught.value.kind == kind
    assert str(caught.value).startswith(f"{path}: ")


def test_a_check_gives_the_largest_class() -> None:
    assert check_mask(Mask(IDS, MaskCode()), (2, 3)) == 2


def test_a_mask_of_another_size_is_an_error(tmp_path: Path) -> None:
    path = in_file(tmp_path, encoded(Image.fromarray(IDS)))
    with pytest.raises(
        ImageError, match=r"m.png: has 3 x 2 pixels, its image 2 x 3; give a mask of its image's size"
    ):
        check_mask(Mask(path, MaskCode()), (3, 2))


def test_a_mask_without_a_pixel_that_counts_is_an_error(tmp_path: Path) -> None:
    path = in_file(tmp_path, encoded(Image.new("L", (4, 4), 255)))
    with pytest.raises(ImageError, match=r"m.png: no pixel counts \(255 are ignored\)"):
        check_mask(Mask(path, MaskCode()), (4, 4))


def test_numbers_that_are_no_pixels_are_refused() -> None:
    with pytest.raises(DataError, match=r"masks must be unsigned whole numbers .* not float32 \[2, 3\]"):
        decode_mask(Mask(IDS.astype(np.float32), MaskCode()))


MISTAKEN: dict[str, tuple[Classes, dict[str, Any], str]] = {
    "a class twice": (["a", "b", "a"], {}, "class 'a' stands there twice"),
    "a pixel twice": ({"a": 1, "b": 1}, {}, "pixel value 1 stands there twice"),
    "no class": ([], {}, "no class is named"),
    "an empty name": (["a", " "], {}, "a class has no name"),
    "a number and a color": ({"a": 1, "b": (1, 2, 3)}, {}, "some classes have a color and some a number"),
    "a number too large": ({"a": 70000}, {}, "class 'a' has the pixel value 70000; give whole numbers below 65,536"),
    "no color": ({"a": (1, 2, 300)}, {}, r"class 'a' has the pixel value \[1, 2, 300\]"),
    "a class ignored": (["a", "b"], {"ignored": (1,)}, "the pixels of class 'b' do not count"),
    "no pixel ignored": (["a", "b"], {"ignored": (-1,)}, "data.ignore: -1 is no pixel"),
    "another's class": (["a", "z"], {"order": ("a", "b")}, r"class 'z' is none of the labeled data's \(a, b\)"),
}


@pytest.mark.parametrize("name", MISTAKEN)
def test_mistaken_classes_are_refused(name: str) -> None:
    classes, options, message = MISTAKEN[name]
    with pytest.raises(DataError, match=f"here: {message}" if "data.ignore" not in message else message):
        make_code(classes, "here", **options)


def test_a_class_with_the_value_255_counts() -> None:
    assert make_code([str(n) for n in range(300)], "here")[0].ignored == ()


def slowly_resized(mask: npt.NDArray[np.int16], height: int, width: int) -> list[list[int]]:
    """Each pixel's center, in the larger mask's pixels."""
    return [
        [
            int(mask[int((row + 0.5) / height * mask.shape[0]), int((column + 0.5) / width * mask.shape[1])])
            for column in range(width)
        ]
        for row in range(height)
    ]


@pytest.mark.parametrize(("height", "width"), [(1, 1), (4, 7), (8, 8), (5, 9), (16, 3)])
def test_resizing_takes_the_pixel_under_each_center(height: int, width: int) -> None:
    mask = np.arange(8 * 9, dtype=np.int16).reshape(8, 9)
    assert resized(torch.from_numpy(mask), height, width).tolist() == slowly_resized(mask, height, width)


@pytest.mark.parametrize(
    ("numbers", "colors"),
    [
        ((((9, 9, 9), 0), ((1, 2, 3), 1), ((4, 5, 6), 0)), [(9, 9, 9), (1, 2, 3)]),
        ((((9, 9, 9), 0),), None),
        (((0, 0), (1, 1)), None),
        (None, None),
    ],
)
def test_classes_have_colors_where_each_has_one(numbers: Any, colors: Any) -> None:
    assert MaskCode(numbers).colors(2) == colors
