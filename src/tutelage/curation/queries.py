"""Queries: what a gallery is compared with, labeled images or prompts on the classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch.nn import functional as F

from tutelage.curation.neighbors import FloatArray
from tutelage.data.samples import IntArray, Samples
from tutelage.errors import ModelError
from tutelage.ledger import Cost, counted
from tutelage.models.text_towers import build_teachers_text
from tutelage.training.precision import precision

TEXTS = 64
"""Prompts that a text tower reads at a time."""


@dataclass(frozen=True)
class Queries:
    """What a gallery is compared with.

    Attributes:
        kind: What they are; ``nothing`` where items are selected without.
        ids: Of the labeled images, or the prompts themselves.
        classes: The class of each; an empty name where images have no one class.
        vectors: Unit vectors of each encoder, float32 [Q, D_e].
    """

    kind: Literal["images", "texts", "nothing"]
    ids: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()
    vectors: tuple[FloatArray, ...] = ()

    def __len__(self) -> int:
        return len(self.ids)


def query_rows(labeled: Samples, most: int | None, *, seed: int) -> IntArray:
    """Return the labeled images that are queries: of each class as many as can be, drawn at random.

    With the same seed, fewer queries are among more.

    Args:
        labeled: With class numbers, or masks.
        most: How many; all if not given.
        seed: Of the draw.

    Returns:
        Rows, rising.
    """
    rng = np.random.default_rng(seed)
    turns, classes = np.empty(len(labeled)), class_numbers(labeled)
    for number in np.unique(classes):
        own = np.flatnonzero(classes == number)
        turns[own] = rng.permutation(len(own))
    # Classes take turns; whose turn it is first is drawn as well.
    order = np.lexsort((rng.permutation(int(classes.max(initial=0)) + 1)[classes], turns))
    return np.sort(order[:most])


def class_numbers(labeled: Samples) -> IntArray:
    """Return the class of each image, int64 [N]; 0 for all where each pixel has one."""
    return np.zeros(len(labeled), np.int64) if labeled.masks is not None else np.asarray(labeled.labels(), np.int64)


def class_names(labeled: Samples) -> tuple[str, ...]:
    """Return the name of each image's class; an empty one where each pixel has one."""
    if labeled.masks is not None:
        return ("",) * len(labeled)
    return tuple(labeled.classes[number] for number in class_numbers(labeled))


def embed_texts(
    encoders: Sequence[str], texts: Sequence[str], device: torch.device, cost: Cost
) -> tuple[FloatArray, ...]:
    """Return what the text towers of CLIP models make of texts: unit vectors, float32 [Q, D_e] each.

    Args:
        encoders: Names of CLIP models.
        texts: To be read.
        device: Where they are.
        cost: Gets the FLOPs.

    Raises:
        ModelError: A model has no text tower, or gives values that are not finite.
    """
    found = []
    for name in encoders:
        tower = build_teachers_text(name).to(device)

        def read(tower: torch.nn.Module = tower) -> torch.Tensor:
            parts = [texts[start : start + TEXTS] for start in range(0, len(texts), TEXTS)]
            with torch.no_grad(), precision(device):
                return torch.cat([tower(part, frozenset({"embedding"})).require("embedding") for part in parts])

        vectors, flops = counted(read)
        cost.flops += flops
        if not bool(torch.isfinite(vectors).all()):
            raise ModelError(f"{name}: gives embeddings of texts that are not finite; its weights are damaged")
        found.append(F.normalize(vectors.float(), dim=1).cpu().numpy())
    return tuple(found)
