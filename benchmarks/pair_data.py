"""A task about image-text pairs for ``tutelage compare``: emoji with a name each, the right one or a wrong one.

    python benchmarks/pair_data.py runs/pair-data                     # a minute, 140 MB, the first time

``train.csv`` has Google's pictures of most concepts, ``test.csv`` Twitter's pictures of all others, so that neither a
drawing nor what it shows is known from training; both have the columns id, image, text, label. Every picture stands
there twice, once with its own name (``match``) and once with another's (``mismatch``), and every name twice likewise:
neither the picture nor the text alone says anything. Half of the wrong names are of the same kind (another bird), the
others of another one. No wrong name is a part of the right one or has it as a part.

Left out are flags, letters, digits and clock faces, which cannot be told without having been seen, and skin tones.
Variants of one concept (the same face in another color, a woman, a man and a person who does the same) stay on one
side. The pictures come from two npm packages, which ``npm pack`` fetches (see `emoji_pictures.py`). The same packages
give the same files; counts are printed, and kept as ``pairs.json``.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import io
import json
import re
import shutil
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from emoji_pictures import VENDORS, encoded, fetched, file_name, on_white, unpacked
from PIL import Image

SIDES = {"train": "google", "test": "twitter"}
"""Whose pictures either side has."""

TEST_SHARE = 0.25
HARD_SHARE = 0.5

UNTELLABLE = {"alphanum", "keycap", "time"}
"""Subcategories that cannot be told without having been seen; so are those of flags."""

FILLERS = frozenset(
    {"a", "and", "black", "face", "heavy", "man", "of", "person", "sign", "symbol", "white", "with", "woman"}
)
"""Words that do not tell one concept from another."""

PEOPLE = {"1F468", "1F469", "1F9D1", "2640", "2642", "200D", "FE0F"}
"""Code points of a man, a woman, a person, both signs, and what joins them with others."""


@dataclass(frozen=True, eq=False)  # rows of JSON have no hash
class Concept:
    """One emoji.

    Attributes:
        row: Of ``emoji.json``, the same for all vendors.
        name: In lower case.
        kind: Its subcategory.
    """

    row: Mapping[str, str]
    name: str
    kind: str

    @property
    def words(self) -> frozenset[str]:
        """What its name says."""
        found = frozenset(re.findall(r"[a-z0-9]+", self.name.replace("womans ", "").replace("mans ", "")))
        return found - FILLERS or found

    @property
    def codes(self) -> str:
        """Its code points, whoever is shown."""
        return "-".join(code for code in self.row["unified"].split("-") if code not in PEOPLE)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("folder", type=Path)
    for vendor in VENDORS:
        parser.add_argument(f"--emoji-{vendor}", type=Path, metavar="TGZ", help="the npm package, already fetched")
    arguments = parser.parse_args()
    folder: Path = arguments.folder
    if (folder / "pairs.json").exists():
        sys.exit(f"{folder / 'pairs.json'} is there already; remove {folder} to make the pairs anew")
    packages = {
        vendor: unpacked(vendor, getattr(arguments, f"emoji_{vendor}") or fetched(vendor, folder / ".npm"))
        for vendor in VENDORS
    }
    left: Counter[str] = Counter()
    concepts = tellable(packages["google"][0], left)
    sides = split(concepts)
    shutil.rmtree(folder / "images", ignore_errors=True)
    counts: dict[str, Counter[str]] = {}
    for side, vendor in SIDES.items():
        files = {row["unified"]: (row, packages[vendor][1].get(row["image"])) for row in packages[vendor][0]}
        pictures = {
            concept: encoded(on_white(Image.open(io.BytesIO(picture))))
            for concept in sides[side]
            if (picture := files[concept.row["unified"]][1]) is not None
        }
        left[f"{side} concepts without a picture by {vendor}"] += len(sides[side]) - len(pictures)
        counts[side] = written(folder, side, vendor, pictures, left)
    found = {"counts": {side: dict(sorted(count.items())) for side, count in counts.items()}, "left_out": dict(left)}
    (folder / "pairs.json").write_text(json.dumps(found, indent=2) + "\n")
    print(json.dumps(found, indent=2))


def tellable(rows: Iterable[Mapping[str, str]], left: Counter[str]) -> list[Concept]:
    """Return the concepts that a picture may show, each name once; count in ``left`` what was left out."""
    found: dict[str, Concept] = {}
    for row in sorted(rows, key=lambda row: int(row["sort_order"])):
        name = (row["name"] or row["short_name"].replace("_", " ")).lower()
        if row["category"] in ("Component", "Flags"):
            left[row["category"].lower()] += 1
        elif row["subcategory"] in UNTELLABLE:
            left["letters, digits and clock faces"] += 1
        elif name in found:
            left["emoji with the name of another"] += 1
        else:
            found[name] = Concept(row, name, row["subcategory"])
    return list(found.values())


def split(concepts: Iterable[Concept]) -> dict[str, list[Concept]]:
    """Return the concepts of each side; what shares its code points or the words of its name goes together."""
    roots: dict[str, str] = {}

    def root(key: str) -> str:
        while roots.setdefault(key, key) != key:
            key = roots[key]
        return key

    groups: dict[str, list[Concept]] = defaultdict(list)
    listed = list(concepts)
    for concept in listed:
        roots[root("words " + " ".join(sorted(concept.words)))] = root("codes " + concept.codes)
    for concept in listed:
        groups["family" if concept.kind == "family" else root("codes " + concept.codes)].append(concept)
    sides: dict[str, list[Concept]] = {side: [] for side in SIDES}
    for group in groups.values():
        place = shuffled(f"side {group[0].name}")
        sides["test" if int(place[:8], 16) < TEST_SHARE * 2**32 else "train"] += group
    return sides


def written(
    folder: Path, side: str, vendor: str, pictures: Mapping[Concept, bytes], left: Counter[str]
) -> Counter[str]:
    """Write a side's pictures and its table; return how many pairs of each sort it has."""
    wrong, hard = wrong_names(list(pictures))
    left[f"{side} concepts that no wrong name was left for"] += len(pictures) - len(wrong)
    (folder / "images" / side).mkdir(parents=True)
    table = io.StringIO()
    rows = csv.writer(table, lineterminator="\n")
    rows.writerow(["id", "image", "text", "label"])
    counts: Counter[str] = Counter()
    for concept in sorted(wrong, key=lambda each: shuffled(each.name)):
        name = file_name(concept.row, vendor)
        (folder / "images" / side / name).write_bytes(pictures[concept])
        for number, (text, label) in enumerate(((concept.name, "match"), (wrong[concept].name, "mismatch"))):
            rows.writerow([f"{Path(name).stem}-{number}", f"images/{side}/{name}", text, label])
        counts["match"] += 1
        counts["mismatch, same kind" if concept in hard else "mismatch, another kind"] += 1
    (folder / f"{side}.csv").write_text(table.getvalue(), encoding="utf-8")
    return counts


