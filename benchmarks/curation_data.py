"""A mixed gallery to curate from: over 100,000 small gray pictures of six sources, told apart by their content alone.

    python benchmarks/compare_data.py runs/compare-data
    python benchmarks/curation_data.py runs/curation-data --emoji-folder runs/compare-data/.npm     # minutes, 100 MB

=================  ================================================================================================
``gallery``        tar shards of pictures, 28 pixels, gray, light on black, in an order of chance and without names
``sources.csv``    where each comes from: ``id``, ``source`` (fashion, digits, emoji, clipart, photographs, icons)
``planted.csv``    what was added: ``id``, ``kind`` and ``of``: copies of Fashion-MNIST's images in the gallery
                   (``copy``, ``near-copy``) and of test images of ``compare_data.py``'s task (``test-copy``,
                   ``near-test-copy``)
=================  ================================================================================================

The images of Fashion-MNIST are training images that ``compare_data.py`` does not draw. A near copy has other contrast
and brightness, and is shifted by a pixel. The same sources give the same files.
"""

from __future__ import annotations

import argparse
import csv
import io
import random
import shutil
import sys
import tarfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from compare_data import CLIPART, FASHION_CLASSES, FASHION_PARTS, MAX_PIXELS, MIN_SIZE, shuffled, unzipped
from emoji_pictures import VENDORS, encoded, fetched, unpacked
from few_shot import DEBIAN as FASHION
from photograph_crops import FLAT, lacking, photographs
from PIL import Image
from sklearn.datasets import load_digits

SIZE = 28
FASHION_SHARE = 1500
"""Images of Fashion-MNIST, of each class."""

PARTS, CROPS = 2, 1500
"""Parts of a piece of clip art besides all of it, and of a photograph."""

PLANTED = 100
"""Of each kind."""

SHARD = 5000
ICONS = {
    "oxygen-icon-theme": Path("/usr/share/icons/oxygen/base/64x64"),
    "mate-icon-theme": Path("/usr/share/icons/mate/48x48"),
}
PACKAGES = {"dataset-fashion-mnist": FASHION, "openclipart-png": CLIPART, **ICONS}

