"""The files that predicted masks are written to, and what of an image they cover."""

from __future__ import annotations

import io
import itertools
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from tutelage.data.pixels import decode_pixels
from tutelage.errors import RunError
from tutelage.run import write_whole
from tutelage.runtime.files import STDIN, common_folder, searched
from tutelage.runtime.palette import Color
from tutelage.runtime.segmenter import Mask

JPEG_SIDE = 65_500
"""Longest side of a JPEG file, in pixels; longer overlays are PNG."""


class MaskFolder:
    """A folder of masks, with the subfolders that their images have.

    Args:
        out: The folder; made when missing.
        arguments: All images that are named on the command line.
        palette: A color for each class.
        overlay: Whether to write each image with its mask over it as well.

    Raises:
        RunError: It cannot be written, or images are looked for in it.
    """

    def __init__(self, out: Path, arguments: Sequence[str], palette: Sequence[Color], *, overlay: bool) -> None:
        for folder in searched(arguments):
            if out.resolve().is_relative_to(folder.resolve()):
                raise RunError(f"{out}: lies in {folder}, where images are looked for; choose another --out")
        if STDIN in arguments and out.resolve() == common_folder(arguments).resolve():
            raise RunError(f"{out}: is where the named images are, which might be written over; choose another --out")
        if out.exists() and not out.is_dir():
            raise RunError(f"{out}: is a file; masks go into a folder, choose another --out")
        self._out = out
        self._root = common_folder(arguments)
        self._named = {os.path.abspath(argument) for argument in arguments if argument != STDIN}  # noqa: PTH100
        self._palette = np.array(palette, dtype=np.uint8)
        self._overlay = overlay
        self._taken: set[str] = set()
        self._make(out)

    @property
    def kinds(self) -> tuple[str, ...]:
        """What is written of each image."""
        return ("mask", "overlay") if self._overlay else ("mask",)

    def write(self, name: str, image: Path | bytes, mask: Mask) -> dict[str, str]:
        """Write what belongs to an image, and return the files by what they are.

        Args:
            name: The image's name on the command line, or in a list on standard input.
            image: The image.
            mask: Class numbers [H, W].

        Raises:
            RunError: A file cannot be written, or is one of the images.
        """
        target = self._free(name)
        self._make(target.parent)
        write_whole(target, encoded(mask, self._palette))
        written = {"mask": str(target)}
        if self._overlay:
            picture = blended(decode_pixels(image), mask, self._palette)
            form = "JPEG" if max(picture.size) <= JPEG_SIDE else "PNG"
            beside = target.with_name(f"{target.stem}-overlay.{'jpg' if form == 'JPEG' else 'png'}")
            self._check_free(beside)
            file = io.BytesIO()
            picture.save(file, form, quality=90)
            write_whole(beside, file.getvalue())
            written["overlay"] = str(beside)
        return written

    def _free(self, name: str) -> Path:
        """Return a path for a mask that no other one has: two images may differ in their suffixes alone."""
        inside = self._inside(name)
        stem = inside.with_suffix("")
        choices = itertools.chain((stem, inside), (f"{stem}-{number}" for number in itertools.count(2)))
        chosen = next(f"{each}.png" for each in choices if f"{each}.png".casefold() not in self._taken)
        self._taken.add(chosen.casefold())
        self._check_free(self._out / chosen)
        return self._out / chosen

    def _inside(self, name: str) -> Path:
        """Return where an image lies below the folder that all of them have in common."""
        if name == STDIN:
            return Path("stdin")
        path = Path(os.path.abspath(name))  # noqa: PTH100 (links are no other place)
        return path.relative_to(self._root if path.is_relative_to(self._root) else path.anchor)

    def _check_free(self, target: Path) -> None:
        if os.path.abspath(target) in self._named:  # noqa: PTH100
            raise RunError(f"{target}: is one of the images, and would be written over; choose another --out")

    def _make(self, folder: Path) -> None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RunError(f"{folder}: cannot be made ({error.strerror}); choose another --out") from error


def encoded(mask: Mask, palette: np.ndarray) -> bytes:
    """Return a mask as a PNG file, whose values are class numbers: with a palette, or of 16 bits for many classes."""
    if mask.dtype == np.uint8:
        image = Image.fromarray(mask)
        image.putpalette(palette.tobytes())
    else:
        image = Image.fromarray(mask.astype(np.uint16))
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def blended(pixels: np.ndarray, mask: Mask, palette: np.ndarray) -> Image.Image:
    """Return an image, uint8 [H, W, 3], half covered with the colors of its mask."""
    return Image.blend(Image.fromarray(pixels), Image.fromarray(palette[mask]), 0.5)


def shares(mask: Mask, classes: Sequence[str], top: int) -> list[tuple[str, float]]:
    """Return the classes that cover most of a mask with their shares of its pixels; ties by number."""
    counts = np.bincount(mask.ravel(), minlength=len(classes))
    order = np.argsort(-counts, kind="stable")[:top]
    return [(classes[number], float(counts[number] / mask.size)) for number in order.tolist() if counts[number]]