def wrong_names(concepts: list[Concept]) -> tuple[dict[Concept, Concept], set[Concept]]:
    """Return whose name each concept gets wrongly, every name once, and which of them are of the same kind."""
    kinds: dict[str, list[Concept]] = defaultdict(list)
    for concept in sorted(concepts, key=lambda each: shuffled(f"order {each.name}")):
        kinds[concept.kind].append(concept)
    wrong: dict[Concept, Concept] = {}
    for members in kinds.values():
        wrong |= exchanged(members[: round(HARD_SHARE * len(members))], same=True)
    hard = set(wrong)
    rest = [concept for members in kinds.values() for concept in members if concept not in hard]
    wrong |= exchanged(sorted(rest, key=lambda each: shuffled(f"rest {each.name}")), same=False)
    return wrong, hard


def exchanged(concepts: list[Concept], *, same: bool) -> dict[Concept, Concept]:
    """Exchange the names of some concepts, all of which then have a wrong one; leave out those that cannot."""
    given = concepts[1:] + concepts[:1]

    def fits(place: int, name: Concept) -> bool:
        one, other = concepts[place].words, name.words
        return not (one <= other or other <= one) and (same or concepts[place].kind != name.kind)

    for place in range(len(given)):
        if fits(place, given[place]):
            continue
        for other in range(len(given)):
            if fits(place, given[other]) and fits(other, given[place]):
                given[place], given[other] = given[other], given[place]
                break
        else:
            return exchanged(concepts[:place] + concepts[place + 1 :], same=same)
    return dict(zip(concepts, given, strict=True))


def shuffled(name: str) -> str:
    """Return a key that sorts names in an order of chance, the same on every machine."""
    return hashlib.sha256(name.encode()).hexdigest()


if __name__ == "__main__":
    main()
