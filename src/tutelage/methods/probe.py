"""The linear probe: a linear head on an encoder's cached features, fitted to its optimum."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from tutelage.data.batch import DEFAULT_GROUP
from tutelage.data.samples import Samples
from tutelage.ledger import Cost, counted
from tutelage.methods.job import Job
from tutelage.models.model import Model

BATCH = 64

MOST_ROWS = 1 << 20
"""Most rows that a probe is fitted on, unless there are more images."""

SMALL = 10**9
"""Multiply-adds of one pass over a probe's data, below which one thread is faster than several."""


@dataclass(frozen=True)
class CachedFeatures:
    """Pooled features of labeled samples, in one evaluation view and some augmented ones.

    Attributes:
        rows: Row of each sample by its id.
        values: float32 [V, N, D]; the first of the V views is the evaluation view.
        targets: Class numbers, int64 [N].
    """

    rows: dict[str, int]
    values: Tensor
    targets: Tensor

    def of(self, samples: Samples) -> CachedFeatures:
        """Return the features of some of the samples."""
        rows = torch.tensor([self.rows[name] for name in samples.ids])
        ids = {name: row for row, name in enumerate(samples.ids)}
        return CachedFeatures(ids, self.values[:, rows], self.targets[rows])


def cache_features(job: Job, model: Model, samples: Samples, views: int, cost: Cost) -> CachedFeatures:
    """Run the encoder once over each sample's evaluation view and its :func:`augmented_views`."""
    found = [job.predict(model, samples, output="features", cost=cost)]
    views = 0 if job.modality == "text" else views
    loader = job.loader(samples, BATCH, mixed=False)  # a probe takes one class a row
    model.eval()
    for number in range(augmented_views(views, len(samples))):
        parts = []
        for batch in loader.view(number, np.arange(len(samples))):
            moved = batch.to(job.world.device).inputs[DEFAULT_GROUP]
            with torch.no_grad():
                outputs, flops = counted(lambda moved=moved: model(moved, {"features"}))  # type: ignore[misc]
            parts.append(outputs.require("features").float().cpu())
            cost.add(Cost(images=len(batch), flops=flops))
        found.append(torch.cat(parts))
    rows_by_id = {name: row for row, name in enumerate(samples.ids)}
    return CachedFeatures(rows_by_id, torch.stack(found), torch.from_numpy(samples.labels()))


def augmented_views(asked: int, images: int) -> int:
    """Return how many augmented views of each image a probe is fitted on: fewer than asked for where images are many.

    A million images need no other views of themselves, and their features would fill a machine's memory.
    """
    return min(asked, max(0, MOST_ROWS // images - 1))


def fit_probe(features: CachedFeatures, classes: int, *, penalty: float) -> tuple[Tensor, Tensor]:
    """Fit multinomial logistic regression on standardized features, with an L2 penalty.

    Minimizes the mean cross entropy over all views plus ``penalty`` / 2 times the squared norm of the weights (of
    the standardized features), to convergence; the standardization is then folded into weight and bias.

    Returns:
        Weight [C, D] and bias [C] on the raw features.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from threadpoolctl import threadpool_limits

    views, count, width = features.values.shape
    values = features.values.reshape(views * count, width).numpy().astype(np.float64)
    targets = features.targets.repeat(views).numpy()
    mean, std = values.mean(0), values.std(0) + 1e-6
    values -= mean  # in place: of a million images a copy takes many gigabytes
    values /= std
    # For two classes scikit-learn penalizes their difference w: half of it a class has a squared norm of |w|² / 2.
    factor = 2.0 if len(np.unique(targets)) == 2 else 1.0
    fitted = LogisticRegression(C=factor / (penalty * len(values)), max_iter=500, tol=1e-4)
    # Threads that wait for each other at every one of hundreds of short products make a small fit ten times slower.
    threads = 1 if values.size * classes < SMALL else None
    with threadpool_limits(threads), warnings.catch_warnings():
        # After so many iterations it predicts what it will, however flat the loss still is.
        warnings.simplefilter("ignore", ConvergenceWarning)
        fitted.fit(values, targets)
    weight: npt.NDArray[np.float64] = np.zeros((classes, width))
    bias: npt.NDArray[np.float64] = np.full(classes, -30.0)  # a class without a sample is never predicted
    coefficients, intercepts = fitted.coef_, fitted.intercept_
    if len(fitted.classes_) == 2:  # scikit-learn keeps one row for two classes
        coefficients = np.concatenate([-coefficients, coefficients]) / 2
        intercepts = np.concatenate([-intercepts, intercepts]) / 2
    weight[fitted.classes_] = coefficients / std
    bias[fitted.classes_] = intercepts - (coefficients / std) @ mean
    return torch.from_numpy(weight).float(), torch.from_numpy(bias).float()
