"""Data as people have them: what can be wrong with one image, and what can be wrong with a set of them."""

from __future__ import annotations

import io
import json
import os
import shutil
import struct
import tarfile
import zlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

from tutelage.cli.transfer import show_check
from tutelage.data.inspect import inspect
from tutelage.data.prepare import PreparedData, prepare_data
from tutelage.data.problems import KINDS, USED, ImageError
from tutelage.data.readers import read_samples
from tutelage.data.samples import ImageSource, Samples, Stored
from tutelage.data.settings import DataSettings
from tutelage.errors import DataError
from tutelage.pipeline import _keep_read as keep_read
from tutelage.recipe_reading import make_recipe
from tutelage.run import open_run

if TYPE_CHECKING:
    from conftest import MakeImages

RGB = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
FORMS = {"jpg": "JPEG", "png": "PNG", "webp": "WEBP", "gif": "GIF", "tiff": "TIFF", "bmp": "BMP", "ppm": "PPM"}

Make = Callable[[Path], ImageSource]


@pytest.fixture(autouse=True)
def _own_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUTELAGE_CACHE", str(tmp_path / "cache"))


def encoded(form: str = "PNG", image: Image.Image | None = None, **options: Any) -> bytes:
    file = io.BytesIO()
    (image or Image.fromarray(RGB)).save(file, form, **options)
    return file.getvalue()


def chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def png(width: int, height: int, depth: int, color: int, rows: bytes, *more: bytes) -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(more) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def file(name: str, content: bytes) -> Make:
    def make(folder: Path) -> Path:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return path

    return make


