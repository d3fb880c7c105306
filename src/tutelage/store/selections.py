"""Some of the images of a pack, and those of several samples one after the other; masks are had the same way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from tutelage.data.images import Images
from tutelage.data.samples import IntArray


@dataclass(frozen=True)
class SomeImages:
    """Some of the images of a pack, in an order of their own.

    Attributes:
        images: All of them.
        rows: Which.
    """

    images: Images
    rows: IntArray

    @property
    def at_hand(self) -> bool:
        """Whether all of them are packed."""
        return self.images.at_hand

    def get(self, rows: IntArray) -> list[Tensor]:
        """Return the images in ``rows`` of these."""
        return self.images.get(self.rows[rows])


@dataclass(frozen=True)
class JoinedImages:
    """The images of several samples, one after the other.

    Attributes:
        parts: Where those of each are, and how many.
    """

    parts: Sequence[tuple[Images, int]]

    @property
    def at_hand(self) -> bool:
        """Whether all of them are packed."""
        return all(images.at_hand for images, _ in self.parts)

    def get(self, rows: IntArray) -> list[Tensor]:
        """Return the images in ``rows``, counted through all parts."""
        starts = np.cumsum([0, *(count for _, count in self.parts)])
        numbers = np.searchsorted(starts, rows, side="right") - 1
        found: dict[int, Tensor] = {}
        for number, (images, _) in enumerate(self.parts):
            where = np.flatnonzero(numbers == number)
            if len(where):
                found.update(zip(where.tolist(), images.get(rows[where] - starts[number]), strict=True))
        return [found[place] for place in range(len(rows))]
