"""Curating: a gallery and a few labeled images in, a transfer set of exactly N retrieved items out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt
import torch

from tutelage.curation.calibration import EncoderThresholds, calibrated
from tutelage.curation.crops import CROPS, Cutting
from tutelage.curation.decontamination import Decontamination, TaskImages
from tutelage.curation.embedder import WHOLE, Embedder
from tutelage.curation.neighbors import FloatArray
from tutelage.curation.originals import Originals
from tutelage.curation.provenance import Provenance, provenance
from tutelage.curation.queries import Queries, class_names, query_rows
from tutelage.curation.retrieval import Retrieval, Retrieved
from tutelage.curation.settings import CurateSettings
from tutelage.curation.strategies import STRATEGIES, TooFewItemsError
from tutelage.curation.suspects import Decision, Part
from tutelage.curation.thresholds import Thresholds, duplicate_threshold, leak_thresholds
from tutelage.data.samples import Samples
from tutelage.errors import RecipeError


@dataclass(frozen=True)
class Task:
    """What a transfer set is curated for.

    Attributes:
        labeled: The labeled images that may be queries.
        parts: All images of the task, what it uses them for, and where they are read from; those of training first.
        seed: Of all that is drawn.
    """

    labeled: Samples
    parts: Sequence[tuple[Part, str, Samples]]
    seed: int

    @property
    def where(self) -> str:
        """Where labeled images are read from."""
        return self.parts[0][1]


@dataclass(frozen=True)
class Curation:
    """What was retrieved, and why.

    Attributes:
        retrieved: Exactly as many items as asked for.
        why: Each of them was.
    """

    retrieved: Retrieved
    why: Provenance


class Curator:
    """Curates transfer sets of any size from one gallery: embeds, compares and calibrates once for all of them.

    Args:
        settings: What the recipe says; the size apart.
        task: What for.
        embedder: Embeds.
        decisions: Of people, on suspects.

    Attributes:
        task: As given.
        items: The gallery's.
        gallery: The images behind them.
        queries: What the gallery is compared with.
        used: The labeled images that join what is retrieved.
        thresholds: Of each encoder, by name.
        duplicates: Mean similarity above which one of two images is left out; ``None`` for exact copies alone.
        leaks: Each encoder's similarity above which an image is suspect; ``None`` for exact copies alone.
        decontamination: Finds what must not be taken.

    Raises:
        DataError: The gallery is missing or damaged, or the labeled images cannot be decoded any more.
        ModelError: An encoder cannot be had, reads no images, or has no text tower where prompts are asked with.
        RunError: There is no room for the embeddings.
    """

    def __init__(
        self, settings: CurateSettings, task: Task, embedder: Embedder, decisions: Mapping[str, Decision]
    ) -> None:
        self.task = task
        self._settings, self._embedder = settings, embedder
        # The same crops for every seed, or else each would embed the gallery again.
        cutting = Cutting(CROPS, settings.crops) if settings.crops else WHOLE
        encoders = len(embedder.names)
        self.items = embedder.gallery(settings.gallery, cutting)
        whole = partial(embedder.samples, label="embed originals") if settings.crops else None
        self.gallery = Originals(settings.gallery, self.items, encoders, whole, task.labeled.modality)
        self.thresholds = self._thresholds()
        values = {name: each.values for name, each in self.thresholds.items()}
        if settings.duplicates == "off":
            self.duplicates = None
        elif settings.duplicates == "auto":
            self.duplicates = duplicate_threshold(embedder.names, values)
        else:
            self.duplicates = settings.duplicates
        given = settings.leak_threshold
        self.leaks = leak_thresholds(embedder.names, values) if given == "auto" else [given] * encoders
        rows = query_rows(task.labeled, settings.queries, seed=task.seed)
        self.used = task.labeled.subset(rows)
        vectors = self._task_vectors() if self.leaks is not None else []
        self.queries = self._queries(vectors)
        self.decontamination = Decontamination(
            settings.gallery,
            self.gallery,
            TaskImages(task.parts, vectors),
            duplicates=self.duplicates,
            leaks=self.leaks,
            policy=settings.leaks,
            decisions=decisions,
        )
        self._retrieval = Retrieval(
            self.items,
            STRATEGIES[settings.strategy],
            self.queries.vectors,
            search=embedder.search,
            dirty=self.decontamination.dirty,
            seed=task.seed,
        )

    @property
    def images(self) -> int:
        """How many images the gallery has that can be used."""
        return len(self.items) // self.items.cutting.count

    def curate(self, size: int) -> Curation:
        """Retrieve exactly ``size`` items.

        Raises:
            RecipeError: The gallery has too few that may be taken, or there are more queries.
            DataError: An image of the gallery is gone, or cannot be decoded any more.
        """
        found = self._selected(size)
        return Curation(found, provenance(found, self.items, self.queries.vectors, len(self._embedder.names)))

    def available(self, most: int) -> int:
        """Return how many items can be retrieved, up to ``most``.

        Raises:
            RecipeError: There are more queries.
            DataError: An image of the gallery is gone, or cannot be decoded any more.
        """
        size = min(most, self.images)
        while size:
            try:
                self._selected(size)
            except TooFewItemsError as error:
                size = error.available
            else:
                break
        return size

    def _selected(self, size: int) -> Retrieved:
        try:
            return self._retrieval.select(size)
        except TooFewItemsError as error:
            raise TooFewItemsError(self._explained(size, error), error.available) from error
        except RecipeError as error:
            raise RecipeError(self._explained(size, error)) from error

    def _explained(self, size: int, error: RecipeError) -> str:
        return f"curate.size={size}: {error}{self._left_out()}"

    def _left_out(self) -> str:
        counts = self.decontamination.counts()
        words = {
            "exact_copies_of_task": f"copies of the task's own {self.task.labeled.modality}s",
            "exact_duplicates": "exact copies of each other",
            "duplicates": "duplicates",
            "leaks": "possible leaks",
        }
        told = ", ".join(f"{counts[name]:,} {text}" for name, text in words.items() if counts.get(name))
        return f" (left out: {told})" if told else ""

    def _thresholds(self) -> dict[str, EncoderThresholds]:
        settings, names = self._settings, self._embedder.names
        if "auto" not in (settings.duplicates, settings.leak_threshold):
            return {name: EncoderThresholds(Thresholds(None, None), "none") for name in names}
        return calibrated(names, self.gallery, self.images, partial(self._embedder.samples, label="embed copies"))

    def _queries(self, task: Sequence[npt.NDArray[np.float16]]) -> Queries:
        kind = STRATEGIES[self._settings.strategy].queries
        if kind == "nothing":
            return Queries("nothing")
        if kind == "images":
            vectors = self._of_labeled(task) if task else self._embedder.vectors(self.used, "embed the queries")
            return Queries("images", self.used.ids, class_names(self.used), tuple(map(_unit, vectors)))
        classes = self.task.labeled.classes
        prompts = self._settings.prompts(classes)
        each = len(prompts) // len(classes)
        names = tuple(name for name in classes for _ in range(each))
        return Queries("texts", tuple(prompts), names, self._embedder.texts(prompts))

    def _of_labeled(self, task: Sequence[npt.NDArray[np.float16]]) -> list[npt.NDArray[np.float16]]:
        """Return the queries' vectors, which are among those of all images of the task: training's come first."""
        rows = {name: row for row, name in enumerate(self.task.parts[0][2].ids)}
        own = [rows[name] for name in self.used.ids]
        return [each[own] for each in task]

    def _task_vectors(self) -> list[npt.NDArray[np.float16]]:
        parts = [self._embedder.vectors(samples, f"embed {part} images") for part, _, samples in self.task.parts]
        return [np.concatenate([part[encoder] for part in parts]) for encoder in range(len(self._embedder.names))]


def _unit(vectors: npt.NDArray[np.float16]) -> FloatArray:
    """Return half-precision vectors at unit length again."""
    wide = torch.nn.functional.normalize(torch.from_numpy(vectors).float(), dim=1)
    found: FloatArray = wide.numpy()
    return found
