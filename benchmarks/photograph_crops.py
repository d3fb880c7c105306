"""Square crops of photographs: those among Debian's wallpapers, and the two that come with scikit-learn.

The photographs are chosen by eye: the rest of these packages is drawn or rendered.
"""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import numpy as np
import sklearn.datasets
from emoji_pictures import Pictures, encoded, plain
from PIL import Image

PHOTOGRAPHS: dict[str, tuple[str, str]] = {
    "scikit-learn": (str(Path(sklearn.datasets.__file__).parent / "images" / "{}.jpg"), "china flower"),
    "mate-backgrounds": (
        "/usr/share/backgrounds/mate/nature/{}.jpg",
        "Aqua Blinds Dune FreshFlower Garden GreenMeadow LadyBird RainDrops Storm TwoWings Wood YellowFlower",
    ),
    "plasma-workspace-wallpapers": (
        "/usr/share/wallpapers/{}/contents/images/2560x1600.jpg",
        "BytheWater ColdRipple ColorfulCups DarkestHour EveningGlow FallenLeaf Grey Kite OneStandsOut "
        "Path summer_1am",
    ),
    "lomiri-wallpapers-16.04": (
        "/usr/share/backgrounds/{}.jpg",
        "Bridge_by_Sander_Klootwijk Dragonfly_by_Bolly Picture_0B_by_freespace Picture_1A_by_freespace "
        "Wine_by_Jakkub_Mede aitzgorri_by_Aitzol_Berasategi free_by_Peter_Nerlich friends_by_Aitzol_Berasategi "
        "greentock_by_Peter_Nerlich life_by_Aitzol_Berasategi picosdeeuropa_by_Aitzol_Berasategi "
        "seeding_by_Clements_Engelhardt sunset_by_Aitzol_Berasategi",
    ),
}
"""By package: where its pictures lie, and the names of the photographs."""

CROPS = 1000
SIZE = 64
# Below this spread of gray values a crop is a piece of sky or blur, with nothing in it.
FLAT = 10.0


def photographs() -> dict[str, Path]:
    """Return the photographs by name."""
    return {name: Path(where.format(name)) for where, names in PHOTOGRAPHS.values() for name in names.split()}


def lacking() -> set[str]:
    """Return the packages of which a photograph is not there."""
    found = {name for name, path in photographs().items() if path.exists()}
    return {package for package, (_, names) in PHOTOGRAPHS.items() if not found.issuperset(names.split())}


def crops(left: Counter[str]) -> Pictures:
    """Return square crops of 1/8 to 3/4 of a photograph's short side, equally many of each, or one more."""
    found: Pictures = {}
    shared, more = divmod(CROPS, len(photographs()))
    for place, (name, path) in enumerate(photographs().items()):
        with Image.open(path) as image:
            photograph = image.convert("RGB")
        # Seeded by the name: what other photographs there are does not change where this one is cut.
        chance = random.Random(name)
        wanted = shared + (place < more)
        number = 0
        for _ in range(50 * wanted):
            side = round(min(photograph.size) * chance.uniform(1 / 8, 3 / 4))
            x, y = chance.randint(0, photograph.width - side), chance.randint(0, photograph.height - side)
            box = (x, y, x + side, y + side)
            crop = photograph.resize((SIZE, SIZE), Image.Resampling.BICUBIC, box, reducing_gap=3)
            if np.asarray(crop.convert("L")).std() < FLAT:
                left["crops with nothing in them, drawn again"] += 1
                continue
            found[f"{plain(name)}-{number:02d}.png"] = encoded(crop)
            number += 1
            if number == wanted:
                break
    return found