Pictures = Iterator[tuple[str, Image.Image]]
"""Names, of their source and place in it, and pictures."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--emoji-folder", type=Path, help="where the two npm packages lie, or are fetched to")
    arguments = parser.parse_args()
    folder: Path = arguments.folder
    if folder.exists():
        sys.exit(f"{folder} is there; remove it to make it anew")
    missing = {package for package, path in PACKAGES.items() if not path.exists()} | lacking()
    if missing:
        sys.exit(f"Debian packages are missing: apt-get install --no-install-recommends {' '.join(sorted(missing))}")
    # Some are far above Pillow's limit, which guards against strangers' files.
    Image.MAX_IMAGE_PIXELS = None
    partial = folder.with_suffix(".partial")
    shutil.rmtree(partial, ignore_errors=True)
    (partial / "gallery").mkdir(parents=True)
    pictures = dict(everything(arguments.emoji_folder or partial / ".npm"))
    planted = list(copies(pictures))
    pictures |= {name: picture for name, _, _, picture in planted}
    names = {name: f"{number:06d}" for number, name in enumerate(sorted(pictures, key=shuffled))}
    write(partial / "gallery", {names[name]: picture for name, picture in pictures.items()})
    sources = {names[name]: name.partition("/")[0] for name in pictures}
    table(partial / "sources.csv", ("id", "source"), sorted(sources.items()))
    rows = [(names[name], kind, names.get(of, of)) for name, kind, of, _ in planted]
    table(partial / "planted.csv", ("id", "kind", "of"), sorted(rows))
    partial.rename(folder)
    for source, count in Counter(sources.values()).most_common():
        print(f"{count:7,}  {source}")
    print(f"{len(sources):7,}  in all, {len(planted)} of them planted")


def everything(archives: Path) -> Iterator[tuple[str, bytes]]:
    """Yield each picture as PNG; those with nothing in them are left out."""
    for name, picture in (*fashion(), *digits(), *emoji(archives), *clipart(), *photographed(), *icons()):
        if np.asarray(picture).std() >= FLAT:
            yield name, encoded(picture)


def fashion() -> Pictures:
    images, labels = idx("train")
    used = FASHION_PARTS["train"][1]
    for label in range(len(FASHION_CLASSES)):
        drawn = sorted(np.flatnonzero(labels == label).tolist(), key=lambda index: shuffled(f"train-{index}"))
        for index in drawn[used : used + FASHION_SHARE]:
            yield f"fashion/{index:05d}", Image.fromarray(images[index])


def digits() -> Pictures:
    for index, digit in enumerate(load_digits().images):
        picture = Image.fromarray((digit * 255 / 16).round().astype(np.uint8))
        yield f"digits/{index:04d}", picture.resize((SIZE, SIZE), Image.Resampling.BICUBIC)


def emoji(archives: Path) -> Pictures:
    """Yield every picture of both vendors, skin tones included, and its mirror image."""
    for vendor in VENDORS:
        _, files = unpacked(vendor, fetched(vendor, archives))
        for name, content in sorted(files.items()):
            with Image.open(io.BytesIO(content)) as image:
                picture = on_black(image)
            yield f"emoji/{vendor}-{name}", picture
            yield f"emoji/{vendor}-{name}-mirrored", picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)


def clipart() -> Pictures:
    for path in sorted(CLIPART.rglob("*.png")):
        name = f"clipart/{path.relative_to(CLIPART).as_posix()}"
        try:
            with Image.open(path) as image:
                if image.width * image.height > MAX_PIXELS or min(image.size) < MIN_SIZE:
                    continue
                image.draft("RGB", (512, 512))
                layer = image.convert("RGBA")
        except (OSError, SyntaxError, ValueError):
            continue
        layer.thumbnail((256, 256), Image.Resampling.BILINEAR, reducing_gap=2)
        yield name, on_black(layer)
        chance = random.Random(name)
        for number in range(PARTS):
            side = round(min(layer.size) * chance.uniform(0.3, 0.9))
            x, y = chance.randint(0, layer.width - side), chance.randint(0, layer.height - side)
            yield f"{name}-{number}", on_black(layer.crop((x, y, x + side, y + side)))


def photographed() -> Pictures:
    for name, path in photographs().items():
        with Image.open(path) as image:
            photograph = image.convert("L")
        photograph.thumbnail((1024, 1024), Image.Resampling.BILINEAR)
        chance = random.Random(name)
        for number in range(CROPS):
            side = round(min(photograph.size) * chance.uniform(1 / 10, 3 / 4))
            x, y = chance.randint(0, photograph.width - side), chance.randint(0, photograph.height - side)
            box = (x, y, x + side, y + side)
            yield f"photographs/{name}-{number}", photograph.resize((SIZE, SIZE), Image.Resampling.BICUBIC, box)


def icons() -> Pictures:
    for package, root in ICONS.items():
        for path in sorted(root.rglob("*.png")):
            if not path.is_symlink():
                with Image.open(path) as image:
                    yield f"icons/{package}-{path.relative_to(root).as_posix()}", on_black(image)


def on_black(image: Image.Image) -> Image.Image:
    """Return a picture as 28 gray pixels a side, what is transparent or around it as black."""
    layer = image.convert("RGBA")
    ground = Image.new("RGBA", layer.size, "black")
    gray = Image.alpha_composite(ground, layer).convert("L")
    gray.thumbnail((SIZE, SIZE), Image.Resampling.LANCZOS)
    square = Image.new("L", (SIZE, SIZE))
    square.paste(gray, ((SIZE - gray.width) // 2, (SIZE - gray.height) // 2))
    return square


def copies(pictures: dict[str, bytes]) -> Iterator[tuple[str, str, str, bytes]]:
    """Yield names, kinds, what each is of, and pictures of what is added."""
    own = sorted((name for name in pictures if name.startswith("fashion/")), key=shuffled)
    for name in own[:PLANTED]:
        yield f"fashion/copy-{name[8:]}", "copy", name, pictures[name]
    for name in own[PLANTED : 2 * PLANTED]:
        with Image.open(io.BytesIO(pictures[name])) as image:
            yield f"fashion/near-{name[8:]}", "near-copy", name, encoded(changed(image))
    images, labels = idx("t10k")
    share = FASHION_PARTS["test"][1]
    tested = [
        (index, name)
        for label, name in enumerate(FASHION_CLASSES)
        for index in sorted(np.flatnonzero(labels == label).tolist(), key=lambda index: shuffled(f"test-{index}"))[
            :share
        ]
    ]
    tested.sort(key=lambda each: shuffled(f"planted-{each[0]}"))
    for place, (index, name) in enumerate(tested[: 2 * PLANTED]):
        picture, near = Image.fromarray(images[index]), place >= PLANTED
        kind = "near-test-copy" if near else "test-copy"
        yield (
            f"fashion/{kind}-{index:05d}",
            kind,
            f"{name}/{index:05d}.png",
            encoded(changed(picture) if near else picture),
        )


def changed(picture: Image.Image) -> Image.Image:
    """Return a picture with less contrast, brighter, a pixel to the right."""
    levels = np.roll(np.asarray(picture, dtype=np.float32), 1, axis=1)
    return Image.fromarray((20 + 0.85 * levels).round().clip(0, 255).astype(np.uint8))


def idx(
    part: str,
) -> tuple[np.ndarray[tuple[int, ...], np.dtype[np.uint8]], np.ndarray[tuple[int, ...], np.dtype[np.uint8]]]:
    """Return the images [N, 28, 28] and labels [N] of a part of Fashion-MNIST."""
    images = unzipped(f"{part}-images-idx3-ubyte.gz", header=16).reshape(-1, SIZE, SIZE)
    return images, unzipped(f"{part}-labels-idx1-ubyte.gz", header=8)


def write(folder: Path, pictures: dict[str, bytes]) -> None:
    """Write pictures in shards, in the order of their names."""
    names = sorted(pictures)
    for number, start in enumerate(range(0, len(names), SHARD)):
        with tarfile.open(folder / f"gallery-{number:03d}.tar", "w") as archive:
            for name in names[start : start + SHARD]:
                member = tarfile.TarInfo(f"{name}.png")
                member.size = len(pictures[name])
                archive.addfile(member, io.BytesIO(pictures[name]))


def table(path: Path, header: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)


if __name__ == "__main__":
    main()
