"""What curating will cost, from a short look at how fast the encoders are."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tutelage.curation.calibration import MOST
from tutelage.curation.cleaning import SPARE
from tutelage.curation.crops import CROPS, Cutting
from tutelage.curation.embedder import WHOLE, Embedder, Place
from tutelage.curation.settings import CurateSettings
from tutelage.curation.stage import encoder_sizes, settings_of, task_of
from tutelage.curation.thresholds import KNOWN
from tutelage.data.prepare import PreparedData
from tutelage.data.readers.stream import stream_samples
from tutelage.ledger import Cost

if TYPE_CHECKING:
    from tutelage.recipe import Recipe

TIMED = 8
"""Samples of the gallery that are embedded to see how long one takes."""


@dataclass(frozen=True)
class Planned:
    """What curating will take, quick trainings (``size: auto``) aside.

    Attributes:
        gallery: Images (or texts) that the gallery has.
        left: Of those, how many are still to be embedded.
        beside: Others to be embedded: the task's, changed copies that thresholds are found by, whole images of crops.
        seconds: That embedding all of them takes.
        flops: The same.
    """

    gallery: int
    left: int
    beside: int
    seconds: float
    flops: float


class CurationForecast:
    """Predicts what curations cost, one after the other: what two of them embed is counted for the first.

    Args:
        place: Where they would be done.
    """

    def __init__(self, place: Place) -> None:
        self._place = place
        self._embedders: dict[str, Embedder] = {}
        self._costs: dict[tuple[str, int], Cost] = {}
        self._counted: set[tuple[str, str]] = set()

    def of(self, recipe: Recipe, data: PreparedData) -> Planned:
        """Return what a recipe's curation will take: a few seconds, and nothing is kept.

        Args:
            recipe: With a gallery.
            data: All else, labels drawn.

        Raises:
            TutelageError: The gallery or an encoder cannot be had.
        """
        settings = settings_of(recipe)
        sizes = encoder_sizes(recipe, data)
        key = json.dumps([sizes, recipe.text.model_dump(mode="json")])
        if key not in self._embedders:
            self._embedders[key] = Embedder(sizes, self._place, recipe.text)
        embedder = self._embedders[key]
        cutting = Cutting(CROPS, settings.crops) if settings.crops else WHOLE
        gallery, found = embedder.unembedded(settings.gallery, cutting)
        left = self._new(f"{key} {settings.crops}", found)
        beside = sum(
            self._new(key, embedder.unembedded(samples, WHOLE)[1]) for _, _, samples in task_of(recipe, data).parts
        )
        beside += self._copies(key, settings, sizes, gallery)
        if settings.crops:
            beside += min(gallery, round((1 + SPARE) * settings.largest))
        first = next(stream_samples(settings.gallery, modality=recipe.modality))
        some = first.subset(np.arange(min(TIMED, len(first))))
        of_gallery = self._cost(key, settings.crops, lambda: embedder.one(some, cutting))
        whole = self._cost(key, 0, lambda: embedder.one(some, WHOLE)) if settings.crops else of_gallery
        seconds = left * of_gallery.seconds + beside * whole.seconds
        return Planned(gallery, left, beside, seconds, left * of_gallery.flops + beside * whole.flops)

    def _new(self, key: str, shards: Mapping[str, int]) -> int:
        """Return how many samples are in shards that were not counted before, which they are now."""
        new = {name: count for name, count in shards.items() if (key, name) not in self._counted}
        self._counted |= {(key, name) for name in new}
        return sum(new.values())

    def _copies(self, key: str, settings: CurateSettings, sizes: Mapping[str, int | None], gallery: int) -> int:
        """Return how many changed copies thresholds will be found by."""
        if "auto" not in (settings.duplicates, settings.leak_threshold) or all(name in KNOWN for name in sizes):
            return 0
        return self._new(f"{key} copies", {settings.gallery: min(MOST, gallery)})

    def _cost(self, key: str, crops: int, measure: Callable[[], Cost]) -> Cost:
        if (key, crops) not in self._costs:
            self._costs[key, crops] = measure()
        return self._costs[key, crops]
