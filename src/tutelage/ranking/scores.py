"""How well features tell classes apart: linear probes and nearest neighbors on held-out rows, and LogME on all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from tutelage.data.samples import IntArray
from tutelage.methods.probe import CachedFeatures, fit_probe

NEIGHBORS = 5
"""Most neighbors that vote."""

CHUNK = 1024
"""Held-out rows whose similarities to all others are in memory together."""

Right = npt.NDArray[np.bool_]
"""Which held-out rows were classified correctly, [H], in the order of the splits."""

Split = tuple[IntArray, IntArray]
"""Rows to fit on, and rows to judge by."""


@dataclass(frozen=True)
class Scores:
    """What one draw of labels says about features.

    Attributes:
        probe: Which held-out rows a linear probe gets right.
        neighbors: Which ones the nearest neighbors get right.
        evidence: LogME, on all rows of the draw.
    """

    probe: Right
    neighbors: Right
    evidence: float


def score(
    features: Tensor, targets: Tensor, rows: IntArray, splits: Sequence[Split], *, penalties: Sequence[float]
) -> Scores:
    """Judge features by one draw of labels.

    Args:
        features: Pooled, float [N, D].
        targets: Class numbers, int64 [N].
        rows: Of the draw.
        splits: What is fitted and what is held out; rows of ``features``.
        penalties: That the probe chooses from.

    Raises:
        ValueError: Features are not finite, or all zero.
    """
    from tutelage.objectives import log_evidence

    return Scores(
        probe=probe_right(features, targets, splits, penalties=penalties),
        neighbors=neighbors_right(features, targets, splits),
        evidence=log_evidence(features[rows], targets[rows]).score,
    )


def probe_right(features: Tensor, targets: Tensor, splits: Sequence[Split], *, penalties: Sequence[float]) -> Right:
    """Return which held-out rows a linear probe classifies correctly.

    No row judges the penalty by which it is judged: a fold gets the one whose probes predict the rows of all *other*
    folds best (most correct ones; the likelihood breaks ties). Where one part is held out once, its two halves do
    this for each other. It takes as many fits as a best score over all penalties would, and that one flatters.

    Args:
        features: [N, D].
        targets: Class numbers [N].
        splits: Rows to fit on, and rows to judge by.
        penalties: L2, as :func:`tutelage.methods.probe.fit_probe` has them.
    """
    classes = int(targets.max()) + 1
    right, surprise = [], []
    for fit, held in splits:
        cached = CachedFeatures({}, features[None, fit], targets[fit])
        wanted = targets[held]
        fits = [fit_probe(cached, classes, penalty=penalty) for penalty in penalties]
        logits = torch.stack([features[held] @ weight.T + bias for weight, bias in fits]).double()  # [P, H, C]
        right.append((logits.argmax(2) == wanted).numpy())
        surprise.append(np.stack([F.cross_entropy(each, wanted, reduction="none").numpy() for each in logits]))
    every, costs = np.concatenate(right, axis=1), np.concatenate(surprise, axis=1)
    blocks = judged_together(splits, targets)
    found: Right = np.zeros(len(blocks), dtype=np.bool_)
    for block in np.unique(blocks):
        judged = blocks == block
        others = ~judged if not judged.all() else judged  # a single held-out row has no others
        best = np.lexsort((costs[:, others].mean(1), -every[:, others].mean(1)))[0]
        found[judged] = every[best, judged]
    return found


def neighbors_right(features: Tensor, targets: Tensor, splits: Sequence[Split]) -> Right:
    """Return which held-out rows their nearest neighbors by cosine classify correctly.

    The :func:`neighbor_count` nearest rows have a vote each; of classes with as many votes, the one whose voters are
    more similar in sum is taken.

    Args:
        features: [N, D].
        targets: Class numbers [N].
        splits: Rows to look among, and rows to judge by.
    """
    classes = int(targets.max()) + 1
    units = F.normalize(features.double(), dim=1)
    found = []
    for fit, held in splits:
        count = neighbor_count(targets[fit])
        for start in range(0, len(held), CHUNK):
            part = held[start : start + CHUNK]
            similar, places = (units[part] @ units[fit].T).topk(count, dim=1)
            voters = F.one_hot(targets[fit][places], classes).double()  # [h, k, C]
            # Similarities of all voters sum to less than a vote.
            votes = voters.sum(1) + (voters * similar[:, :, None]).sum(1) / (4 * count)
            found.append((votes.argmax(1) == targets[part]).numpy())
    right: Right = np.concatenate(found)
    return right


def neighbor_count(targets: Tensor) -> int:
    """Return how many neighbors vote: as many as a class has labels on average, at most ``NEIGHBORS``."""
    return max(1, min(NEIGHBORS, len(targets) // len(np.unique(targets))))


def side_by_side(parts: Sequence[Tensor]) -> Tensor:
    """Return features of several encoders side by side, each scaled so that its rows' mean norm is 1.

    Args:
        parts: [N, D] each.
    """
    if len(parts) == 1:
        return parts[0]
    norms = [part.norm(dim=1).mean().clamp(min=torch.finfo(part.dtype).tiny) for part in parts]
    return torch.cat([part / norm for part, norm in zip(parts, norms, strict=True)], dim=1)


def judged_together(splits: Sequence[Split], targets: Tensor) -> IntArray:
    """Return which held-out rows are judged together: those of a fold, or of a half with as many of each class."""
    if len(splits) > 1:
        return np.concatenate([np.full(len(held), number) for number, (_, held) in enumerate(splits)])
    wanted = targets[splits[0][1]].numpy()
    halves = np.empty(len(wanted), dtype=np.int64)
    halves[np.argsort(wanted, kind="stable")] = np.arange(len(wanted)) % 2
    return halves
