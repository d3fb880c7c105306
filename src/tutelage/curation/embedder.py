"""The encoders of a curation at work: what they have embedded before is found, and counts all the same."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch

from tutelage.curation.crops import Cutting
from tutelage.curation.embed import embed
from tutelage.curation.embeddings import Embeddings, embed_gallery, embed_samples, unembedded
from tutelage.curation.neighbors import FloatArray, Neighbors
from tutelage.curation.queries import embed_texts
from tutelage.curation.search import search
from tutelage.curation.settings import CurateSettings
from tutelage.data.samples import Samples
from tutelage.errors import DataError
from tutelage.ledger import Cost
from tutelage.models.model import Encoder
from tutelage.models.preprocess import modality_of
from tutelage.models.sizes import native_size
from tutelage.models.sources import build_encoder
from tutelage.models.text_settings import TextSettings
from tutelage.progress import Progress
from tutelage.training.stopwatch import median_seconds
from tutelage.views.settings import ViewSettings

WHOLE = Cutting()

SECONDS = 0.5
"""Time that measuring may take, besides its first turns."""

EngineName = Literal["local", "ray"]


@dataclass(frozen=True)
class Place:
    """Where work is done.

    Attributes:
        root: Folder of all stores.
        max_bytes: Most that they may hold together.
        device: Where encoders run.
        progress: Shows where work is.
        engine: What embeds galleries and searches them: this process, or Ray.
    """

    root: Path
    max_bytes: int
    device: torch.device
    progress: Progress
    engine: EngineName = "local"


class Embedder:
    """Embeds for one curation.

    Args:
        sizes: Names of the encoders, each with the side of its input, ``None`` for its own.
        place: Where.
        text: How encoders of texts read them, as teachers do.

    Attributes:
        names: Of the encoders.
        cost: What making all embeddings that were asked for has cost, whoever made them: a curation that finds them
            made still could not do without.
        seconds: How long asking for them took here.
    """

    def __init__(self, sizes: Mapping[str, int | None], place: Place, text: TextSettings | None = None) -> None:
        self.names = tuple(sizes)
        self.cost = Cost()
        self.seconds = 0.0
        self._place = place
        self._encoders = [_build(name, size, place.device, text or TextSettings()) for name, size in sizes.items()]

    def gallery(self, where: str, cutting: Cutting) -> Embeddings:
        """Embed a gallery (see :func:`tutelage.curation.embeddings.embed_gallery`)."""
        at = self._place
        engine = None
        if at.engine == "ray":
            from tutelage.curation.ray_engine import RayEngine

            engine = RayEngine()
        return self._counted(
            lambda: embed_gallery(
                at.root, at.max_bytes, where, self._encoders, cutting, progress=at.progress, engine=engine
            )
        )

    def samples(self, samples: Samples, label: str) -> Embeddings:
        """Embed samples, whole (see :func:`tutelage.curation.embeddings.embed_samples`)."""
        at = self._place
        return self._counted(
            lambda: embed_samples(
                at.root, at.max_bytes, samples, self._encoders, WHOLE, progress=at.progress, label=label
            )
        )

    def vectors(self, samples: Samples, label: str) -> list[npt.NDArray[np.float16]]:
        """Return samples' unit vectors, float16 [n, D_e] of each encoder."""
        embedded = self.samples(samples, label)
        return [embedded.take(np.arange(len(samples)), encoder) for encoder in range(len(self.names))]

    def search(self, queries: Sequence[FloatArray], items: Embeddings, k: int) -> Neighbors:
        """Return the k nearest items of each query (see :func:`tutelage.curation.search.search`)."""
        if self._place.engine == "ray":
            from tutelage.curation.ray_engine import search_with_ray

            return search_with_ray(queries, items, k)
        return search(queries, [items.vectors(encoder) for encoder in range(len(queries))], k)

    def texts(self, texts: Sequence[str]) -> tuple[FloatArray, ...]:
        """Return prompts' unit vectors, by the encoders of texts, or by the text towers of those of images.

        The latter are those of CLIP models (see :func:`tutelage.curation.queries.embed_texts`).
        """
        if modality_of(self._encoders[0].preprocess) == "text":
            asked = Samples(tuple(map(str, range(len(texts)))), texts=list(texts), origin="the prompts")
            return tuple(each.astype(np.float32) for each in self.vectors(asked, "embed the prompts"))
        return embed_texts(self.names, texts, self._place.device, self.cost)

    def unembedded(self, gallery: str | Samples, cutting: Cutting) -> tuple[int, dict[str, int]]:
        """Return what is still to be embedded (see :func:`tutelage.curation.embeddings.unembedded`)."""
        return unembedded(self._place.root, gallery, self._encoders, cutting)

    def one(self, samples: Samples, cutting: Cutting) -> Cost:
        """Return what embedding one sample costs, from a few that are embedded here and not kept.

        Raises:
            DataError: None of them can be decoded.
        """
        for encoder in self._encoders:
            encoder.eval()
        cost = Cost()
        found = embed([samples], self._encoders, cutting, cost=cost)
        if not found.ids:
            raise DataError(f"{samples.origin}: none of its first {len(samples)} can be used; is it the right place?")
        seconds = median_seconds(lambda: embed([samples], self._encoders, cutting), SECONDS)
        return Cost(seconds=seconds / len(found.ids), images=1, flops=cost.flops / len(found.ids))

    def _counted(self, embed: Callable[[], Embeddings]) -> Embeddings:
        began = time.perf_counter()
        made = embed()
        self.seconds += time.perf_counter() - began
        spent = made.cost
        self.cost.seconds += spent.seconds
        self.cost.images += spent.images
        self.cost.flops += spent.flops
        self.cost.peak_memory = max(self.cost.peak_memory, spent.peak_memory)
        return made


def encoder_size(name: str, settings: CurateSettings, views: ViewSettings, short_side: int) -> int | None:
    """Return the side of an encoder's input, in pixels; ``None`` for its own.

    An encoder that takes any size sees images as a teacher does: at twice their size at most.

    Args:
        name: Of the encoder.
        settings: May say so.
        views: As the recipe has them.
        short_side: Of the labeled images, in pixels (their median).
    """
    native = native_size(name)
    if settings.input_size is not None or native is None:
        return settings.input_size
    asked = ViewSettings(teacher_size=views.teacher_size)
    return asked.resolved(short_side, teacher_native=native).teacher_size


def _build(name: str, size: int | None, device: torch.device, text: TextSettings) -> Encoder:
    encoder = build_encoder(name, pretrained=True, size=size)
    encoder.preprocess = text.read(encoder.preprocess, teaches=True, name=name)
    encoder.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return encoder
