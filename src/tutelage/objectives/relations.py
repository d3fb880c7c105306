"""Relational knowledge distillation: distances and angles between samples are those of the teachers."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

from tutelage.data.batch import Batch
from tutelage.objectives.features import (
    FeatureObjective,
    Variant,
    centered,
    check_rows,
    check_variant,
    full_precision,
    widened,
)
from tutelage.objectives.objective import StudentOutputs, Targets

SAME = 1e-14
"""Squared distance, as a share of the mean squared norm, up to which two samples are one: float32 cannot tell."""


def relational_distance(student_features: Tensor, teacher_features: Tensor, *, variant: Variant = "code") -> Tensor:
    r"""Differences of relations between the samples of a batch.

    .. math:: \frac{1}{B^2} \sum_{i,j} h(d_{ij}, d'_{ij}) + \frac{2}{B^3} \sum_{i,j,k} h(\cos_{ijk}, \cos'_{ijk})

    with h the smooth L1 (Huber) loss at 1, d the distance of two samples over the mean of the positive ones, and
    cos_ijk the cosine of the angle at j between i and k, 0 where that is no angle. From relational knowledge
    distillation (Park et al., CVPR 2019), whose two losses Qiu et al. (ICML 2024, appendix A) weigh 1 : 2; their
    code halves the sum. It takes memory of O(B³ + B·(dφ + dψ)).

    Args:
        student_features: [B, dφ]; B is two or more.
        teacher_features: [B, dψ].
        variant: ``code``: half of the sum. ``paper``: the sum.

    Returns:
        A scalar.

    Raises:
        ValueError: Shapes do not belong together, there is one sample, or the variant is unknown.
    """
    check_rows(student_features, teacher_features, least=2)
    check_variant(variant)
    with full_precision(student_features):
        distances, cosines = _relations(widened(student_features))
        wanted_distances, wanted_cosines = _relations(widened(teacher_features))
        loss = F.smooth_l1_loss(distances, wanted_distances) + 2 * F.smooth_l1_loss(cosines, wanted_cosines)
        return loss / 2 if variant == "code" else loss


def _relations(features: Tensor) -> tuple[Tensor, Tensor]:
    """Return distances over their mean, [B, B], and cosines at the middle sample, [B, B, B]."""
    # From products, whose rounding float64 hides: all differences of rows would take B²·d numbers.
    raw = features.double()
    rows = centered(raw)
    products = rows @ rows.T
    norms = products.diagonal()
    squares = norms[:, None] + norms - 2 * products
    apart = squares > SAME * raw.detach().square().sum(1).mean()
    # The root is taken where it has a finite slope alone.
    safe = torch.where(apart, squares, 1.0).sqrt()
    distances = torch.where(apart, safe, 0.0)
    mean = distances.sum() / apart.sum().clamp(min=1)
    scaled = distances / torch.where(mean > 0, mean, 1.0)
    inverse = torch.where(apart, 1 / safe, 0.0).to(features.dtype)
    squares = torch.where(apart, squares, 0.0).to(features.dtype)
    # The law of cosines: axes are i, j, k, and the angle is at j.
    sides = squares[:, :, None] + squares[None] - squares[:, None]
    return scaled.to(features.dtype), sides * (inverse[:, :, None] * inverse[None] / 2)


class Relations(FeatureObjective):
    """Match the relations between samples (see :func:`relational_distance`); nothing else is learned.

    Args:
        student_width: dφ.
        widths: Of each teacher's pooled features.
        standardize: As for every :class:`FeatureObjective`.
        variant: ``code``: half of the weighted sum. ``paper``: the sum.
    """

    def __init__(
        self,
        student_width: int,
        widths: Mapping[str, int],
        *,
        standardize: bool = False,
        variant: Variant = "code",
    ) -> None:
        super().__init__(student_width, widths, standardize=standardize)
        self._variant: Variant = variant

    def forward(self, batch: Batch, student: StudentOutputs, targets: Targets) -> dict[str, Tensor]:
        """Return ``rkd``."""
        features, wanted = self.student_features(student), self.teacher_features(targets)
        return {"rkd": relational_distance(features, wanted, variant=self._variant)}
