"""Contrast: each sample's two embeddings against those of other samples, of the batch or of memory banks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

Draws = Literal["shared", "separate"]
"""Whether the anchors of a batch share one draw of negatives, or each has its own."""

NEGATIVES = 16_384
"""Of each anchor, in the released code of CRD."""


def info_nce(student: Tensor, teacher: Tensor, *, temperature: float | Tensor = 0.07) -> Tensor:
    r"""Contrast each sample's two embeddings against the other samples of the batch (InfoNCE, arXiv:1807.03748).

    .. math:: -\frac{1}{2B} \sum_i \left[ \log \frac{e^{z_{ii}}}{\sum_j e^{z_{ij}}} +
              \log \frac{e^{z_{ii}}}{\sum_j e^{z_{ji}}} \right], \quad
              z_{ij} = \frac{s_i \cdot t_j}{T \|s_i\| \|t_j\|}

    The light variant of contrast against memory banks (see :func:`nce_loss`).

    Args:
        student: Embeddings, [B, D]; B is two or more.
        teacher: Embeddings of the same samples, [B, D].
        temperature: T; a scalar tensor, too.

    Returns:
        A scalar.

    Raises:
        ValueError: Shapes differ, there is no other sample, or the temperature is not positive (one in a tensor is
            not looked at).
    """
    if student.ndim != 2 or student.shape != teacher.shape:
        raise ValueError(
            f"embeddings must share a shape [B, D]; got {tuple(student.shape)} and {tuple(teacher.shape)}"
        )
    if len(student) < 2:
        raise ValueError("a batch of one has nothing to contrast with; use a batch size of two or more")
    if not isinstance(temperature, Tensor) and temperature <= 0:
        raise ValueError(f"temperature must be positive, got {temperature}")
    scores = F.normalize(student, dim=1) @ F.normalize(teacher, dim=1).T / temperature
    same = torch.arange(len(scores), device=scores.device)
    return (F.cross_entropy(scores, same) + F.cross_entropy(scores.T, same)) / 2


def nce_loss(
    positive: Tensor,
    negative: Tensor,
    *,
    noise: float,
    log_z: Tensor | float = 0.0,
    counts: Tensor | None = None,
) -> Tensor:
    r"""Tell an anchor's own sample from noise, the samples that were drawn for it (noise-contrastive estimation).

    .. math:: -\frac{1}{B} \sum_i \Big[ \log h(s_i) + \sum_k n_{ik} \log \big(1 - h(s_{ik})\big) \Big], \quad
              h(s) = \frac{e^s / Z}{e^s / Z + m P_n}

    The critic's loss of contrastive representation distillation (CRD, arXiv:1910.10699), one of its two sides. The
    paper has Z = 1, its released code the Z of :func:`log_normalizer`; that code also adds 1e-7 to the denominator,
    which is left out here.

    Args:
        positive: s_i, cosines over the temperature of the anchors and their own samples, [B].
        negative: s_ik, those of the anchors and K candidates, [B, K].
        noise: m P_n: how many negatives an anchor has, times the density that they are drawn with (1 / N where they
            are drawn uniformly from N samples).
        log_z: log Z.
        counts: n_ik, how often each anchor has each candidate among its negatives, [B, K]; once if not given.

    Returns:
        A scalar.

    Raises:
        ValueError: Shapes do not belong together, or there is no noise.
    """
    _check_scores(positive, negative, counts)
    if noise <= 0:
        raise ValueError(f"noise must be positive, got {noise}; there must be negatives")
    threshold = log_z + math.log(noise)
    found = F.logsigmoid(positive - threshold)
    refused = F.logsigmoid(threshold - negative)
    return -(found + (refused if counts is None else refused * counts).sum(1)).mean()


def log_normalizer(positive: Tensor, negative: Tensor, *, size: int, counts: Tensor | None = None) -> Tensor:
    r"""Estimate what scores must be divided by to be densities, from a batch of them.

    .. math:: \log Z = \log \frac{N}{B (1 + m)} \sum_i \Big[ e^{s_i} + \sum_k n_{ik} e^{s_{ik}} \Big]

    As in the released code of CRD, which takes it from the first batch and keeps it.

    Args:
        positive: As for :func:`nce_loss`.
        negative: Likewise.
        size: N, the samples that negatives are drawn from.
        counts: As for :func:`nce_loss`.

    Returns:
        A scalar.

    Raises:
        ValueError: Shapes do not belong together.
    """
    _check_scores(positive, negative, counts)
    number = torch.tensor(negative.numel()) if counts is None else counts.sum(dtype=torch.float64)
    if counts is not None:
        negative = negative + counts.to(negative.dtype).log()  # what was not drawn becomes -inf
    total = torch.cat([positive, negative.flatten()]).logsumexp(0)
    return total + math.log(size) - (number + len(positive)).log().to(total)


def _check_scores(positive: Tensor, negative: Tensor, counts: Tensor | None) -> None:
    if positive.ndim != 1 or negative.ndim != 2 or len(positive) != len(negative):
        raise ValueError(
            f"scores must be [B] and [B, K] with the same B; got {tuple(positive.shape)} and {tuple(negative.shape)}"
        )
    if counts is not None and counts.shape != negative.shape:
        raise ValueError(f"counts must be {list(negative.shape)}, as scores; got {list(counts.shape)}")


def blended_rows(rows: Tensor, embeddings: Tensor, *, momentum: float) -> Tensor:
    r"""Move rows of a memory bank towards the newest embeddings of their samples.

    .. math:: \frac{\mu r_i + (1 - \mu) v_i}{\|\mu r_i + (1 - \mu) v_i\|}

    A row of zeros, one that has seen no embedding yet, becomes the embedding.

    Args:
        rows: r, of length 1 or 0, [B, D].
        embeddings: v, of length 1, [B, D].
        momentum: μ, in 0..1, 1 excluded.

    Raises:
        ValueError: Shapes differ, or the momentum is outside.
    """
    if rows.ndim != 2 or rows.shape != embeddings.shape:
        raise ValueError(f"rows and embeddings must share a shape [B, D]; got {rows.shape} and {embeddings.shape}")
    check_momentum(momentum)
    return F.normalize(momentum * rows + (1 - momentum) * embeddings, dim=1)


def check_momentum(momentum: float) -> None:
    """Raise ``ValueError`` if rows would never change, or would swing past the embeddings."""
    if not 0 <= momentum < 1:
        raise ValueError(f"momentum must be in 0..1, below 1, got {momentum}")


@dataclass(frozen=True)
class Draw:
    """The negatives of a batch.

    Attributes:
        rows: Candidates: rows of a bank, int64 [K], each once.
        counts: How often each anchor has each candidate among its negatives, [B, K]; the same sum for every anchor.
    """

    rows: Tensor
    counts: Tensor


def draw_negatives(own: Tensor, count: int, size: int, *, key: Sequence[int], draws: Draws = "shared") -> Draw:
    """Draw negatives for a batch, uniformly and as a function of nothing but the key.

    ``shared``: each anchor has ``count`` different samples other than its own, any set of them being as likely as any
    other. One draw serves all anchors: ``count + 1`` samples, of which each leaves its own out, or else the last.
    ``separate``: each anchor draws for itself, with replacement, and its own sample may be among them, as in the
    released code of CRD. The expectation of the loss is the same but for that; what is read of a bank is not: up to
    B times as much.

    Args:
        own: Rows of the anchors' own samples, int64 [B].
        count: Negatives of each anchor, 1 to ``size - 1``.
        size: Rows of the bank.
        key: Not negative; decides the draw.
        draws: ``shared`` or ``separate``.

    Raises:
        ValueError: So many negatives cannot be drawn, or the kind of draw is unknown.
    """
    if size < 2:
        raise ValueError("a single sample has nothing to contrast with; two or more are needed")
    if not 1 <= count < size:
        raise ValueError(
            f"negatives must be 1 to {size - 1}, those of {size} samples other than one's own; got {count}"
        )
    if draws not in get_args(Draws):
        raise ValueError(f"draws must be 'shared' or 'separate', got {draws!r}")
    generator = np.random.default_rng(key)
    if draws == "separate":
        drawn = generator.integers(size, size=(len(own), count))
        found, inverse = np.unique(drawn, return_inverse=True)
        places = torch.from_numpy(inverse.reshape(drawn.shape)).to(own.device)
        counts = torch.zeros(len(own), len(found), device=own.device)
        counts.scatter_add_(1, places, torch.ones_like(places, dtype=counts.dtype))
        return Draw(torch.from_numpy(found).to(own.device), counts)
    every = count + 1 == size
    shared = np.arange(size) if every else generator.choice(size, count + 1, replace=False)
    rows = torch.from_numpy(shared.astype(np.int64)).to(own.device)
    left_out = own[:, None] == rows
    left_out[:, -1] |= ~left_out.any(dim=1)
    return Draw(rows, ~left_out)


def last_places(rows: Tensor) -> Tensor:
    """Return for each of some rows the last place at which it stands among them, int64 [B]."""
    same = rows[:, None] == rows
    return (same * torch.arange(len(rows), device=rows.device)).amax(dim=1)
