"""Image formats: which are read, how they are named, and what the bytes of a broken or foreign file look like."""

from __future__ import annotations

from pathlib import PurePath

FORMATS: dict[str, tuple[str, ...]] = {
    "JPEG": (".jpg", ".jpeg"),
    "PNG": (".png",),
    "WEBP": (".webp",),
    "BMP": (".bmp",),
    "GIF": (".gif",),
    "TIFF": (".tif", ".tiff"),
    "PPM": (".ppm", ".pgm"),
    "MPO": (".jpg", ".jpeg"),  # a JPEG with more pictures behind it, as some cameras write
}
"""Pillow's names of the formats that are read, and their suffixes. No others: one of Pillow's runs Ghostscript."""

OPENED = tuple(name for name in FORMATS if name != "MPO")
"""What Pillow is asked to try; it tells an MPO from a JPEG by itself."""

IMAGE_SUFFIXES = frozenset(suffix for suffixes in FORMATS.values() for suffix in suffixes)

_STARTS: dict[bytes, str] = {
    b"\xff\xd8\xff": "JPEG",
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"GIF8": "GIF",
    b"BM": "BMP",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
    **{b"P%d%c" % (kind, space): "PPM" for kind in range(1, 7) for space in b" \t\r\n"},
}

_FOREIGN: dict[bytes, str] = {
    b"version https://git-lfs": "a Git LFS pointer; fetch the files with `git lfs pull`",
    b"%PDF": "PDF",
    b"%!PS": "PostScript",
    b"8BPS": "Photoshop",
    b"<svg": "SVG",
    b"<?xml": "XML or SVG",
    b"<!doctype html": "a web page",
    b"<html": "a web page",
    b"PK\x03\x04": "a zip archive",
    b"\x1f\x8b": "gzip",
    b"\x93NUMPY": "a NumPy array",
    b"\x89HDF": "HDF5",
    b"\x00\x00\x00\x0cjP  ": "JPEG 2000",
    b"\x00\x05\x16\x07": "metadata of a Mac file",
}

_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
"""Markers of a JPEG's frame header (ITU T.81, table B.1); the three left out mark other things."""

_CONTAINERS = {b"heic": "HEIC", b"heix": "HEIC", b"mif1": "HEIC", b"avif": "AVIF", b"qt  ": "a QuickTime video"}


def format_at_start(content: bytes) -> str | None:
    """Return which of :data:`FORMATS` the first bytes are of, or ``None``."""
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        return "WEBP"
    return next((name for start, name in _STARTS.items() if content.startswith(start)), None)


def foreign(content: bytes) -> str:
    """Return what content that is no image looks like, in words; empty if nobody knows."""
    if content[4:8] == b"ftyp":
        return _CONTAINERS.get(content[8:12], "a video")
    start = content[:64].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    found = next((name for magic, name in _FOREIGN.items() if start.startswith(magic.lower())), "")
    if not found and not any(content[:512]):
        return "zeros"
    if not found and all(byte in b"\t\r\n" or byte >= 32 for byte in content[:512]):
        try:
            content[:512].decode("utf-8", "strict")
            found = "text"
        except UnicodeDecodeError:
            pass
    return found


def ends_early(content: bytes) -> bool | None:
    """Return whether an image's content lacks its end, or ``None`` if its format does not say where that is.

    Says nothing about content that can be decoded: some have bytes after their end.
    """
    form = format_at_start(content)
    if form == "JPEG":
        return b"\xff\xd9" not in content[-64:]
    if form == "PNG":
        return b"IEND" not in content[-64:]
    if form == "GIF":
        return b";" not in content[-2:]
    if form == "WEBP":
        return int.from_bytes(content[4:8], "little") + 8 > len(content)
    if form == "TIFF":
        directory = int.from_bytes(content[4:8], "little" if content[:1] == b"I" else "big")
        return True if directory >= len(content) else None
    return None


def misnamed(name: str, form: str) -> str:
    """Return the suffix of ``name`` if it is that of another format than ``form``, else nothing."""
    suffix = PurePath(name).suffix.lower()
    return suffix if suffix in IMAGE_SUFFIXES and suffix not in FORMATS[form] else ""


def jpeg_frame(content: bytes) -> tuple[int, int, int] | None:
    """Return (height, width, components) from a JPEG's frame header, or ``None`` if there is none where it should be.

    Pillow knows too, but takes as long to open a file as a small picture takes to decode.
    """
    if not content.startswith(b"\xff\xd8\xff"):
        return None
    place = 2
    while place + 10 <= len(content) and content[place] == 0xFF:
        marker = content[place + 1]
        if marker in _FRAMES:
            height, width = (int.from_bytes(content[place + at : place + at + 2], "big") for at in (5, 7))
            return height, width, content[place + 9]
        length = int.from_bytes(content[place + 2 : place + 4], "big")
        if length < 2:
            return None
        place += 2 + length
    return None
