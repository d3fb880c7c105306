"""The original images (or texts) of a gallery's items: where each is, and what encoders make of all of it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from tutelage.curation.embeddings import Embeddings
from tutelage.curation.gallery import Content, chosen, contents, samples_from
from tutelage.data.samples import IntArray, Samples
from tutelage.models.preprocess import Modality

Halves = npt.NDArray[np.float16]


class Originals:
    """Images that selecting from a gallery has come upon; each is looked for and embedded once.

    Memory is that of the images asked for, however large the gallery.

    Args:
        where: The gallery.
        items: Its embeddings.
        encoders: How many they are of.
        whole: Embeds images in their evaluation view, for items that are crops; ``None`` where items are whole
            images already.
        modality: Of the gallery.
    """

    def __init__(
        self,
        where: str,
        items: Embeddings,
        encoders: int,
        whole: Callable[[Samples], Embeddings] | None,
        modality: Modality = "image",
    ) -> None:
        self._where = where
        self._items = items
        self._encoders = encoders
        self._whole = whole
        self._modality = modality
        self._images: dict[int, tuple[str, Content]] = {}
        self._vectors: dict[int, tuple[Halves, ...]] = {}

    def samples(self, numbers: IntArray) -> Samples:
        """Return some images by their numbers, in that order.

        Raises:
            DataError: One is not in the gallery any more.
        """
        new = np.array([number for number in numbers.tolist() if number not in self._images], dtype=np.int64)
        if len(new):
            names = self._items.items(new * self._items.cutting.count).ids
            found = chosen(self._where, names, self._modality)
            places = dict(zip(found.ids, contents(found), strict=True))
            self._images |= {number: (name, places[name]) for number, name in zip(new.tolist(), names, strict=True)}
        pairs = [self._images[number] for number in numbers.tolist()]
        return samples_from([name for name, _ in pairs], [each for _, each in pairs], self._where, self._modality)

    def vectors(self, numbers: IntArray) -> list[Halves]:
        """Return the unit vectors of some images, whole, float16 [n, D_e] of each encoder.

        Raises:
            DataError: One is not in the gallery any more, or cannot be decoded any more.
        """
        if self._whole is None:
            return [self._items.take(numbers, encoder) for encoder in range(self._encoders)]
        new = np.array([number for number in numbers.tolist() if number not in self._vectors], dtype=np.int64)
        if len(new):
            embedded = self._whole(self.samples(new))
            rows = np.arange(len(new))
            made = [embedded.take(rows, encoder) for encoder in range(self._encoders)]
            self._vectors |= {number: tuple(part[row] for part in made) for row, number in enumerate(new.tolist())}
        if not len(numbers):
            return [self._items.take(numbers, encoder) for encoder in range(self._encoders)]
        held = [self._vectors[number] for number in numbers.tolist()]
        return [np.stack([each[encoder] for each in held]) for encoder in range(self._encoders)]
