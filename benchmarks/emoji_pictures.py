"""Emoji by group, from the npm packages ``emoji-datasource-google`` and ``emoji-datasource-twitter``.

What `compare_data.py` needs for two of its sets: 64-pixel pictures of both vendors, without those of clothes, so that
one set serves a task about clothes and one about anything else. Skin tones are left aside: they are the same drawings
again.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import shutil
import subprocess
import sys
import tarfile
from collections import Counter, defaultdict
from collections.abc import Mapping
from pathlib import Path

from PIL import Image

# One version, so that the sets are the same wherever they are made.
VERSION = "16.0.0"
VENDORS = ("google", "twitter")

# What the subcategory "clothing" misses: whole words of an emoji's names, outside the two categories that follow.
CLOTHES = re.compile(
    r"\b(bags?|baggage|boots?|briefcase|clothes|coats?|dress(es)?|gloves?|handbag|jeans|kimono|luggage|moneybag|purse|"
    r"sandals?|sari|satchel|scarf|shirts?|shoes?|skates?|socks?|trousers|uniform|vest)\b"
)
# There such words tell of a face with bags under its eyes, or of a person who wears something.
WORN = frozenset({"Smileys & Emotion", "People & Body"})

Pictures = dict[str, bytes]
"""Encoded PNGs by file name."""


def emoji(archives: Mapping[str, Path], left: Counter[str]) -> dict[str, Pictures]:
    """Return the pictures of each group from the packages of all vendors; count in ``left`` what was left out."""
    groups: dict[str, Pictures] = defaultdict(dict)
    for vendor, archive in sorted(archives.items()):
        rows, files = unpacked(vendor, archive)
        for row in rows:
            if row["category"] == "Component":
                left["emoji components (bare skin tones)"] += 1
            elif is_clothes(row):
                left["emoji of clothes and bags"] += 1
            elif row["image"] not in files:
                left[f"emoji without a picture by {vendor}"] += 1
            else:
                name = file_name(row, vendor)
                with Image.open(io.BytesIO(files[row["image"]])) as image:
                    groups[plain(row["category"])][name] = encoded(on_white(image))
            left["skin tones of emoji"] += len(row.get("skin_variations", {}))
    return distinct(groups, left, "emoji")


def words(archives: Mapping[str, Path]) -> dict[str, str]:
    """Return what each picture shows, by its file's name: the character's name, in lower case."""
    return {
        file_name(row, vendor): (row["name"] or row["short_name"].replace("_", " ")).lower()
        for vendor, archive in sorted(archives.items())
        for row in unpacked(vendor, archive)[0]
    }


def file_name(row: Mapping[str, str], vendor: str) -> str:
    """Return the name of a vendor's picture."""
    return f"{plain(row['short_name'])}-{vendor}.png"


def is_clothes(row: Mapping[str, str]) -> bool:
    """Whether an emoji shows something to wear, or a bag."""
    if row["subcategory"] == "clothing":
        return True
    words = f"{row['short_name']} {row['name']}".lower().replace("_", " ")
    return row["category"] not in WORN and CLOTHES.search(words) is not None


def unpacked(vendor: str, archive: Path) -> tuple[list[dict[str, str]], dict[str, bytes]]:
    """Return a package's rows of ``emoji.json`` and its 64-pixel pictures by file name."""
    rows: list[dict[str, str]] = []
    files: dict[str, bytes] = {}
    with tarfile.open(archive) as members:
        for member in members:
            folder, _, name = member.name.rpartition("/")
            stream = members.extractfile(member) if member.isfile() else None
            if stream is None:
                continue
            if member.name == "package/emoji.json":
                rows = json.load(stream)
            elif folder == f"package/img/{vendor}/64":
                files[name] = stream.read()
    if not rows or not files:
        sys.exit(f"{archive} is not a package emoji-datasource-{vendor}: it lacks emoji.json or img/{vendor}/64")
    return rows, files


def fetched(vendor: str, cache: Path) -> Path:
    """Return the vendor's package in ``cache``, by ``npm pack`` the first time."""
    package = f"emoji-datasource-{vendor}"
    archive = cache / f"{package}-{VERSION}.tgz"
    if archive.exists():
        return archive
    if shutil.which("npm") is None:
        sys.exit(
            f"npm is not there; fetch the npm package {package}@{VERSION} and name its tgz with --emoji-{vendor}"
        )
    # npm writes in place: only a whole archive gets the name that is looked for.
    partial = cache / f"{package}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    print(f"npm pack {package}@{VERSION}", file=sys.stderr)
    arguments = ["npm", "pack", f"{package}@{VERSION}", "--silent", "--pack-destination", str(partial.resolve())]
    done = subprocess.run(arguments, stdout=subprocess.DEVNULL)
    if done.returncode or not (partial / archive.name).exists():
        sys.exit(f"npm pack {package}@{VERSION} failed; name the package's tgz with --emoji-{vendor}")
    (partial / archive.name).rename(archive)
    partial.rmdir()
    return archive


def distinct(groups: Mapping[str, Pictures], left: Counter[str], what: str) -> dict[str, Pictures]:
    """Return the pictures that stand in one group only, each once: the first by name."""
    digests = {
        (group, name): hashlib.sha256(picture).digest()
        for group, pictures in groups.items()
        for name, picture in pictures.items()
    }
    where: dict[bytes, set[str]] = defaultdict(set)
    for (group, _), digest in digests.items():
        where[digest].add(group)
    kept: dict[str, Pictures] = {group: {} for group in sorted(groups)}
    seen: set[bytes] = set()
    for (group, name), digest in sorted(digests.items()):
        if len(where[digest]) > 1:
            left[f"{what} that stand in two classes or more"] += 1
        elif digest in seen:
            left[f"{what} that stand twice in a class"] += 1
        else:
            seen.add(digest)
            kept[group][name] = groups[group][name]
    return kept


def on_white(image: Image.Image) -> Image.Image:
    """Return a picture of any mode as RGB, what is transparent as white."""
    layer = image.convert("RGBA")
    ground = Image.new("RGBA", layer.size, "white")
    return Image.alpha_composite(ground, layer).convert("RGB")


def encoded(image: Image.Image) -> bytes:
    """Return a picture as PNG, without the metadata of the file that it came from."""
    image.info.clear()
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def plain(name: str) -> str:
    """Return a name in lower case, with hyphens for whatever is no letter, digit, plus or underscore."""
    return re.sub(r"[^a-z0-9+_]+", "-", name.lower()).strip("-")
