from __future__ import annotations

import io
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tutelage.data import images as images_module
from tutelage.data.images import DecodedImages, decode, packed, short_side
from tutelage.data.pixels import decode_pixels, image_size
from tutelage.data.problems import ImageError
from tutelage.data.readers import read_samples
from tutelage.errors import DataError

RGB = np.random.default_rng(0).integers(0, 256, (6, 9, 3), dtype=np.uint8)


def encoded(image: Image.Image, form: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def expected(pixels: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(pixels)).permute(2, 0, 1)


def on_white(color: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    share = alpha.astype(np.float64)[..., None] / 255
    return color * share + 255 * (1 - share)


def test_rgb_is_taken_as_it_is() -> None:
    assert torch.equal(decode(encoded(Image.fromarray(RGB))), expected(RGB))


def test_gray_becomes_three_equal_channels() -> None:
    gray = RGB[..., 0]
    assert torch.equal(decode(encoded(Image.fromarray(gray))), expected(np.stack([gray] * 3, -1)))


def test_a_palette_is_looked_up() -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.putpixel((1, 0), 1)
    assert decode(encoded(image)).permute(1, 2, 0).tolist() == [[[10, 20, 30], [200, 100, 50]]]


@pytest.mark.parametrize("transparency", [1, bytes([255, 0])])
def test_transparent_entries_of_a_palette_become_white(transparency: int | bytes) -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.putpixel((1, 0), 1)
    found = decode(encoded(image, transparency=transparency))
    assert found.permute(1, 2, 0).tolist() == [[[10, 20, 30], [255, 255, 255]]]


def test_a_transparent_color_becomes_white() -> None:
    pixels = np.array([[[1, 2, 3], [4, 5, 6]]], dtype=np.uint8)
    found = decode(encoded(Image.fromarray(pixels), transparency=(1, 2, 3)))
    assert found.permute(1, 2, 0).tolist() == [[[255, 255, 255], [4, 5, 6]]]


def test_rgba_is_composited_on_white() -> None:
    alpha = np.arange(54, dtype=np.uint8).reshape(6, 9) * 4
    found = decode(encoded(Image.fromarray(np.dstack([RGB, alpha]))))
    assert np.abs(found.permute(1, 2, 0).numpy() - on_white(RGB, alpha)).max() <= 0.51


@pytest.mark.parametrize(("alpha", "value"), [(0, 255), (255, 40), (51, 212)])
def test_gray_with_alpha_is_composited_on_white(alpha: int, value: int) -> None:
    pixels = np.array([[[40, alpha]]], dtype=np.uint8)
    assert decode(encoded(Image.fromarray(pixels, "LA"))).flatten().tolist() == [value] * 3


def test_cmyk_is_converted() -> None:
    image = Image.new("CMYK", (1, 1), (0, 255, 255, 0))  # magenta and yellow ink: red
    assert decode(encoded(image, "TIFF")).flatten().tolist() == [255, 0, 0]


@pytest.mark.parametrize("form", ["PNG", "TIFF"])
def test_sixteen_bit_gray_is_scaled_to_eight(form: str) -> None:
    wide = np.array([[0, 257, 200 * 257, 65535]], dtype=np.uint16)
    assert decode(encoded(Image.fromarray(wide), form))[0].tolist() == [[0, 1, 200, 255]]


def test_one_bit_is_black_and_white() -> None:
    image = Image.fromarray(np.array([[0, 255]], dtype=np.uint8)).convert("1")
    assert decode(encoded(image))[0].tolist() == [[0, 255]]


def test_of_an_animation_the_first_frame_is_taken() -> None:
    frames = [Image.new("RGB", (4, 4), color) for color in ("red", "blue")]
    found = decode(encoded(frames[0], "GIF", save_all=True, append_images=frames[1:]))
    assert found[:, 0, 0].tolist() == [255, 0, 0]


TURNS = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
    8: lambda a: np.rot90(a),
}


def turned(orientation: int, form: str) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encoded(Image.fromarray(RGB), form, exif=exif)


@pytest.mark.parametrize("form", ["PNG", "TIFF"])
@pytest.mark.parametrize("orientation", TURNS)
def test_exif_orientation_is_applied(orientation: int, form: str) -> None:
    assert torch.equal(decode(turned(orientation, form)), expected(TURNS[orientation](RGB)))


@pytest.mark.parametrize("form", ["PNG", "JPEG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", [*TURNS, 9])
def test_the_size_in_the_header_is_the_decoded_size(orientation: int, form: str) -> None:
    content = turned(orientation, form)
    assert image_size(content) == tuple(decode(content).shape[1:])


def test_a_file_its_bytes_its_pixels_and_its_pillow_image_are_one_image(tmp_path: Path) -> None:
    content = encoded(Image.fromarray(RGB))
    path = tmp_path / "a.png"
    path.write_bytes(content)
    for source in (path, RGB, Image.open(path)):
        assert torch.equal(decode(source), decode(content))


def test_pixels_need_not_be_contiguous() -> None:
    assert torch.equal(decode(RGB[::-1, ::2]), expected(RGB[::-1, ::2]))


def test_pixels_with_alpha_are_composited_on_white() -> None:
    clear = np.zeros((2, 2, 4), dtype=np.uint8)
    assert decode(clear).unique().tolist() == [255]


def test_the_size_of_pixels_is_height_then_width() -> None:
    assert image_size(RGB) == (6, 9)


@pytest.mark.parametrize(
    "pixels",
    [
        RGB.astype(np.float32),
        RGB.astype(np.int64),
        RGB[..., :2],
        RGB[None],
        RGB[0, 0],
        RGB[:0],
        RGB[:, :0],
    ],
)
def test_pixels_of_another_type_or_shape_are_refused(pixels: np.ndarray) -> None:
    with pytest.raises(DataError, match=r"pixels must be uint8 \[H, W\] or \[H, W, 3 or 4\], not .*\["):
        decode(pixels)


def broken(path: Path, kind: str) -> Path:
    whole = encoded(Image.fromarray(RGB))
    contents = {
        "empty": b"",
        "text": b"no image at all",
        "header": whole[:20],
        "truncated": whole[: len(whole) // 2],
    }
    path.write_bytes(contents[kind])
    return path


@pytest.mark.parametrize("kind", ["empty", "text", "header", "truncated"])
def test_a_broken_file_is_named(tmp_path: Path, kind: str) -> None:
    with pytest.raises(DataError, match=r"bad\.png: cannot be decoded \(.+\); repair or remove it"):
        decode(broken(tmp_path / "bad.png", kind))


@pytest.mark.parametrize("kind", ["empty", "text"])
def test_a_file_without_a_size_is_named(tmp_path: Path, kind: str) -> None:
    with pytest.raises(DataError, match=r"bad\.png: cannot be read as an image; repair or remove it"):
        image_size(broken(tmp_path / "bad.png", kind))


@pytest.mark.filterwarnings("ignore::UserWarning:PIL.TiffImagePlugin")
@pytest.mark.parametrize("function", [decode, image_size])
@pytest.mark.parametrize("form", ["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM"])
def test_damage_anywhere_is_nothing_worse_than_a_data_error(form: str, function: Any) -> None:
    content = encoded(Image.fromarray(RGB), form)
    generator = np.random.default_rng(0)
    damaged = [content[:length] for length in range(0, len(content), 7)]
    for _ in range(60):
        flipped = np.frombuffer(content, np.uint8).copy()
        flipped[generator.integers(0, min(len(content), 80), 3)] = generator.integers(0, 256, 3)
        damaged.append(flipped.tobytes())
    refused = 0
    for each in damaged:
        try:
            function(each)
        except DataError:
            refused += 1
    assert refused > 0


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"gone\.png: cannot be read \(No such file or directory\); was it moved\?"):
        decode(tmp_path / "gone.png")


def test_bytes_that_are_no_image_are_named_by_their_number() -> None:
    with pytest.raises(DataError, match=r"^3 bytes: cannot be decoded \(not an image but text\)"):
        decode(b"abc")


@pytest.mark.parametrize("function", [decode, image_size])
def test_a_decompression_bomb_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, function: Any) -> None:
    path = tmp_path / "bomb.png"
    path.write_bytes(encoded(Image.fromarray(RGB)))
    monkeypatch.setattr("tutelage.data.pixels.PIXEL_LIMIT", 53)
    with pytest.raises(DataError, match=r"bomb\.png: has 9 x 6 pixels, more than the limit of 53; resize or"):
        function(path)


@pytest.fixture
def fast() -> Any:
    """torchcodec's decoder, where it is installed."""
    found = images_module._torchcodec()
    if found is None:
        pytest.skip("torchcodec is not installed, or not for this torch")
    return found


SMOOTH = Image.fromarray(RGB).resize((101, 67), Image.Resampling.BICUBIC)

JPEGS: dict[str, bytes] = {
    **{f"chroma {s}": encoded(SMOOTH, "JPEG", subsampling=s) for s in (0, 1, 2)},
    **{f"progressive, chroma {s}": encoded(SMOOTH, "JPEG", subsampling=s, progressive=True) for s in (0, 2)},
    **{f"{w} x {h}": encoded(SMOOTH.resize((w, h)), "JPEG", subsampling=2) for w, h in ((1, 1), (1, 9), (16, 15))},
    "gray": encoded(SMOOTH.convert("L"), "JPEG"),
    "kept as RGB": encoded(SMOOTH, "JPEG", keep_rgb=True),
    "poor quality": encoded(SMOOTH, "JPEG", quality=5),
}


@pytest.mark.parametrize("name", JPEGS)
def test_torchcodec_gives_the_very_pixels_of_pillow(name: str, fast: Any) -> None:
    assert torch.equal(fast(JPEGS[name]), expected(decode_pixels(JPEGS[name])))


@pytest.mark.parametrize("orientation", [*TURNS, 9])
def test_torchcodec_turns_as_pillow_does(orientation: int, fast: Any) -> None:
    content = turned(orientation, "JPEG")
    assert torch.equal(fast(content), expected(decode_pixels(content)))


@pytest.mark.parametrize("loaded", [True, False])
@pytest.mark.parametrize("percent", [5, 25, 50, 90, 99])
def test_a_truncated_jpeg_is_refused_either_way(percent: int, loaded: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not loaded:
        monkeypatch.setattr(images_module, "_torchcodec", lambda: None)
    content = JPEGS["chroma 2"]
    with pytest.raises(ImageError) as raised:
        decode(content[: len(content) * percent // 100])
    assert raised.value.kind == "truncated"


def test_plain_jpegs_are_decoded_by_torchcodec(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bytes] = []
    monkeypatch.setattr(images_module, "_torchcodec", lambda: lambda content: asked.append(content) or torch.zeros(1))
    for content in (*JPEGS.values(), encoded(SMOOTH.convert("CMYK"), "JPEG"), encoded(SMOOTH)):
        decode(content)
    assert asked == list(JPEGS.values())


@pytest.mark.parametrize("error", [ImportError("none"), OSError("libtorch"), RuntimeError("made for another torch")])
def test_without_torchcodec_pillow_decodes(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> Any:
        raise error

    monkeypatch.setattr("importlib.import_module", missing)
    assert images_module._torchcodec.__wrapped__() is None


def test_a_torchcodec_that_does_not_turn_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    def unturned(content: bytes, mode: str) -> torch.Tensor:
        return expected(np.array(Image.open(io.BytesIO(content)).convert("RGB")))

    monkeypatch.setattr("importlib.import_module", lambda name: SimpleNamespace(decode_jpeg=unturned))
    assert images_module._torchcodec.__wrapped__() is None


def test_what_torchcodec_refuses_and_pillow_decodes_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(content: bytes) -> torch.Tensor:
        raise RuntimeError("unknown kind")

    monkeypatch.setattr(images_module, "_torchcodec", lambda: refuse)
    assert torch.equal(decode(JPEGS["gray"]), expected(decode_pixels(JPEGS["gray"])))


def test_files_are_listed_by_suffix_in_any_case_and_in_order(tmp_path: Path) -> None:
    for name in ("b/2.JPG", "b/1.png", "a.WebP", "notes.txt", "b.png/c.gif"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    found = read_samples(str(tmp_path), labeled=False).ids
    assert found == ("a.WebP", "b.png/c.gif", "b/1.png", "b/2.JPG")


def test_hidden_files_and_folders_are_not_listed(tmp_path: Path) -> None:
    root = tmp_path / ".cache" / "images"  # the root's own path may be hidden
    for name in (".thumbs/1.png", "a/._1.png", "a/1.png"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    assert read_samples(str(root), labeled=False).images == [root / "a" / "1.png"]


def pictures(count: int, height: int = 8, width: int = 8) -> list[np.ndarray]:
    generator = np.random.default_rng(1)
    return list(generator.integers(0, 256, (count, height, width, 3), dtype=np.uint8))


def test_images_come_in_the_order_asked_for() -> None:
    images = pictures(4)
    rows = np.array([3, 0, 3, 1])
    for found, row in zip(DecodedImages(images, 8).get(rows), rows, strict=True):
        assert torch.equal(found, decode(images[row]))


def test_large_images_are_downscaled_to_the_short_side_with_their_aspect() -> None:
    assert packed(pictures(1, 60, 90)[0], 30).shape == (3, 30, 45)


def test_small_images_are_kept_as_they_are() -> None:
    image = pictures(1, 30, 90)[0]
    assert torch.equal(packed(image, 30), decode(image))


def test_images_are_kept_one_and_a_half_times_as_large_as_their_views() -> None:
    assert short_side(64) == 96


def test_a_broken_image_among_others_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"bad\.png"):
        DecodedImages([broken(tmp_path / "bad.png", "truncated")], 8).get(np.array([0]))
