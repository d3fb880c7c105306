"""Two real tasks for ``tutelage compare``, laid out as folders of PNGs.

    python benchmarks/compare_data.py runs/compare-data                   # a minute or two, 200 MB, the first time
    python benchmarks/compare_data.py runs/compare-data --only clipart    # one of the sets

=====================  ============================================================================================
``fashion/train``      6,000 of Fashion-MNIST's training images, 600 a class, and ``fashion/test``: 5,000 of its
                       test images, 500 a class, both chosen by a hash of their index
``generic``            pictures that are not clothes: digits, emoji, and square crops of photographs
``emoji``              the emoji again, a folder for each of their groups: a labeled set to pretrain on
``pairs``              the emoji once more, with what each shows in words: ``pairs.csv`` and ``images``
``clipart/labeled``    Open Clip Art in eight classes, and ``clipart/generic``: its other categories; both at most
                       128 pixels
=====================  ============================================================================================

The pictures come from Debian's packages (those that are missing are named), scikit-learn and two npm packages, which
``npm pack`` fetches. A set is made under another name and renamed when it is whole; one that is there is left as it
is: remove its folder to make it anew. The same sources give the same files. The counts, and what was left out and
why, are printed at the end and kept beside each set as ``NAME.json``.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import hashlib
import io
import json
import shutil
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import sklearn.datasets
from emoji_pictures import VENDORS, Pictures, distinct, emoji, encoded, fetched, on_white, words
from few_shot import DEBIAN as FASHION
from photograph_crops import crops, lacking
from PIL import Image

FASHION_CLASSES = (
    *("t-shirt", "trouser", "pullover", "dress", "coat"),
    *("sandal", "shirt", "sneaker", "bag", "ankle-boot"),
)
FASHION_PARTS = {"train": ("train", 600), "test": ("t10k", 500)}

CLIPART = Path("/usr/share/openclipart/png")
CLIPART_CLASSES = ("animals", "buildings", "food", "people", "plants", "recreation", "tools", "transportation")
CLIPART_SIZE = 128
# Two signs of 623 megapixels and a chip of 231 are above; a dozen foods of 169 are below, at 0.7 GB for a moment.
MAX_PIXELS = 200_000_000
MIN_SIZE = 8

PACKAGES = {"fashion": (FASHION, "dataset-fashion-mnist"), "clipart": (CLIPART, "openclipart-png")}
SETS = ("fashion", "generic", "emoji", "pairs", "clipart")

Files = Iterator[tuple[str, bytes]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", nargs="+", choices=SETS, default=SETS, help="make these sets")
    for vendor in VENDORS:
        parser.add_argument(f"--emoji-{vendor}", type=Path, metavar="TGZ", help="the npm package, already fetched")
    arguments = parser.parse_args()
    folder: Path = arguments.folder
    missing = {PACKAGES[name][1] for name in arguments.only if name in PACKAGES and not PACKAGES[name][0].exists()}
    missing |= lacking() if "generic" in arguments.only else set()
    if missing:
        sys.exit(f"Debian packages are missing: apt-get install --no-install-recommends {' '.join(sorted(missing))}")

    def archives() -> dict[str, Path]:
        given = {vendor: getattr(arguments, f"emoji_{vendor}") for vendor in VENDORS}
        return {vendor: path or fetched(vendor, folder / ".npm") for vendor, path in given.items()}

    def groups(left: Counter[str]) -> dict[str, Pictures]:
        return emoji(archives(), left)

    makers: dict[str, Callable[[Counter[str]], Files]] = {
        "fashion": fashion,
        "generic": lambda left: generic(groups(left), left),
        "emoji": lambda left: in_folders("", groups(left)),
        "pairs": lambda left: pairs(groups(left), words(archives())),
        "clipart": clipart,
    }
    for name in arguments.only:
        make(folder / name, makers[name])
    for name in arguments.only:
        show(name, json.loads((folder / f"{name}.json").read_text()))


def make(target: Path, files: Callable[[Counter[str]], Files]) -> None:
    """Write a set's files and its counts, unless it is there."""
    notes = target.with_suffix(".json")
    if target.exists() and notes.exists():
        return
    started = time.perf_counter()
    print(f"making {target}", file=sys.stderr)
    partial = target.with_suffix(".partial")
    for stale in (partial, target):
        shutil.rmtree(stale, ignore_errors=True)
    counts: Counter[str] = Counter()
    left: Counter[str] = Counter()
    for name, picture in files(left):
        path = partial / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("xb") as stream:
            stream.write(picture)
        if path.suffix == ".png":
            counts[path.parent.relative_to(partial).as_posix()] += 1
    seconds = round(time.perf_counter() - started, 1)
    found = {"counts": dict(sorted(counts.items())), "left_out": dict(sorted(left.items())), "seconds": seconds}
    notes.write_text(json.dumps(found, indent=2) + "\n")
    partial.rename(target)


