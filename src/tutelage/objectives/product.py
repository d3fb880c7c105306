"""Learning from teachers of an image and of its text, by a student whose features are the product of both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from tutelage.data.batch import Batch
from tutelage.objectives.adaptive import AdaptiveFeatures
from tutelage.objectives.features import FeatureObjective, Variant, check_variant
from tutelage.objectives.kernels import Kernel, product_kernel_distance
from tutelage.objectives.objective import StudentOutputs, Targets
from tutelage.objectives.regression import feature_error


@dataclass(frozen=True)
class Factor:
    """What there is of one modality.

    Attributes:
        output: The student's pooled features of it: ``image_features`` or ``text_features``.
        student_width: Their width.
        widths: Of the pooled features of each teacher that reads it, by its name in the phase; one or more. Several
            are put side by side.
    """

    output: str
    student_width: int
    widths: Mapping[str, int]


def _check(factors: Sequence[Factor]) -> None:
    """Raise ``ValueError`` unless each factor has teachers of its own."""
    if not factors or not all(factor.widths for factor in factors):
        raise ValueError("each factor must have a teacher whose features can be learned")
    names = [name for factor in factors for name in factor.widths]
    if len(set(names)) < len(names):
        raise ValueError(f"a teacher reads one modality; got {', '.join(names)}")


def _outputs(factors: Sequence[Factor]) -> dict[str, int]:
    return {factor.output: factor.student_width for factor in factors}


def _teachers(factors: Sequence[Factor]) -> dict[str, int]:
    return {name: width for factor in factors for name, width in factor.widths.items()}


def _sizes(factors: Sequence[Factor]) -> list[int]:
    """Return the width of the teachers' features of each factor."""
    return [sum(factor.widths.values()) for factor in factors]


class AdaptiveProduct(AdaptiveFeatures):
    """Keep the kernel of the student's product near that of the teachers', with learned weights for each modality.

    See :func:`tutelage.objectives.kernels.product_kernel_distance` (Qiu et al., ICML 2024, section 4.3). Both
    products are of the modalities that have a teacher: with a teacher of images alone, the student's image features
    are held by it, for of the text it says nothing.

    Args:
        factors: One a modality that has a teacher.
        standardize: As for every :class:`FeatureObjective`.
        kernel: ``linear`` or ``rbf``; there is none for ``none``, which would need the whole product.
        weights: ``diagonal`` learns a weight of each feature of each teacher, ``identity`` none; there is no
            ``dense``.
        inner_steps: As for :class:`AdaptiveFeatures`.
        learning_rate: Of the weights.

    Raises:
        ValueError: A factor has no teacher, a teacher stands in two, or an option does not go with another.
    """

    def __init__(
        self,
        factors: Sequence[Factor],
        *,
        standardize: bool = False,
        kernel: Literal["linear", "rbf", "none"] = "linear",
        weights: Literal["diagonal", "identity", "dense"] = "diagonal",
        inner_steps: int = 0,
        learning_rate: float = 1e-2,
    ) -> None:
        _check(factors)
        if (kernel != "linear" and kernel != "rbf") or weights not in ("diagonal", "identity"):
            raise ValueError(
                "of products, the kernel must be 'linear' or 'rbf', and weights 'diagonal' or 'identity'; got "
                f"{kernel!r} and {weights!r}"
            )
        super().__init__(
            _outputs(factors),
            _teachers(factors),
            standardize=standardize,
            kernel=kernel,
            weights=weights,
            inner_steps=inner_steps,
            learning_rate=learning_rate,
        )
        self._product_kernel: Kernel = kernel
        self._parts = [factor.student_width for factor in factors]
        self._teacher_parts = _sizes(factors)

    def _distance(self, weights: Tensor | None, student: Tensor, teacher: Tensor) -> Tensor:
        return product_kernel_distance(
            torch.split(student, self._parts, dim=1),
            torch.split(teacher, self._teacher_parts, dim=1),
            None if weights is None else torch.split(weights, self._teacher_parts),
            kernel=self._product_kernel,
        )


class ProductRegression(FeatureObjective):
    """Predict the teachers' features of each modality by a linear map of the student's features of it.

    The loss is that of :func:`tutelage.objectives.regression.feature_error`: its mean over the modalities that have a
    teacher (``code``), as in the code of Qiu et al. (ICML 2024), or its sum (``paper``), which is that of both side
    by side.

    Args:
        factors: One a modality that has a teacher.
        standardize: As for every :class:`FeatureObjective`.
        variant: As for :class:`tutelage.objectives.regression.FeatureRegression`.

    Raises:
        ValueError: A factor has no teacher, a teacher stands in two, or the variant is unknown.
    """

    def __init__(self, factors: Sequence[Factor], *, standardize: bool = False, variant: Variant = "code") -> None:
        _check(factors)
        check_variant(variant)
        super().__init__(_outputs(factors), _teachers(factors), standardize=standardize)
        self._parts = [factor.student_width for factor in factors]
        self._teacher_parts = _sizes(factors)
        self.projectors = nn.ModuleList(
            nn.Linear(given, wanted, bias=variant == "code")
            for given, wanted in zip(self._parts, self._teacher_parts, strict=True)
        )
        self._variant: Variant = variant

    def forward(self, batch: Batch, student: StudentOutputs, targets: Targets) -> dict[str, Tensor]:
        """Return ``kd``."""
        given = torch.split(self.student_features(student), self._parts, dim=1)
        wanted = torch.split(self.teacher_features(targets), self._teacher_parts, dim=1)
        errors = torch.stack(
            [
                feature_error(projector(features), features_of_teachers, variant=self._variant)
                for projector, features, features_of_teachers in zip(self.projectors, given, wanted, strict=True)
            ]
        )
        return {"kd": errors.mean() if self._variant == "code" else errors.sum()}
