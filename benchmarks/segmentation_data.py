"""A real segmentation task with few labels: emoji over photographs, every pixel known.

    python benchmarks/segmentation_data.py runs/segmentation-data      # a minute or two, 250 MB

=================  ================================================================================================
``train``          3,000 pictures of 128 pixels with masks (``images`` and ``masks``); all but a few stay unlabeled
``test``           300 more, of other emoji over other photographs
``generic``        3,000 pictures made alike, of things that belong to no class
``pretraining``    the emoji of ``train`` alone, a folder for each class: a labeled set for another task
=================  ================================================================================================

A picture is a crop of a photograph with one to three emoji of both vendors on it, turned, scaled and flipped at
random, the later ones over the earlier. The mask of each comes from its alpha. Neither an emoji's concept (both
vendors' drawings of it) nor a photograph is in two of train and test. The pictures come from Debian's wallpaper
packages, scikit-learn and two npm packages, as in ``compare_data.py``; the same sources give the same files.
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import io
import random
import sys
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from compare_data import Files, make
from emoji_pictures import VENDORS, encoded, fetched, file_name, on_white, unpacked
from photograph_crops import lacking, photographs
from PIL import Image

SIZE = 128
"""Side of a picture, in pixels."""

COUNTS = {"train": 3000, "test": 300, "generic": 3000}
OBJECTS = (1, 3)
SIDES = (40, 104)
TEST_SHARE = 0.3

CLASSES: dict[str, tuple[str, ...]] = {
    "face": ("face-",),
    "animal": ("animal-", "cat-face", "monkey-face"),
    "food": ("food-", "drink"),
    "vehicle": ("transport-",),
    "flag": ("country-flag",),
}
"""By class, how the subcategories of its emoji begin; number 0 is the background."""

COLORS = (
    *((0, 0, 0), (255, 205, 60), (190, 95, 40), (225, 60, 60)),
    *((60, 110, 220), (120, 70, 200)),
)

Picture = Image.Image

Objects = dict[str, dict[str, list[tuple[str, Picture]]]]
"""Emoji with their files' names, by part and class."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("folder", type=Path)
    for vendor in VENDORS:
        parser.add_argument(f"--emoji-{vendor}", type=Path, metavar="TGZ", help="the npm package, already fetched")
    arguments = parser.parse_args()
    folder: Path = arguments.folder
    if missing := lacking():
        sys.exit(f"Debian packages are missing: apt-get install --no-install-recommends {' '.join(sorted(missing))}")
    archives = {
        vendor: getattr(arguments, f"emoji_{vendor}") or fetched(vendor, folder / ".npm") for vendor in VENDORS
    }
    objects = cut_outs(archives)
    grounds = backgrounds()
    for part, count in COUNTS.items():
        make(folder / part, functools.partial(compositions, part, count, objects, grounds))
    make(folder / "pretraining", functools.partial(alone, objects))


def cut_outs(archives: dict[str, Path]) -> Objects:
    """Return the emoji of each part by class, with their alpha: ``train``, ``test``, and ``generic`` of no class."""
    found: Objects = defaultdict(lambda: defaultdict(list))
    for vendor, archive in sorted(archives.items()):
        rows, files = unpacked(vendor, archive)
        for row in sorted(rows, key=lambda each: each["short_name"]):
            if row["image"] not in files or row["category"] == "Component":
                continue
            name = class_of(row["subcategory"])
            part = "generic" if name is None else held_out(row["short_name"])
            with Image.open(io.BytesIO(files[row["image"]])) as image:
                found[part][name or "none"].append((file_name(row, vendor), image.convert("RGBA")))
    return found


def class_of(subcategory: str) -> str | None:
    """Return the class of an emoji, ``None`` where it has none."""
    return next((name for name, starts in CLASSES.items() if subcategory.startswith(starts)), None)


def held_out(name: str) -> str:
    """Return the part that a concept or a photograph is in, by a hash of its name."""
    share = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") / 2**64
    return "test" if share < TEST_SHARE else "train"


def backgrounds() -> dict[str, list[Picture]]:
    """Return the photographs of train and test, their short sides at most four pictures long."""
    found: dict[str, list[Picture]] = defaultdict(list)
    for name, path in photographs().items():
        with Image.open(path) as image:
            photograph = image.convert("RGB")
        scale = min(1.0, 4 * SIZE / min(photograph.size))
        small = photograph.resize((round(photograph.width * scale), round(photograph.height * scale)), reducing_gap=3)
        found[held_out(name)].append(small)
    return found


def compositions(
    part: str, count: int, objects: Objects, grounds: dict[str, list[Picture]], left: Counter[str]
) -> Files:
    """Yield pictures and their masks; of ``generic`` there are none."""
    own, names = objects[part], list(objects[part])
    photographs = grounds["test" if part == "test" else "train"]
    for number in range(count):
        # Seeded by its name: how many others there are does not change a picture.
        chance = random.Random(f"{part}-{number}")
        picture, mask = ground(photographs, chance), np.zeros((SIZE, SIZE), np.uint8)
        for _ in range(chance.randint(*OBJECTS)):
            name = chance.choice(names)
            place(picture, mask, chance.choice(own[name])[1], label(name), chance)
        file = f"{number:05d}.png"
        yield f"images/{file}" if part != "generic" else file, encoded(picture)
        if part != "generic":
            yield f"masks/{file}", encoded(in_colors(mask))
    if part != "generic":
        yield "classes.txt", "\n".join(("background", *CLASSES, "")).encode()


def label(name: str) -> int:
    """Return a class's number in masks."""
    return 1 + list(CLASSES).index(name) if name in CLASSES else 0


def ground(photographs: Sequence[Picture], chance: random.Random) -> Picture:
    """Return a square crop of a photograph."""
    photograph = chance.choice(photographs)
    side = chance.randint(SIZE, min(photograph.size))
    left, top = chance.randint(0, photograph.width - side), chance.randint(0, photograph.height - side)
    crop = photograph.crop((left, top, left + side, top + side)).resize((SIZE, SIZE), Image.Resampling.BICUBIC)
    return crop.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if chance.random() < 0.5 else crop


def place(picture: Picture, mask: np.ndarray, emoji: Picture, number: int, chance: random.Random) -> None:
    """Put an emoji onto a picture, and its class into the mask where it is more than half opaque."""
    side = chance.randint(*SIDES)
    layer = emoji.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if chance.random() < 0.5 else emoji
    layer = layer.rotate(chance.uniform(-25, 25), Image.Resampling.BICUBIC, expand=True)
    layer = layer.resize((side, side), Image.Resampling.LANCZOS)
    # Up to a quarter of it may be cut off.
    left, top = (chance.randint(-side // 4, SIZE - side + side // 4) for _ in range(2))
    whole = Image.new("RGBA", picture.size)
    whole.paste(layer, (left, top))
    picture.paste(whole.convert("RGB"), mask=whole.getchannel("A"))
    mask[np.asarray(whole.getchannel("A")) > 127] = number


def in_colors(mask: np.ndarray) -> Picture:
    """Return a mask as a picture whose colors are named by a palette."""
    image = Image.fromarray(mask)
    image.putpalette([level for color in COLORS for level in color])
    return image


def alone(objects: Objects, left: Counter[str]) -> Files:
    """Yield each emoji of train on white, in its class's folder."""
    for name, pictures in sorted(objects["train"].items()):
        for file, picture in pictures:
            yield f"{name}/{file}", encoded(on_white(picture))


if __name__ == "__main__":
    main()
