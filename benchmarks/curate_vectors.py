"""Made-up embeddings for `curate.py`, the same ones each time, in half precision as stores hold them.

``like CLIP``: all have a direction in common, so that any two images have a cosine of about 0.5; around it lie 2,000
clusters of unequal size, whose images have one of about 0.75; spread falls with the square root of a direction's
number, which leaves some 30 directions that matter, and these are not the axes. ``isotropic``: no structure at all.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

WIDTH = 768
CLUSTERS = 2000
SEED = 0
PART = 16_384
"""Vectors that are made at a time, from a seed of their own."""

COPIES = 0.05
"""How many of the images with planted duplicates are copies of others."""

COPY = (0.985, 1.0)
"""Cosines of copies with what they are copies of: on both sides of the threshold."""

Kind = Literal["like CLIP", "isotropic"]
Half = npt.NDArray[np.float16]


def vectors(kind: Kind, part: int, count: int = PART) -> Half:
    """Return some unit vectors, float16 [count, 768]; each part is another sample of the same distribution."""
    return _half(_sampled(kind, _generator(part), count))


def parts(kind: Kind, count: int) -> Iterator[Half]:
    """Yield so many unit vectors, in parts."""
    for part, start in enumerate(range(0, count, PART)):
        yield vectors(kind, part, min(PART, count - start))


def with_copies(kind: Kind, count: int) -> Half:
    """Return unit vectors some of which are copies of others, as alike as :data:`COPY` says, float16 [count, 768]."""
    made = np.concatenate(list(parts(kind, count)))
    rng = np.random.default_rng(SEED)
    rows = rng.permutation(count)[: round(COPIES * count)]
    # An image may be copied more than once, and copies as well.
    originals = torch.from_numpy(made[rng.integers(0, count, len(rows))]).float()
    cosine = torch.from_numpy(rng.uniform(*COPY, len(rows))).float()[:, None]
    noise = torch.randn(originals.shape, generator=_generator(count))
    noise -= (noise * originals).sum(1, keepdim=True) * originals
    made[rows] = _half(cosine * originals + (1 - cosine**2).sqrt() * F.normalize(noise, dim=1))
    return made


def _sampled(kind: Kind, generator: torch.Generator, count: int) -> Tensor:
    noise = torch.randn(count, WIDTH, generator=generator)
    if kind == "isotropic":
        return noise
    mean, centers, spread, popularity = _structure()
    cluster = torch.multinomial(popularity, count, replacement=True, generator=generator)
    return mean + math.sqrt(0.5) * (centers[cluster] + noise @ spread)


@functools.cache
def _structure() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the common direction, clusters' centers, what makes noise of the right spread, clusters' sizes."""
    generator = _generator(-1)
    scale = torch.arange(1, WIDTH + 1).rsqrt()
    rotation = torch.linalg.qr(torch.randn(WIDTH, WIDTH, generator=generator))[0]
    spread = (scale / scale.norm())[:, None] * rotation
    mean = F.normalize(torch.randn(WIDTH, generator=generator), dim=0)
    centers = torch.randn(CLUSTERS, WIDTH, generator=generator) @ spread
    return mean, centers, spread, 1.0 / torch.arange(10, CLUSTERS + 10)


def _generator(part: int) -> torch.Generator:
    return torch.Generator().manual_seed(int(np.random.SeedSequence([SEED, part + 1]).generate_state(1)[0]))


def _half(values: Tensor) -> Half:
    made: npt.NDArray[Any] = F.normalize(values, dim=1).half().numpy()
    return made
