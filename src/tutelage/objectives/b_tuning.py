"""B-Tuning: the student says what linear models on the teachers' features say."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from tutelage.data.batch import Batch
from tutelage.errors import DataError
from tutelage.objectives.features import FeatureObjective, full_precision
from tutelage.objectives.objective import Needs, StudentOutputs, Targets
from tutelage.objectives.regression import feature_error

ITERATIONS, CLOSE = 200, 1e-9
"""Most fixed-point iterations, and the relative change of alpha / beta that ends them."""

LEAST, MOST = 1e-12, 1e12
"""Bounds of alpha / beta, as shares of the largest squared singular value: with more features than samples the
evidence may rise all the way to an exact fit, or to none."""


@dataclass(frozen=True)
class Evidence:
    """How well linear models of the classes explain the labels, at their best prior and noise.

    Attributes:
        score: LogME: the log evidence of a sample, mean over classes; higher is better.
        means: The weights' posterior means, float64 [C, D]; zeros for a class without samples.
        alphas: Precision of the prior, [C]; without meaning for a class without samples.
        betas: Precision of the noise, likewise.
    """

    score: float
    means: Tensor
    alphas: Tensor
    betas: Tensor


def log_evidence(features: Tensor, labels: Tensor, *, classes: int | None = None) -> Evidence:
    r"""Maximize the evidence of one Bayesian linear model for each class, and score features by it (LogME).

    .. math:: \mathcal{L}(\alpha, \beta) = \frac{D}{2} \log \alpha + \frac{N}{2} \log \frac{\beta}{2 \pi}
              - \frac{\beta}{2} \|F m - y\|^2 - \frac{\alpha}{2} \|m\|^2 - \frac{1}{2} \log |A|, \quad
              A = \alpha I + \beta F^\top F, \; m = \beta A^{-1} F^\top y

    for y the indicator of a class, weights from N(0, I / alpha) and noise from N(0, 1 / beta). From a singular value
    decomposition, both are iterated to the fixed point

    .. math:: \gamma = \sum_i \frac{\beta \sigma_i^2}{\alpha + \beta \sigma_i^2}, \quad
              \alpha = \frac{\gamma}{\|m\|^2}, \quad \beta = \frac{N - \gamma}{\|F m - y\|^2}

    (You et al., ICML 2021, and JMLR 23, 2022). All in float64. All D directions count, also where they are more than
    samples. Classes without samples do not count in the score.

    Args:
        features: F, [N, D].
        labels: Class numbers, [N].
        classes: C; one more than the largest label if not given.

    Raises:
        ValueError: Shapes do not belong together, there is no sample, labels are not class numbers below C, or
            features are not finite, or all zero.
    """
    if features.ndim != 2 or labels.shape != features.shape[:1] or not len(labels):
        raise ValueError(
            f"features must be [N, D] and labels [N]; got {tuple(features.shape)} and {tuple(labels.shape)}"
        )
    classes = int(labels.max()) + 1 if classes is None else classes
    if labels.is_floating_point() or int(labels.min()) < 0 or int(labels.max()) >= classes:
        raise ValueError(
            f"labels must be class numbers from 0 to {classes - 1}; got {labels.dtype}, "
            f"{labels.min().item()} to {labels.max().item()}"
        )
    values = features.double()
    if not bool(values.isfinite().all()) or not bool(values.any()):
        raise ValueError("features must be finite, and not all zero")
    count, width = values.shape
    wanted = torch.nn.functional.one_hot(labels.long(), classes).double()
    occur = wanted.any(dim=0)
    left, singular, right = torch.linalg.svd(values, full_matrices=False)
    squares = singular.square()[:, None]  # [k, 1]
    parts = left.T @ wanted  # [k, C], y in the directions that the features span
    rest = (wanted.square().sum(0) - parts.square().sum(0)).clamp(min=0)  # what they cannot explain
    largest, tiny = float(squares.max()), torch.finfo(torch.float64).tiny

    def updated(ratio: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        gamma = (squares / (squares + ratio)).sum(0)
        unexplained = (ratio / (squares + ratio)).sum(0) + (count - len(squares))  # N - gamma, without cancellation
        norm = (squares * parts.square() / (squares + ratio).square()).sum(0)
        error = (parts * ratio / (squares + ratio)).square().sum(0) + rest
        return gamma / norm.clamp(min=tiny), unexplained / error.clamp(min=tiny), norm, error

    ratio = torch.ones(classes, dtype=torch.float64, device=values.device)
    for _ in range(ITERATIONS):
        alphas, betas, _, _ = updated(ratio)
        following = torch.where(occur, (alphas / betas).clamp(LEAST * largest, MOST * largest), ratio)
        done = bool(((following - ratio).abs() <= CLOSE * ratio).all())
        ratio = following
        if done:
            break
    _, betas, norm, error = updated(ratio)
    alphas = ratio * betas
    log_determinant = (alphas + betas * squares).log().sum(0) + (width - len(squares)) * alphas.log()
    evidence = (
        width / 2 * alphas.log()
        + count / 2 * (betas / (2 * math.pi)).log()
        - betas / 2 * error
        - alphas / 2 * norm
        - log_determinant / 2
    ) / count
    means = ((singular[:, None] * parts) / (squares + ratio)).T @ right
    return Evidence(float(evidence[occur].mean()), means, alphas, betas)


class BTuning(FeatureObjective):
    """Say what the teachers' linear models say, each model counting by its evidence.

    One linear model is fitted to each teacher's features, and one to the student's at its start (see
    :func:`log_evidence`). The loss is the mean squared error, over samples and classes, of the student's features
    under its own model against the average of the teachers' predictions, weighted by softmax(LogME / T); B-Tuning
    (You et al., JMLR 23, 2022) as in the code of Qiu et al. (ICML 2024).

    Args:
        student_width: dφ.
        widths: Of each teacher's pooled features.
        classes: Of the labels.
        standardize: As for every :class:`FeatureObjective`.
        temperature: T.

    Raises:
        ValueError: The temperature is not positive.
    """

    fits = True
    fits_student = True

    scores: Tensor
    student_map: Tensor
    teacher_map: Tensor

    def __init__(
        self,
        student_width: int,
        widths: Mapping[str, int],
        *,
        classes: int,
        standardize: bool = False,
        temperature: float = 0.1,
    ) -> None:
        super().__init__(student_width, widths, standardize=standardize)
        if temperature <= 0:
            raise ValueError(f"temperature must be positive, got {temperature}")
        self.needs = Needs(self.needs.student, self.needs.teachers, labels=True)
        self._classes, self._temperature = classes, temperature
        self.register_buffer("scores", torch.zeros(len(widths)))
        self.register_buffer("student_map", torch.zeros(classes, student_width))
        self.register_buffer("teacher_map", torch.zeros(classes, self.width))

    @property
    def teacher_shares(self) -> Tensor:
        """What each teacher counts, in the order of ``widths``, [T]; they sum to 1."""
        return (self.scores / self._temperature).softmax(0)

    def fit(self, features: dict[str, Tensor], labels: Tensor | None, student: Tensor | None) -> None:
        """Fit all linear models.

        Raises:
            DataError: The samples have no labels.
        """
        if labels is None or student is None:
            raise DataError("b-tuning fits linear models to labels; give it labeled training data")
        found = [log_evidence(rows, labels, classes=self._classes) for rows in features.values()]
        self.scores.copy_(torch.tensor([each.score for each in found]))
        shares = self.teacher_shares.cpu()
        self.teacher_map.copy_(torch.cat([each.means * share for each, share in zip(found, shares, strict=True)], 1))
        self.student_map.copy_(log_evidence(student, labels, classes=self._classes).means)

    def forward(self, batch: Batch, student: StudentOutputs, targets: Targets) -> dict[str, Tensor]:
        """Return ``b-tuning``."""
        features = self.student_features(student)
        with full_precision(features):
            said = features @ self.student_map.T
            wanted = self.teacher_features(targets) @ self.teacher_map.T
            return {"b-tuning": feature_error(said, wanted)}
