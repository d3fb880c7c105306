"""Knowledge distillation on features: the student must be able to say what the teachers' features are."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

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


def feature_error(predicted: Tensor, features: Tensor, *, variant: Variant = "code") -> Tensor:
    r"""Squared error of predicted features.

    .. math:: \frac{1}{B d} \sum_i \|p_i - f_i\|^2 \;\text{ (code)}, \quad
              \frac{1}{B} \sum_i \|(p_i - \bar p) - (f_i - \bar f)\|^2 \;\text{ (paper)}

    The paper's is equation 7 of Qiu et al. (ICML 2024), with features centered over the batch as its section 3.1
    assumes; their released code takes the mean over all, uncentered, and its weights were chosen for that.

    Args:
        predicted: [B, d].
        features: [B, d].
        variant: Which of the two.

    Returns:
        A scalar.

    Raises:
        ValueError: Shapes differ, or the variant is unknown.
    """
    check_rows(predicted, features, width=True)
    check_variant(variant)
    with full_precision(predicted):
        predicted, features = widened(predicted), widened(features)
        if variant == "code":
            return (predicted - features).square().mean()
        return centered(predicted - features).square().sum(1).mean()


class FeatureRegression(FeatureObjective):
    """Predict the teachers' features by a linear map of the student's (see :func:`feature_error`).

    Args:
        student_width: dφ.
        widths: Of each teacher's pooled features.
        standardize: As for every :class:`FeatureObjective`.
        variant: ``code``: the mean squared error over all features; the map has a bias. ``paper``: summed over
            features, both sides centered, which leaves no use for a bias.
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
        self.projector = nn.Linear(student_width, self.width, bias=variant == "code")
        self._variant: Variant = variant

    def forward(self, batch: Batch, student: StudentOutputs, targets: Targets) -> dict[str, Tensor]:
        """Return ``kd``."""
        predicted = self.projector(self.student_features(student))
        return {"kd": feature_error(predicted, self.teacher_features(targets), variant=self._variant)}
