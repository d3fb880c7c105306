"""Linear probes that see how long features are: L2-regularized, and never standardized feature by feature."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from tutelage.comparison.statistics import bootstrap_interval
from tutelage.comparison.table import Right
from tutelage.evaluation.measures import negative_log_likelihood
from tutelage.methods.probe import SMALL
from tutelage.report.intervals import Interval

SHARES = tuple(10.0 ** (power / 2) for power in range(-16, 3))
"""Penalties to choose from, as shares of the features' total variance: from hardly any to far too much."""


class Labeled(NamedTuple):
    """Features [N, D] of samples, and their class numbers, int64 [N]."""

    features: Tensor
    targets: Tensor


Split = tuple[Labeled, Labeled]
"""What to fit on, and what to choose by."""


@dataclass(frozen=True)
class Probed:
    """A linear probe whose penalty held-out labels have chosen.

    Attributes:
        penalty: The weight of half the squared norm of the map beside the mean cross entropy.
        edge: Whether that is the first or the last of the grid, beyond which a better one may lie.
        held_out: Accuracy on held-out labels, all together.
        test: Accuracy on the test set, with that penalty, fitted on all labels; ``None`` without test data.
        right: Which test items it got right.
    """

    penalty: float
    edge: Literal["weakest", "strongest"] | None
    held_out: float
    test: float | None = None
    right: Right | None = None


@dataclass(frozen=True)
class ProbeGain:
    """What weights make of a linear probe (Qiu et al., ICML 2024, figure 6a).

    Attributes:
        plain: On ψ, the teachers' features as the method reads them.
        weighted: On μψ, each feature times its learned weight.
        difference: Weighted minus plain, in test accuracy; ``None`` without test data.
        interval: 95 % of it, over test items.
        images: Test items.
    """

    plain: Probed
    weighted: Probed
    difference: float | None
    interval: Interval | None
    images: int


def penalty_grid(features: Tensor) -> tuple[float, ...]:
    """Return penalties to choose from, rising, that suit features [N, D] of any scale."""
    total = float(features.double().var(dim=0, correction=0).sum()) or 1.0
    return tuple(share * total for share in SHARES)


def fit_path(fit: Labeled, seen: Tensor, penalties: Sequence[float], *, classes: int) -> Tensor:
    r"""Fit multinomial logistic regression for each penalty, and return its logits of other samples.

    .. math:: \min_{W, b}\; \frac{1}{N} \sum_i \mathrm{CE}(W \psi_i + b, y_i) + \frac{\lambda}{2} \|W\|^2

    to convergence, in float64. A feature that is twice as long costs a quarter to use, which is how such a probe
    sees weights; standardization would undo them.

    Args:
        fit: What to fit on; every class occurs.
        seen: Features [M, D] to predict on.
        penalties: λ each, above zero, rising.
        classes: C.

    Returns:
        Logits, float64 [P, M, C].
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from threadpoolctl import threadpool_limits

    values = fit.features.double()
    mean = values.mean(0)
    centered, others = values - mean, seen.double() - mean  # the bias is free, and so is where the features begin
    if centered.shape[1] > len(centered):  # the best map lies in the span of the samples, which is smaller
        basis = torch.linalg.svd(centered, full_matrices=False).Vh.T
        centered, others = centered @ basis, others @ basis
    # One number for all features: the same problem, but at a scale that suits the solver.
    scale = math.sqrt(float(centered.square().mean())) or 1.0
    inputs, targets = (centered / scale).numpy(), fit.targets.numpy()
    factor = 2.0 if classes == 2 else 1.0  # scikit-learn penalizes the difference of two classes
    model = LogisticRegression(max_iter=1000, tol=1e-5, warm_start=True)
    found = []
    threads = 1 if inputs.size * classes < SMALL else None
    with threadpool_limits(threads), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        for penalty in reversed(penalties):  # from the strongest: each is a good start for the next
            model.set_params(C=factor * scale**2 / (penalty * len(inputs)))
            model.fit(inputs, targets)
            if len(model.classes_) != classes:
                raise ValueError(f"expected samples of {classes} classes, got {len(model.classes_)}")
            logits = torch.from_numpy(np.asarray(model.decision_function((others / scale).numpy())))
            found.append(torch.stack([-logits / 2, logits / 2], dim=1) if classes == 2 else logits)
    return torch.stack(found[::-1])


def probe(
    labeled: Labeled,
    splits: Sequence[Split],
    test: Labeled | None,
    penalties: Sequence[float],
    *,
    classes: int,
) -> Probed:
    """Choose a penalty on held-out labels, by accuracy and then by likelihood; then look at the test set, once.

    Args:
        labeled: All labels that may be used.
        splits: Parts of them to fit on and to choose by; or all of them and validation data.
        test: Test data, or ``None``.
        penalties: To choose from, rising.
        classes: How many there are.
    """
    held = torch.cat([fit_path(fit, out.features, penalties, classes=classes) for fit, out in splits], dim=1)
    targets = torch.cat([out.targets for _, out in splits])
    accuracies = (held.argmax(2) == targets).double().mean(1).tolist()
    losses = [negative_log_likelihood(logits.numpy(), targets.numpy()) for logits in held]
    best = min(range(len(penalties)), key=lambda place: (-accuracies[place], losses[place]))
    edge: Literal["weakest", "strongest"] | None = None
    if best in (0, len(penalties) - 1):
        edge = "strongest" if best else "weakest"
    chosen = Probed(penalties[best], edge, accuracies[best])
    if test is None:
        return chosen
    (logits,) = fit_path(labeled, test.features, [penalties[best]], classes=classes)
    right: Right = (logits.argmax(1) == test.targets).numpy()
    return Probed(penalties[best], edge, accuracies[best], float(right.mean()), right)


def probe_gain(
    weights: Tensor, labeled: Labeled, splits: Sequence[Split], test: Labeled | None, *, classes: int
) -> ProbeGain:
    """Probe features as they are, and times their weights, with the same penalties to choose from.

    Args:
        weights: One a feature, [D].
        labeled: As for :func:`probe`, of the features as they are; so are the others.
        splits: What to choose by.
        test: Test data, or ``None``.
        classes: How many there are.
    """

    def weigh(part: Labeled) -> Labeled:
        return Labeled(part.features * weights.to(part.features), part.targets)

    penalties = penalty_grid(labeled.features)
    plain = probe(labeled, splits, test, penalties, classes=classes)
    weighted = probe(
        weigh(labeled),
        [(weigh(fit), weigh(held)) for fit, held in splits],
        None if test is None else weigh(test),
        penalties,
        classes=classes,
    )
    if plain.right is None or weighted.right is None or plain.test is None or weighted.test is None:
        return ProbeGain(plain, weighted, None, None, 0)
    interval = bootstrap_interval(weighted.right[None], plain.right[None])
    return ProbeGain(plain, weighted, weighted.test - plain.test, interval, len(plain.right))