def fashion(left: Counter[str]) -> Files:
    """Yield equally many images of each class, chosen by a hash of their index."""
    for part, (prefix, share) in FASHION_PARTS.items():
        images = unzipped(f"{prefix}-images-idx3-ubyte.gz", header=16).reshape(-1, 28, 28)
        labels = unzipped(f"{prefix}-labels-idx1-ubyte.gz", header=8)
        for label, name in enumerate(FASHION_CLASSES):
            drawn = sorted(np.flatnonzero(labels == label).tolist(), key=lambda index: shuffled(f"{part}-{index}"))
            left[f"{part} images of Fashion-MNIST not drawn"] += len(drawn) - share
            for index in sorted(drawn[:share]):
                yield f"{part}/{name}/{index:05d}.png", encoded(Image.fromarray(images[index]))


def unzipped(name: str, header: int) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """Return the bytes of an idx file after its header."""
    return np.frombuffer(gzip.decompress((FASHION / name).read_bytes()), np.uint8, offset=header)


def shuffled(name: str) -> bytes:
    """Return a key that sorts names in an order of chance, the same on every machine."""
    return hashlib.sha256(name.encode()).digest()


def generic(groups: Mapping[str, Pictures], left: Counter[str]) -> Files:
    """Yield digits, emoji and crops of photographs, a folder each."""
    yield from in_folders("", {"digits": digits()})
    yield from in_folders(
        "", {"emoji": {name: png for pictures in groups.values() for name, png in pictures.items()}}
    )
    yield from in_folders("", distinct({"photographs": crops(left)}, left, "crops"))


def pairs(groups: Mapping[str, Pictures], texts: Mapping[str, str]) -> Files:
    """Yield each picture of all groups, then a table of what they show."""
    pictures = {name: picture for group in groups.values() for name, picture in group.items()}
    yield from in_folders("", {"images": pictures})
    table = io.StringIO()
    rows = csv.writer(table, lineterminator="\n")
    rows.writerow(["image", "text"])
    rows.writerows([f"images/{name}", texts[name]] for name in sorted(pictures))
    yield "pairs.csv", table.getvalue().encode()


def digits() -> Pictures:
    """Return scikit-learn's digits at 28 pixels, light on black."""
    found: Pictures = {}
    for index, digit in enumerate(sklearn.datasets.load_digits().images):
        image = Image.fromarray((digit * 255 / 16).round().astype(np.uint8))
        found[f"digit-{index:04d}.png"] = encoded(image.resize((28, 28), Image.Resampling.BICUBIC))
    return found


def clipart(left: Counter[str]) -> Files:
    """Yield the eight classes, then what the other categories have besides."""
    # Some are far above Pillow's limit, which guards against strangers' files; `drawn` has one of its own.
    Image.MAX_IMAGE_PIXELS = None
    groups: dict[str, Pictures] = defaultdict(dict)
    for path in sorted(CLIPART.rglob("*.png")):
        category, *rest = path.relative_to(CLIPART).parts
        labeled = category in CLIPART_CLASSES
        picture = drawn(path, left, "labeled" if labeled else "generic")
        if picture is None:
            continue
        # Names of nested folders stay in the file's name: two folders may have files of one name.
        name = "--".join(rest if labeled else [category, *rest])
        groups[category if labeled else "generic"][name] = picture
    others = groups.pop("generic", {})
    taken = {picture for pictures in groups.values() for picture in pictures.values()}
    apart = {name: picture for name, picture in others.items() if picture not in taken}
    left["generic clip art that stands in a labeled category, too"] += len(others) - len(apart)
    yield from in_folders("labeled/", distinct(groups, left, "labeled clip art"))
    yield from in_folders("", distinct({"generic": apart}, left, "generic clip art"))


def drawn(path: Path, left: Counter[str], what: str) -> bytes | None:
    """Return a picture downscaled, on white; None for one that cannot be used."""
    try:
        with Image.open(path) as image:
            if image.width * image.height > MAX_PIXELS:
                left[f"{what} clip art of more than {MAX_PIXELS // 1_000_000} megapixels"] += 1
                return None
            if min(image.size) < MIN_SIZE:
                left[f"{what} clip art below {MIN_SIZE} pixels"] += 1
                return None
            layer = image.convert("RGBA")
    except (OSError, SyntaxError, ValueError) as error:
        print(f"{path.relative_to(CLIPART)}: {error}", file=sys.stderr)
        left[f"{what} clip art that is broken"] += 1
        return None
    # Scaled before it is composited: Pillow weighs colors by their alpha, and the large ones stay in memory once.
    layer.thumbnail((CLIPART_SIZE, CLIPART_SIZE), Image.Resampling.LANCZOS)
    picture = on_white(layer)
    if picture.getcolors(1) is not None:
        left[f"{what} clip art of one color on white"] += 1
        return None
    return encoded(picture)


def in_folders(prefix: str, groups: Mapping[str, Pictures]) -> Files:
    """Yield each picture under its group's folder."""
    for group, pictures in sorted(groups.items()):
        for name, picture in sorted(pictures.items()):
            yield f"{prefix}{group}/{name}", picture


def show(name: str, found: Mapping[str, Any]) -> None:
    """Print a set's counts, and what was left out."""
    counts = found["counts"]
    print(f"{name}: {sum(counts.values()):,} pictures, made in {found['seconds']} s")
    for group, count in counts.items():
        print(f"  {count:6,}  {group}")
    for reason, count in found["left_out"].items():
        if count:
            print(f"  {count:6,}  left out: {reason}")


if __name__ == "__main__":
    main()
