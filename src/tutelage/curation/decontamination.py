"""What of a gallery must not be taken: the task's own images, images that may be them, and duplicates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import numpy.typing as npt

from tutelage.curation.duplicates import duplicates, same_samples, together
from tutelage.curation.gallery import contents, samples_from
from tutelage.curation.leaks import suspects
from tutelage.curation.originals import Originals
from tutelage.curation.suspects import Decision, Near, Part, Suspect
from tutelage.data.leaks import Contents, exact_copies
from tutelage.data.samples import IntArray, Samples

Policy = Literal["drop", "keep", "ask"]


@dataclass(frozen=True)
class TaskImages:
    """All images of the task.

    Attributes:
        parts: The images, what the task uses them for, and where they are read from.
        vectors: Unit vectors of each encoder, of all parts one after the other, float16 [T, D_e].
    """

    parts: Sequence[tuple[Part, str, Samples]]
    vectors: Sequence[npt.NDArray[np.float16]]

    @cached_property
    def samples(self) -> Samples:
        """All of them; which part one is from is said by its id."""
        ids = tuple(f"{part}/{name}" for part, _, samples in self.parts for name in samples.ids)
        every = [each for _, _, samples in self.parts for each in contents(samples)]
        return samples_from(ids, every, "", self.parts[0][2].modality)

    def near(self, row: int, similarity: float) -> Near:
        """Return one of them, beside a suspect."""
        for part, where, samples in self.parts:
            if row < len(samples):
                return Near(where, samples.ids[row], part, similarity)
            row -= len(samples)
        raise IndexError(row)


class Decontamination:
    """Finds what must not be taken; what was found of an image is remembered.

    Args:
        where: The gallery.
        gallery: Its images.
        task: All images of the task.
        duplicates: Mean similarity above which one of two images is left out; ``None`` for exact copies alone.
        leaks: Each encoder's similarity above which an image may be one of the task's; ``None`` for exact copies
            alone.
        policy: What becomes of suspects that nobody has decided on.
        decisions: Of people, on images.

    Attributes:
        suspects: Images that may be the task's, by their numbers; exact copies are certain, and not among them.
    """

    def __init__(
        self,
        where: str,
        gallery: Originals,
        task: TaskImages,
        *,
        duplicates: float | None,
        leaks: Sequence[float] | None,
        policy: Policy,
        decisions: Mapping[str, Decision],
    ) -> None:
        self._where = where
        self._gallery = gallery
        self._task = task
        self._duplicates = duplicates
        self._leaks = leaks
        self._policy = policy
        self._decisions = decisions
        self._contents = Contents()
        self._looked: IntArray = np.empty(0, dtype=np.int64)
        self._counts: dict[str, int] = {}
        self._known: set[int] = set()
        self._copies: set[int] = set()
        self.suspects: dict[int, Suspect] = {}

    def dirty(self, images: IntArray) -> IntArray:
        """Return which images must not be taken (see :func:`tutelage.curation.cleaning.select_clean`).

        Args:
            images: Numbers of images, most relevant first, unique.
        """
        self._looked = images
        self._look([number for number in images.tolist() if number not in self._known])
        bad = np.array([number in self._copies or self.dropped(number) for number in images.tolist()], dtype=bool)
        rest = images[~bad]
        first, exact = self._firsts(rest)
        rows, copies = np.arange(len(rest)), sum(number in self._copies for number in images.tolist())
        self._counts = {
            "exact_copies_of_task": copies,
            "exact_duplicates": int((exact != rows).sum()),
            "duplicates": int(((first != rows) & (exact == rows)).sum()),
            "leaks": int(bad.sum()) - copies,
        }
        return np.concatenate([images[bad], rest[first != rows]])

    def counts(self) -> dict[str, int]:
        """Return how many of the images that were looked at last are left out for what reason."""
        return dict(self._counts)

    def found(self) -> list[int]:
        """Return the numbers of the suspects among the images that were looked at last."""
        return [number for number in self._looked.tolist() if number in self.suspects]

    def decided(self, number: int) -> Decision | None:
        """Return what a person has said of an image; ``None`` if nobody has."""
        suspect = self.suspects.get(number)
        return None if suspect is None else self._decisions.get(suspect.key)

    def dropped(self, number: int) -> bool:
        """Return whether an image counts as a leak; what is still to be asked about is not taken meanwhile."""
        if number not in self.suspects:
            return False
        decision = self.decided(number)
        return self._policy != "keep" if decision is None else decision == "leak"

    def _firsts(self, images: IntArray) -> tuple[IntArray, IntArray]:
        """Return the first of each image's duplicates, and the first of its exact copies."""
        exact = same_samples(self._gallery.samples(images), self._contents)
        if self._duplicates is None or not len(images):
            return exact, exact
        return together(exact, duplicates(self._gallery.vectors(images), self._duplicates)), exact

    def _look(self, new: list[int]) -> None:
        if not new:
            return
        self._known.update(new)
        numbers = np.array(new, dtype=np.int64)
        samples = self._gallery.samples(numbers)
        copies = exact_copies(samples, self._task.samples, self._contents)
        self._copies.update(numbers[copies].tolist())
        if self._leaks is None or not len(self._task.samples):
            return
        found = suspects(self._gallery.vectors(numbers), self._task.vectors, self._leaks)
        for place, row in enumerate(found.rows.tolist()):
            if new[row] in self._copies:
                continue
            nearest = tuple(
                self._task.near(other, similarity)
                for other, similarity in zip(
                    found.nearest[place].tolist(), found.similarity[place].tolist(), strict=True
                )
            )
            self.suspects[new[row]] = Suspect(
                self._where, samples.ids[row], nearest[0].similarity, nearest, samples.modality
            )