def cut(suffix: str, percent: int) -> Make:
    content = encoded(FORMS[suffix])
    return file(f"a.{suffix}", content[: len(content) * percent // 100])


def scrambled(suffix: str) -> Make:
    content = bytearray(encoded(FORMS[suffix]))
    middle = len(content) // 2
    content[middle : middle + 40] = bytes(byte ^ 0x5A for byte in content[middle : middle + 40])
    return file(f"a.{suffix}", bytes(content))


def animated(form: str) -> bytes:
    frames = [Image.new("RGB", (8, 8), color) for color in ("red", "blue")]
    return encoded(form, frames[0], save_all=True, append_images=frames[1:])


def turned(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encoded("JPEG", exif=exif)


def link(to: str) -> Make:
    def make(folder: Path) -> Path:
        path = folder / "a.jpg"
        path.symlink_to(to)
        return path

    return make


def directory(folder: Path) -> Path:
    (folder / "a.jpg").mkdir()
    return folder / "a.jpg"


def pipe(folder: Path) -> Path:
    os.mkfifo(folder / "a.jpg")
    return folder / "a.jpg"


def below_a_file(folder: Path) -> Path:
    path = folder / "a.jpg"
    path.write_bytes(encoded("JPEG"))
    return path / "b.jpg"


def no_text_for_a_name(folder: Path) -> Path:
    path = Path(os.fsdecode(os.fsencode(folder) + b"/caf\xe9.png"))
    path.write_bytes(encoded())
    return path


class Kept(Stored):
    """An image in a store that may fail."""

    def __init__(self, content: bytes = b"", error: DataError | None = None, gone: DataError | None = None) -> None:
        self.content, self.error, self.gone = content, error, gone

    def __str__(self) -> str:
        return "store: a.jpg"

    def read(self) -> bytes:
        if self.error:
            raise self.error
        return self.content

    def stamp(self) -> str:
        if self.gone:
            raise self.gone
        return str(len(self.content))


FINE = ""

IMAGES: dict[str, tuple[Make, str]] = {
    # Nothing, or something else.
    "zero bytes": (file("a.jpg", b""), "empty file"),
    "zero bytes in memory": (lambda folder: b"", "empty file"),
    "text": (file("a.jpg", b"no image at all"), "not an image"),
    "web page": (file("a.png", b"<!DOCTYPE html><html>404</html>"), "not an image"),
    "zeros": (file("a.jpg", bytes(5000)), "not an image"),
    "noise": (file("a.jpg", RGB.tobytes()), "not an image"),
    "photoshop": (file("a.jpg", b"8BPS\0\1" + bytes(40)), "not an image"),
    "svg": (file("a.png", b"<svg xmlns='http://www.w3.org/2000/svg'/>"), "not an image"),
    "pdf": (file("a.jpg", b"%PDF-1.7\n%\xe2\xe3"), "not an image"),
    "postscript": (file("a.jpg", encoded("EPS")), "not an image"),
    "icon": (file("a.png", encoded("ICO")), "not an image"),
    "heic": (file("a.jpg", b"\0\0\0\x18ftypheic" + bytes(40)), "not an image"),
    "avif": (file("a.jpg", b"\0\0\0\x18ftypavif" + bytes(40)), "not an image"),
    "video": (file("a.gif", b"\0\0\0\x18ftypisom" + bytes(40)), "not an image"),
    "zip": (file("a.jpg", b"PK\x03\x04" + bytes(40)), "not an image"),
    "gzip": (file("a.jpg", b"\x1f\x8b\x08" + bytes(40)), "not an image"),
    "array": (file("a.png", b"\x93NUMPY\1\0" + bytes(40)), "not an image"),
    "git lfs pointer": (file("a.jpg", b"version https://git-lfs.github.com/spec/v1\noid"), "not an image"),
    "mac metadata": (file("a.jpg", b"\0\5\x16\7\0\2\0\0Mac OS X"), "not an image"),
    "format that is not read": (file("a.png", encoded("TGA")), "not an image"),
    # Cut short.
    **{f"{suffix} cut at {p} %": (cut(suffix, p), "truncated") for suffix in FORMS for p in (25, 50, 90)},
    "jpeg signature": (file("a.jpg", b"\xff\xd8\xff"), "truncated"),
    "png signature": (file("a.png", b"\x89PNG\r\n\x1a\n"), "truncated"),
    "tiff without its directory": (file("a.tif", b"II*\0\0\1\0\0" + bytes(20)), "truncated"),
    "gif header": (file("a.gif", encoded("GIF")[:10]), "truncated"),
    "bytes cut short": (lambda folder: encoded()[:500], "truncated"),
    # Damaged.
    "scrambled png": (scrambled("png"), "damaged"),
    "scrambled gif": (scrambled("gif"), "damaged"),
    "scrambled jpeg (nothing tells)": (scrambled("jpg"), FINE),
    "scrambled bmp (nothing tells)": (scrambled("bmp"), FINE),
    "palette image without palette": (file("a.png", png(2, 1, 8, 3, b"\0\0\1")), "damaged"),
    "png without width": (file("a.png", png(0, 1, 8, 2, b"")), "damaged"),
    "png without enough rows": (file("a.png", png(64, 64, 8, 2, b"\0" * 10)), "damaged"),
    "tiff of floating-point color": (file("a.tif", b"II*\0\x08\0\0\0" + bytes(20)), "damaged"),
    # Too large.
    "png bomb": (file("a.png", png(30000, 30000, 8, 2, b"")), "too large"),
    "bomb in bytes": (lambda folder: png(2**31 - 1, 2**31 - 1, 8, 2, b""), "too large"),
    "strip of half a billion": (file("a.png", png(500_000_000, 1, 8, 0, b"")), "too large"),
    "gif that claims everything": (
        file("a.gif", b"GIF89a\xff\xff\xff\xff\0\0\0,\0\0\0\0\xff\xff\xff\xff\0\x08\0;"),
        "too large",
    ),
    # Named wrongly, and used.
    "png as jpg": (file("a.jpg", encoded("PNG")), "wrong extension"),
    "jpeg as png": (file("a.png", encoded("JPEG")), "wrong extension"),
    "webp as jpeg": (file("a.jpeg", encoded("WEBP")), "wrong extension"),
    "gif as png": (file("a.png", encoded("GIF")), "wrong extension"),
    "bmp as tif": (file("a.tif", encoded("BMP")), "wrong extension"),
    "tiff as jpg": (file("a.JPG", encoded("TIFF")), "wrong extension"),
    "png as pgm": (file("a.pgm", encoded("PNG")), "wrong extension"),
    "stored png as jpg": (lambda folder: Kept(encoded("PNG")), "wrong extension"),
    # Not there, not a file, not to be read.
    "vanished": (lambda folder: folder / "gone.jpg", "vanished"),
    "below a file": (below_a_file, "vanished"),
    "directory": (directory, "special file"),
    "pipe": (pipe, "special file"),
    "device": (link("/dev/null"), "special file"),
    "link to nowhere": (link("nowhere.jpg"), "link"),
    "link to itself": (link("a.jpg"), "link"),
    "name of 300 letters": (lambda folder: folder / f"{'a' * 300}.jpg", "unreadable"),
    "store that fails": (lambda folder: Kept(error=DataError("store: no route")), "unreadable"),
    "store that lost it": (lambda folder: Kept(error=ImageError("store: gone", "vanished")), "vanished"),
    "store without a stamp": (lambda folder: Kept(gone=DataError("store: no route")), "unreadable"),
    "store with nothing in it": (lambda folder: Kept(b""), "empty file"),
    "store with half of it": (lambda folder: Kept(encoded("JPEG")[:900]), "truncated"),
    # Unusual, and fine.
    "one pixel": (file("a.png", encoded(image=Image.new("RGB", (1, 1)))), FINE),
    "one row": (file("a.jpg", encoded("JPEG", Image.new("RGB", (900, 1)))), FINE),
    "one column": (file("a.webp", encoded("WEBP", Image.new("RGB", (1, 900)))), FINE),
    "palette with a clear entry": (file("a.png", encoded(image=Image.new("P", (4, 4)), transparency=0)), FINE),
    "sixteen bits": (file("a.png", png(2, 1, 16, 2, bytes(13))), FINE),
    "floating point": (file("a.tif", encoded("TIFF", Image.new("F", (4, 4)))), FINE),
    "cmyk": (file("a.jpg", encoded("JPEG", Image.new("CMYK", (4, 4)))), FINE),
    "one bit": (file("a.png", encoded(image=Image.new("1", (4, 4)))), FINE),
    "animated gif": (file("a.gif", animated("GIF")), FINE),
    "animated webp": (file("a.webp", animated("WEBP")), FINE),
    "animated png": (file("a.png", animated("PNG")), FINE),
    "turned by exif": (file("a.jpg", turned(6)), FINE),
    "turned by an impossible exif": (file("a.jpg", turned(77)), FINE),
    "broken exif": (file("a.jpg", encoded("JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff")), FINE),
    "broken color profile": (file("a.png", encoded(icc_profile=b"nonsense")), FINE),
    "bytes after the end": (file("a.jpg", encoded("JPEG") + b"trailing"), FINE),
    "progressive": (file("a.jpg", encoded("JPEG", progressive=True)), FINE),
    "several pictures in one jpeg": (file("a.jpg", animated("MPO")), FINE),
    "suffix in capitals": (file("a.JPEG", encoded("JPEG")), FINE),
    "name that is no text": (no_text_for_a_name, FINE),
    "name of 250 letters": (file(f"{'a' * 246}.png", encoded()), FINE),
    "name with a line break": (file("a\nb.png", encoded()), FINE),
    "hidden": (file(".a.png", encoded()), FINE),
    "link to a file": (lambda folder: link(str(file("b.jpg", encoded("JPEG"))(folder)))(folder), FINE),
    "pixels": (lambda folder: RGB, FINE),
}


# Pillow warns of damage that it can live with; whether it is lived with must not depend on who sees the warning.
@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@pytest.mark.parametrize("name", IMAGES)
def test_each_kind_of_bad_image_is_told_from_the_others(tmp_path: Path, name: str) -> None:
    make, expected = IMAGES[name]
    rows, problems = inspect(Samples(("a", "good"), [make(tmp_path), RGB]))
    assert [problem.kind for problem in problems] == ([expected] if expected else [])
    assert rows.tolist() == ([0, 1] if expected in {FINE, *USED} else [1])


def test_the_table_has_every_kind_that_decoding_finds() -> None:
    found = {kind for _, kind in IMAGES.values()} - {FINE}
    of_sets = {"unsafe path", "duplicate id", "contradiction", "no label", "unknown class", "empty class", "no image"}
    of_texts = {"no text", "not text", "characters"}
    of_masks = {"no mask", "mask size", "unknown id", "all ignored", "RGB mask", "not a mask"}
    of_curations = {"possible leak"}
    assert found == set(KINDS) - of_sets - of_texts - of_masks - of_curations


Folders = dict[str, Path]
Spoil = Callable[[Folders], object]


@pytest.fixture
def folders(tmp_path: Path, make_images: MakeImages) -> Folders:
    """Two classes of ten labeled images, ten of validation, ten of test; twenty transfer images."""
    held = [f"{name}/{n}.png" for name in "ab" for n in range(5)]
    return {
        "labeled": make_images(tmp_path / "labeled", [f"{name}/l{n}.png" for name in "ab" for n in range(10)]),
        "validation": make_images(tmp_path / "validation", [each.replace("/", "/v") for each in held]),
        "test": make_images(tmp_path / "test", [each.replace("/", "/t") for each in held]),
        "transfer": make_images(tmp_path / "transfer", [f"u{n}.png" for n in range(20)]),
    }


def prepared(folders: Folders, tolerate: float) -> PreparedData:
    return prepare_data(
        DataSettings(tolerate=tolerate, **{part: str(folder) for part, folder in folders.items()}), seed=0
    )


def spoiled(*names: str, content: bytes = b"broken") -> Spoil:
    def spoil(folders: Folders) -> None:
        for name in names:
            part, _, rest = name.partition("/")
            path = folders[part] / rest
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)

    return spoil


def copied(source: str, *targets: str) -> Spoil:
    def spoil(folders: Folders) -> None:
        part, _, rest = source.partition("/")
        spoiled(*targets, content=(folders[part] / rest).read_bytes())(folders)

    return spoil


def emptied(part: str, *names: str) -> Spoil:
    return lambda folders: [shutil.rmtree(folders[part] / name) for name in names]


def every(part: str) -> Spoil:
    return lambda folders: [path.write_bytes(b"broken") for path in folders[part].rglob("*.png")]


LEFT_OUT: dict[str, tuple[Spoil, float, str, dict[str, int]]] = {
    "one labeled image of twenty": (spoiled("labeled/a/l0.png"), 0.05, "labeled", {"not an image": 1}),
    "one validation image": (spoiled("validation/a/v0.png"), 0.1, "validation", {"not an image": 1}),
    "one test image": (spoiled("test/b/t3.png"), 0.1, "test", {"not an image": 1}),
    "one transfer image": (spoiled("transfer/u3.png"), 0.05, "transfer", {"not an image": 1}),
    "empty and broken": (
        lambda folders: [spoiled("transfer/u1.png")(folders), spoiled("transfer/u0.png", content=b"")(folders)],
        0.1,
        "transfer",
        {"empty file": 1, "not an image": 1},
    ),
    "most, where that is allowed": (
        spoiled(*(f"transfer/u{n}.png" for n in range(19))),
        1.0,
        "transfer",
        {"not an image": 19},
    ),
    "one image under two labels": (
        copied("labeled/a/l0.png", "labeled/b/copy.png"),
        0.1,
        "labeled",
        {"contradiction": 2},
    ),
    "three copies under two labels": (
        copied("labeled/a/l0.png", "labeled/b/copy.png", "labeled/a/copy.png"),
        0.15,
        "labeled",
        {"contradiction": 3},
    ),
    "two copies under one label": (copied("labeled/a/l0.png", "labeled/a/copy.png"), 0, "labeled", {}),
    "broken files that are alike, under two labels": (
        spoiled("labeled/a/l0.png", "labeled/b/l0.png"),
        0.1,
        "labeled",
        {"not an image": 2},
    ),
    "a test image of an unknown class": (
        copied("transfer/u0.png", "test/c/x.png"),
        0.1,
        "test",
        {"unknown class": 1},
    ),
    "a validation image of an unknown class": (
        copied("transfer/u0.png", "validation/c/x.png"),
        0.1,
        "validation",
        {"unknown class": 1},
    ),
    "a test class with another case": (copied("transfer/u0.png", "test/A/x.png"), 0.1, "test", {"unknown class": 1}),
    "a wrong extension is used": (
        spoiled("transfer/u0.png", content=encoded("JPEG")),
        0,
        "transfer",
        {"wrong extension": 1},
    ),
    "a hidden broken file is nobody's": (spoiled("transfer/.u0.png"), 0, "transfer", {}),
    "a file of notes is nobody's": (spoiled("labeled/a/notes.txt"), 0, "labeled", {}),
}


@pytest.mark.parametrize("name", LEFT_OUT)
def test_what_is_left_out_of_a_set_is_counted(folders: Folders, name: str) -> None:
    spoil, tolerate, part, expected = LEFT_OUT[name]
    spoil(folders)
    found = prepared(folders, tolerate)
    assert Counter(problem.kind for problem in found.problems.get(part, ())) == expected
    assert set(found.problems) == ({part} if expected else set())


TOO_MUCH: dict[str, tuple[Spoil, float, str]] = {
    "one more than allowed": (
        spoiled("labeled/a/l0.png", "labeled/b/l0.png"),
        0.05,
        r"labeled: 2 of 20 images cannot be used \(2 not an image\), more than data\.tolerate=0\.05 allows; "
        r"repair or remove them, or set data\.tolerate=0\.1 to go on",
    ),
    "one where none is allowed": (spoiled("transfer/u0.png"), 0, r"transfer: 1 of 20 .*data\.tolerate=0 allows"),
    "one of ten at a twentieth": (spoiled("test/a/t0.png"), 0.05, r"test: 1 of 10 .*data\.tolerate=0\.1 to go on"),
    "all transfer images, whatever is allowed": (every("transfer"), 1, r"transfer: 20 of 20 .*; none is left"),
    "all labeled images": (every("labeled"), 1, r"labeled: 20 of 20 .*; none is left"),
    "all test images": (every("test"), 1, r"test: 10 of 10 .*; none is left"),
    "a class of broken images": (
        spoiled(*(f"labeled/b/l{n}.png" for n in range(10))),
        0.5,
        r"labeled: no image of class 'b' is left \(10 not an image\)",
    ),
    "a class of contradictions": (
        lambda folders: [
            emptied("labeled", "b")(folders),
            copied("labeled/a/l0.png", "labeled/b/x.png")(folders),
        ],
        0.5,
        r"labeled: no image of class 'b' is left \(2 contradiction\)",
    ),
    "one class": (emptied("labeled", "b"), 1, r"labeled: holds one class \(a\)"),
    "test classes that are all unknown": (
        lambda folders: [(folders["test"] / name).rename(folders["test"] / f"{name}{name}") for name in "ab"],
        1,
        r"labels of .*labeled are a, b; those of .*test are aa, bb; write both the same way",
    ),
    "copies of every test image": (
        lambda folders: [shutil.rmtree(folders["transfer"]), shutil.copytree(folders["test"], folders["transfer"])],
        1,
        r"transfer: every transfer image is also a test or validation image",
    ),
}


@pytest.mark.parametrize("name", TOO_MUCH)
def test_what_leaves_too_little_is_an_error(folders: Folders, name: str) -> None:
    spoil, tolerate, expected = TOO_MUCH[name]
    spoil(folders)
    with pytest.raises(DataError, match=expected):
        prepared(folders, tolerate)


def test_three_examples_are_spelled_out(folders: Folders) -> None:
    spoiled(*(f"transfer/u{n}.png" for n in range(5)))(folders)
    with pytest.raises(DataError) as raised:
        prepared(folders, 0.05)
    assert str(raised.value).count("u0.png: not an image (not an image but text)") == 1
    assert len(str(raised.value).splitlines()) == 4


def test_what_is_left_out_of_the_labeled_data_is_not_in_the_transfer_set_made_of_them(folders: Folders) -> None:
    spoiled("labeled/a/l0.png")(folders)
    found = prepared({"labeled": folders["labeled"]}, 0.05)
    assert "a/l0.png" not in found.transfer.ids
    assert set(found.problems) == {"labeled"}


def test_a_copy_of_a_test_image_in_the_transfer_set_is_no_problem_but_dropped(folders: Folders) -> None:
    copied("test/a/t0.png", "transfer/x.png")(folders)
    found = prepared(folders, 0)
    assert (found.dropped["transfer"], found.problems) == (1, {})


def test_the_check_says_what_is_left_out(folders: Folders, capsys: pytest.CaptureFixture[str]) -> None:
    spoiled("transfer/u0.png")(folders)
    data = {part: str(folder) for part, folder in folders.items()}
    recipe = make_recipe({"data": data, "student": "timm:lcnet_050", "method": "scratch"}, {})
    show_check(recipe, as_json=False)
    assert "problems in transfer: 1 not an image\n" in capsys.readouterr().err
    show_check(recipe, as_json=True)
    found = json.loads(capsys.readouterr().out)["problems"]
    assert found["transfer"]["counts"] == {"not an image": 1}
    assert found["transfer"]["examples"][0]["where"].endswith("u0.png")


def test_the_data_stage_lists_everything(folders: Folders, tmp_path: Path) -> None:
    spoiled("labeled/a/l0.png", *(f"transfer/u{n}.png" for n in range(15)))(folders)
    found = prepared(folders, 0.8)
    with open_run(tmp_path / "run") as opened:
        keep_read(found, opened)
    listed = json.loads((tmp_path / "run" / "01-data" / "problems.json").read_text())
    assert {part: len(each) for part, each in listed.items()} == {"labeled": 1, "transfer": 15}


# What readers find, before anything is decoded.

Lay = Callable[[Path], str]


def folder_with(name: str, make: Make) -> Lay:
    """A class folder with a good image, and one thing more."""

    def lay(folder: Path) -> str:
        (folder / "set" / "a").mkdir(parents=True)
        (folder / "set" / "a" / "good.png").write_bytes(encoded())
        made = make(folder)
        assert isinstance(made, Path)
        made.rename(folder / "set" / "a" / name)
        return str(folder / "set")

    return lay


def table(*lines: str, name: str = "set.csv") -> Lay:
    def lay(folder: Path) -> str:
        for image in ("a.png", "b.png"):
            (folder / image).write_bytes(encoded())
        (folder / name).write_text("\n".join(lines) + "\n")
        return str(folder / name)

    return lay


def published(*lines: str) -> Lay:
    def lay(folder: Path) -> str:
        (folder / "root" / "a").mkdir(parents=True)
        for image in ("1.png", "2.png"):
            (folder / "root" / "a" / image).write_bytes(encoded())
        (folder / "split.txt").write_text("\n".join(lines) + "\n")
        return f"list:{folder / 'split.txt'}@{folder / 'root'}"

    return lay


def archive(*members: tuple[str, bytes | tarfile.TarInfo], keep: float = 1.0) -> Lay:
    def lay(folder: Path) -> str:
        whole = io.BytesIO()
        with tarfile.open(fileobj=whole, mode="w") as tar:
            for name, content in (("good.png", encoded()), ("good.cls", b"0"), *members):
                member = content if isinstance(content, tarfile.TarInfo) else tarfile.TarInfo(name)
                member.name = name
                if isinstance(content, bytes):
                    member.size = len(content)
                    tar.addfile(member, io.BytesIO(content))
                else:
                    tar.addfile(member)
        data = whole.getvalue()
        (folder / "set.tar").write_bytes(data[: int(len(data) * keep)])
        return str(folder / "set.tar")

    return lay


def special(kind: bytes, to: str = "") -> tarfile.TarInfo:
    member = tarfile.TarInfo("x")
    member.type, member.linkname = kind, to
    return member


READ: dict[str, tuple[Lay, dict[str, int]]] = {
    "folder: link to nowhere": (folder_with("x.png", link("nowhere.png")), {"link": 1}),
    "folder: link to itself": (folder_with("x.png", link("x.png")), {"link": 1}),
    "folder: pipe": (folder_with("x.png", pipe), {"special file": 1}),
    "folder: name that is no text": (folder_with("caf\udce9.png", file("b.png", encoded())), {}),
    "folder: hidden file": (folder_with(".x.png", file("b.png", b"broken")), {}),
    "table: an image listed twice": (table("image,label", "a.png,x", "b.png,y", "a.png,x"), {"duplicate id": 1}),
    "table: no label": (table("image,label", "a.png,x", "b.png,"), {"no label": 1}),
    "table: no image": (table("image,label", "a.png,x", ",y", "b.png,y"), {"no image": 1}),
    "table: image that is not there": (table("image,label", "a.png,x", "gone.png,y"), {"vanished": 1}),
    "table: labels that look like numbers": (table("image,label", "a.png,1", "b.png,02"), {}),
    "list: path that leads out": (published("1.png,a", "../../2.png,a"), {"unsafe path": 1}),
    "list: image that is not there": (published("1.png,a", "9.png,a"), {"vanished": 1}),
    "tar: name that leads out": (archive(("../x.png", encoded()), ("../x.cls", b"1")), {"unsafe path": 2}),
    "tar: absolute name": (archive(("/x.png", encoded())), {"unsafe path": 1}),
    "tar: symbolic link": (archive(("x.png", special(tarfile.SYMTYPE, "/etc/passwd"))), {"link": 1}),
    "tar: hard link": (archive(("x.png", special(tarfile.LNKTYPE, "good.png"))), {"link": 1}),
    "tar: pipe": (archive(("x.png", special(tarfile.FIFOTYPE))), {"special file": 1}),
    "tar: label without image": (archive(("x.cls", b"1")), {"no image": 1}),
    "tar: image without label": (archive(("x.png", encoded())), {"no label": 1}),
    "tar: cut short": (archive(("x.png", encoded()), keep=0.7), {"truncated": 1, "no label": 1}),
}


@pytest.mark.parametrize("name", READ)
def test_what_readers_leave_out_is_listed(tmp_path: Path, name: str) -> None:
    lay, expected = READ[name]
    folder = tmp_path / "here"
    folder.mkdir()
    found = read_samples(lay(folder), labeled=True)
    assert Counter(problem.kind for problem in found.problems) == expected
    assert inspect(found)[1] == ()
