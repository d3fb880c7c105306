"""What the pixels of mask files stand for: numbers or colors of classes, as the data or a recipe say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tutelage.data.samples import ImageSource
from tutelage.errors import DataError

MOST = 1 << 16
"""Pixel values lie below this: masks have 16 bits at most."""

MOST_CLASSES = 1 << 15
"""Class numbers lie below this: decoded masks are int16."""

VOID = (255,)
"""Pixel values that do not count where nobody says which."""

Color = tuple[int, int, int]
Pixel = int | Color
"""What a mask file has in a pixel: a whole number (in palette images the index), or a color, RGB."""

Classes = Sequence[str] | Mapping[str, Pixel]
"""Class names, in order or with the pixel that stands for each."""

_FORM = f"give whole numbers below {MOST:,}, or colors as [red, green, blue] from 0 to 255"


@dataclass(frozen=True)
class MaskCode:
    """How the pixels of mask files stand for classes.

    Attributes:
        numbers: Pairs of pixel and class number; colors for all, or whole numbers for all. ``None`` where values are
            class numbers, whatever they are.
        ignored: Pixels that do not count. Whole numbers beside colors are indices of palette images.
    """

    numbers: tuple[tuple[Pixel, int], ...] | None = None
    ignored: tuple[Pixel, ...] = VOID

    @property
    def colored(self) -> bool:
        """Whether classes have colors."""
        return any(not isinstance(pixel, int) for pixel, _ in self.numbers or ())

    def colors(self, classes: int) -> list[Color] | None:
        """Return the color of each class, the first where it has several; ``None`` unless each of so many has one."""
        found = {number: pixel for pixel, number in reversed(self.numbers or ()) if not isinstance(pixel, int)}
        return [found[number] for number in range(classes)] if set(found) >= set(range(classes)) else None


@dataclass(frozen=True)
class Mask:
    """A mask before decoding.

    Attributes:
        source: Where its pixels are; of arrays, those with two dimensions are whole numbers.
        code: What they stand for.
    """

    source: ImageSource
    code: MaskCode


@dataclass(frozen=True)
class MaskReading:
    """How masks are read: what is known of them beside what lies with the data.

    Attributes:
        classes: What a recipe says; comes before what the data say.
        ignore: Pixels that do not count, likewise.
        order: Class names whose numbers the masks must have, as those of the labeled data for test data; names that
            the data give are matched with them.
        code: What pixels stand for where neither recipe nor data say.
    """

    classes: Classes | None = None
    ignore: tuple[Pixel, ...] | None = None
    order: tuple[str, ...] = ()
    code: MaskCode | None = None


def make_code(
    classes: Classes, where: str, *, ignored: Sequence[Pixel] | None = None, first: int = 0, order: Sequence[str] = ()
) -> tuple[MaskCode, tuple[str, ...]]:
    """Return what pixels stand for, given names or names with a pixel each.

    Args:
        classes: The classes.
        where: Who says so, for messages.
        ignored: Pixels that do not count; :data:`VOID`, where no class has it, if not given.
        first: The pixel of the first class where only names are given.
        order: Names whose numbers the classes get; their own order if empty.

    Returns:
        The code, and the class names by number.

    Raises:
        DataError: Names or pixels repeat, are none, are mixed, or are ignored and a class at once; a name is not in
            ``order``.
    """
    named_pixels = classes if isinstance(classes, Mapping) else None
    names = [name.strip() for name in classes]
    pixels = [*range(first, first + len(names))] if named_pixels is None else [*map(_pixel, named_pixels.values())]
    if not names or not all(names):
        raise DataError(f"{where}: {'a class has no name' if names else 'no class is named'}; give each a name")
    for what, values in (("class", names), ("pixel value", pixels)):
        if twice := [value for row, value in enumerate(values) if value in values[:row]]:
            raise DataError(f"{where}: {what} {twice[0]!r} stands there twice; give each class one of its own")
    if len({isinstance(pixel, int) for pixel in pixels}) > 1:
        raise DataError(f"{where}: some classes have a color and some a number; give all the one or all the other")
    if wrong := [(name, pixel) for name, pixel in zip(names, pixels, strict=True) if not _possible(pixel)]:
        name, pixel = wrong[0]
        raise DataError(f"{where}: class {name!r} has the pixel value {shown(pixel)}; {_FORM}")
    if ignored is None:
        ignored = [value for value in VOID if value not in pixels]
    check_ignored(ignored)
    if both := [name for name, pixel in zip(names, pixels, strict=True) if pixel in ignored]:
        raise DataError(
            f"{where}: the pixels of class {both[0]!r} do not count by data.ignore; take one of both back"
        )
    numbers = {name: number for number, name in enumerate(order or names)}
    if lacking := [name for name in names if name not in numbers]:
        raise DataError(
            f"{where}: class {lacking[0]!r} is none of the labeled data's ({', '.join(numbers)}); "
            "rename it, or leave it out and name its pixels in data.ignore"
        )
    pairs = tuple((pixel, numbers[name]) for name, pixel in zip(names, pixels, strict=True))
    return MaskCode(pairs, tuple(ignored)), tuple(numbers)


def check_ignored(pixels: Sequence[Pixel]) -> None:
    """Check that there can be such pixels.

    Raises:
        DataError: One is no value, and no color.
    """
    if wrong := [pixel for pixel in pixels if not _possible(pixel)]:
        raise DataError(f"data.ignore: {shown(wrong[0])} is no pixel of a mask; {_FORM}")


def _pixel(value: Any) -> Pixel:
    return value if isinstance(value, int) else tuple(value)


def _possible(pixel: Pixel) -> bool:
    if isinstance(pixel, int):
        return not isinstance(pixel, bool) and 0 <= pixel < MOST
    return len(pixel) == 3 and all(isinstance(value, int) and 0 <= value < 256 for value in pixel)


def known(code: MaskCode) -> str:
    """Return what pixels there may be, in words."""
    if code.numbers is None:
        return f"class numbers lie below {MOST_CLASSES:,}"
    pixels = [pixel for pixel, _ in code.numbers]
    values = sorted(pixel for pixel in pixels if isinstance(pixel, int))
    if len(values) > 2 and values == [*range(values[0], values[-1] + 1)]:
        return f"classes have {values[0]} to {values[-1]}"
    return f"classes have {', '.join(map(shown, values[:8] or pixels[:8]))}{', …' if len(pixels) > 8 else ''}"


def shown(pixel: Any) -> str:
    """Return a pixel in words."""
    return str(pixel) if isinstance(pixel, int) else f"[{', '.join(map(str, pixel))}]"
