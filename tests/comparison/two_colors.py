"""Pictures of two classes, small enough for whole comparisons."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image


def two_colors(root: Path) -> Path:
    """Write ``train``, ``test`` and ``other`` in a folder, a class for each of two colors; return the folder."""
    generator = np.random.default_rng(0)
    for part, count in (("train", 8), ("test", 3), ("other", 4)):
        for color, name in enumerate(("red", "green")):
            (root / part / name).mkdir(parents=True)
            for number in range(count):
                pixels = generator.integers(0, 120, (10, 10, 3))
                pixels[..., color] += 130
                Image.fromarray(pixels.astype(np.uint8)).save(root / part / name / f"{number}.png")
    return root
