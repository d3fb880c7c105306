"""Adaptive Feature Transfer: the student may use what the teachers' features say, and little else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor, distributed, nn

from tutelage.data.batch import Batch
from tutelage.objectives.features import (
    EPSILON,
    FeatureObjective,
    Variant,
    centered,
    full_precision,
)
from tutelage.objectives.kernels import kernel_distance
from tutelage.objectives.objective import StudentOutputs, Targets
from tutelage.objectives.regression import feature_error

BETAS = (0.9, 0.999)
"""Decay of Adam's moments in inner steps."""


class AdaptiveFeatures(FeatureObjective):
    """Keep the student's kernel near that of the teachers' features, whose weights are learned along with it.

    See :func:`kernel_distance`. The learned weights have an optimizer group of their own.

    Args:
        student_width: dφ, as for every :class:`FeatureObjective`.
        widths: Of each teacher's pooled features.
        standardize: As for every :class:`FeatureObjective`.
        kernel: ``linear``; ``rbf``; or ``none``, which compares features instead of kernels: the squared error of a
            learned linear map of the teachers' features to the student's, both centered.
        weights: What is learned of the teachers' features: ``diagonal``, a weight sigmoid(s) each, from s = 0;
            ``identity``, nothing; ``dense``, a matrix, from the identity, without a sigmoid (as in the authors'
            code). With ``kernel="none"`` the map is learned in their place, and ``identity`` makes no sense.
        inner_steps: How many Adam updates of the weights are made on each batch before the student's, with its
            features held fixed, at a constant rate; the student's own update then leaves the weights alone. 0 updates
            both at once.
        learning_rate: Of the weights.
        variant: Of ``kernel="none"`` alone: ``code`` takes the mean over all, ``paper`` sums over the student's
            features (equation 6).

    Raises:
        ValueError: An option is unknown, or does not go with another.
    """

    weights: Tensor
    first_moment: Tensor
    second_moment: Tensor
    updates: Tensor

    def __init__(
        self,
        student_width: int | Mapping[str, int],
        widths: Mapping[str, int],
        *,
        standardize: bool = False,
        kernel: Literal["linear", "rbf", "none"] = "linear",
        weights: Literal["diagonal", "identity", "dense"] = "diagonal",
        inner_steps: int = 0,
        learning_rate: float = 1e-2,
        variant: Variant = "code",
    ) -> None:
        super().__init__(student_width, widths, standardize=standardize)
        if kernel not in ("linear", "rbf", "none"):
            raise ValueError(f"kernel must be 'linear', 'rbf' or 'none', got {kernel!r}")
        if weights not in ("diagonal", "identity", "dense"):
            raise ValueError(f"weights must be 'diagonal', 'identity' or 'dense', got {weights!r}")
        if weights == "identity" and kernel == "none":
            raise ValueError("without a kernel, a map to the student's features must be learned; drop weights")
        if inner_steps and weights == "identity":
            raise ValueError("with weights 'identity' there is nothing to update in inner steps; set them to 0")
        self._kernel, self._weights, self._variant = kernel, weights, variant
        self._inner_steps, self._learning_rate = inner_steps, learning_rate
        start = self._start()
        if start is None:
            return
        if not inner_steps:
            self.weights = nn.Parameter(start)
            return
        self.register_buffer("weights", start)
        self.register_buffer("first_moment", torch.zeros_like(start))
        self.register_buffer("second_moment", torch.zeros_like(start))
        self.register_buffer("updates", torch.zeros((), dtype=torch.int64))

    @property
    def feature_weights(self) -> Tensor | None:
        """The weight sigmoid(s) of each feature of the teachers, [dψ], or ``None`` where there is no such thing."""
        if self._kernel == "none" or self._weights != "diagonal":
            return None
        return self.weights.detach().sigmoid()

    def param_groups(self, learning_rate: float) -> list[dict[str, Any]]:
        """Return the weights' group, with its own learning rate."""
        return super().param_groups(self._learning_rate)

    def inner_step(self, batch: Batch, student: StudentOutputs, targets: Targets) -> None:
        """Update the weights on the batch, as often as was asked for."""
        if not self._inner_steps:
            return
        features, wanted = self.student_features(student), self.teacher_features(targets)
        for _ in range(self._inner_steps):
            with torch.enable_grad():
                weights = self.weights.detach().clone().requires_grad_()
                (gradient,) = torch.autograd.grad(self._distance(weights, features, wanted), weights)
            if distributed.is_available() and distributed.is_initialized():
                distributed.all_reduce(gradient)
                gradient /= distributed.get_world_size()
            self._update(gradient)

    def forward(self, batch: Batch, student: StudentOutputs, targets: Targets) -> dict[str, Tensor]:
        """Return ``aft``."""
        weights = None if self._weights == "identity" else self.weights
        return {"aft": self._distance(weights, self.student_features(student), self.teacher_features(targets))}

    def _start(self) -> Tensor | None:
        if self._kernel == "none":
            return nn.Linear(self.width, self.student_width, bias=False).weight.detach()  # centering drops a bias
        if self._weights == "diagonal":
            return torch.zeros(self.width)
        return torch.eye(self.width) if self._weights == "dense" else None

    def _distance(self, weights: Tensor | None, student: Tensor, teacher: Tensor) -> Tensor:
        with full_precision(student):
            if self._kernel == "none":
                assert weights is not None
                return feature_error(centered(teacher @ weights.T), centered(student), variant=self._variant)
            if self._weights == "dense":
                assert weights is not None
                return kernel_distance(student, teacher @ weights.T, kernel=self._kernel)
            return kernel_distance(student, teacher, weights, kernel=self._kernel)

    def _update(self, gradient: Tensor) -> None:
        """Take one step of Adam (arXiv:1412.6980, algorithm 1); nothing here has a graph."""
        self.updates += 1
        self.first_moment.lerp_(gradient, 1 - BETAS[0])
        self.second_moment.lerp_(gradient.square(), 1 - BETAS[1])
        first = self.first_moment / (1 - BETAS[0] ** self.updates)
        second = self.second_moment / (1 - BETAS[1] ** self.updates)
        self.weights -= self._learning_rate * first / (second.sqrt() + EPSILON)
