"""Kernels of features over a batch, and how far those of two sides are apart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from tutelage.objectives.features import EPSILON, centered, check_rows, full_precision, widened

Kernel = Literal["linear", "rbf"]

SAME = 1e-14
"""Squared norm of a centered tensor product, as a share of the mean one before centering, up to which it is zero:
float64 cannot tell."""


def kernel_distance(
    student_features: Tensor,
    teacher_features: Tensor,
    scale_logits: Tensor | None = None,
    *,
    kernel: Kernel = "linear",
) -> Tensor:
    r"""Distance between the kernels of the student's and of the teachers' features over a batch.

    .. math:: \sqrt{\frac{1}{B^2} \sum_{i,j} (k(\phi_i, \phi_j) - k(\psi_i, \psi_j))^2 + \varepsilon}, \quad
              k(a, b) = a \cdot b \;\text{ or }\; e^{-\|a - b\|^2}

    where the teachers' features are first weighted by :math:`\sigma(s)`; then the batch mean is subtracted from both,
    and rows are divided by their norms. The regularizer of Adaptive Feature Transfer (Qiu et al., ICML 2024,
    algorithm 1); ε = 1e-8, there and in the norms, is that of the authors' code. The diagonal counts. It is
    computed in float32 or better, in mixed precision too, and takes memory of O(B² + B·(dφ + dψ)).

    Args:
        student_features: Φ, [B, dφ]; B is two or more.
        teacher_features: Ψ, [B, dψ].
        scale_logits: s, [dψ]; all features weigh the same if not given.
        kernel: ``linear``, or ``rbf``.

    Returns:
        A scalar.

    Raises:
        ValueError: Shapes do not belong together, there is one sample, or the kernel is unknown.
    """
    return product_kernel_distance(
        (student_features,), (teacher_features,), None if scale_logits is None else (scale_logits,), kernel=kernel
    )


def product_kernel_distance(
    student_factors: Sequence[Tensor],
    teacher_factors: Sequence[Tensor],
    scale_logits: Sequence[Tensor] | None = None,
    *,
    kernel: Kernel = "linear",
) -> Tensor:
    r"""Distance of :func:`kernel_distance` between features that are tensor products, which are never formed.

    .. math:: \phi = \phi^1 \otimes \dots \otimes \phi^M, \quad
              \psi = (\sigma(s^1) \psi^1) \otimes \dots \otimes (\sigma(s^N) \psi^N)

    What it needs of them are their inner products, and those are the elementwise products of the factors':
    :math:`(XX^\top) \circ (YY^\top)`, centered by :math:`HGH` and divided by the root of its diagonal. Exact for
    learned weights that are a product of one of each factor (Qiu et al., ICML 2024, section 4.3: one factor an image,
    one a text). It takes memory of O(B² + B·(sum of widths)); several factors are multiplied in float64, in which
    centering loses nothing.

    Args:
        student_factors: φ¹ … φᴹ, each [B, its width]; B is two or more.
        teacher_factors: ψ¹ … ψᴺ, likewise; there may be more or fewer of them.
        scale_logits: s¹ … sᴺ, each [width]; all features weigh the same if not given.
        kernel: ``linear``, or ``rbf``.

    Returns:
        A scalar.

    Raises:
        ValueError: A side has no factor, shapes do not belong together, there is one sample, or the kernel is
            unknown.
    """
    if not student_factors or not teacher_factors:
        raise ValueError("there must be a factor of the student's features, and one of the teachers'")
    for factor in (*student_factors, *teacher_factors):
        check_rows(student_factors[0], factor, least=2)
    if scale_logits is not None:
        if len(scale_logits) != len(teacher_factors):
            raise ValueError(f"{len(scale_logits)} scale_logits for {len(teacher_factors)} factors; give one each")
        for logits, factor in zip(scale_logits, teacher_factors, strict=True):
            width = factor.shape[1]
            if logits.shape != (width,):
                raise ValueError(f"scale_logits must be [{width}], one a teacher feature; got {list(logits.shape)}")
    if kernel not in ("linear", "rbf"):
        raise ValueError(f"kernel must be 'linear' or 'rbf', got {kernel!r}")
    with full_precision(student_factors[0]):
        student, teacher = [widened(each) for each in student_factors], [widened(each) for each in teacher_factors]
        if scale_logits is not None:
            weighted = zip(teacher, scale_logits, strict=True)
            teacher = [factor * widened(logits).sigmoid() for factor, logits in weighted]
        difference = _kernel(student, kernel) - _kernel(teacher, kernel)
        return (difference.square().mean() + EPSILON).sqrt()


def _kernel(factors: Sequence[Tensor], kernel: Kernel) -> Tensor:
    products = _cosines(*_centered_products(factors)).to(factors[0].dtype)
    if kernel == "linear":
        return products
    squares = products.diagonal()  # not always 1: a row at the mean has no direction
    return (-(squares[:, None] + squares - 2 * products).clamp(min=0)).exp()


def _centered_products(factors: Sequence[Tensor]) -> tuple[Tensor, float | Tensor]:
    """Return inner products of the factors' tensor products less their mean, [B, B], and the square that is none."""
    if len(factors) == 1:
        rows = centered(factors[0])  # before the product: so float32 is enough
        return rows @ rows.T, 0.0
    products = torch.ones((), dtype=torch.float64, device=factors[0].device)
    for factor in factors:
        rows = factor.double()
        products = products * (rows @ rows.T)
    nothing = SAME * products.detach().diagonal().mean()
    products = centered(products)
    return products - products.mean(1, keepdim=True), nothing


def _cosines(products: Tensor, nothing: float | Tensor) -> Tensor:
    """Divide inner products [B, B] by the norms of both rows; a row without a direction has none to any."""
    squares = products.diagonal()
    directed = squares > nothing
    # The root is taken where it has a finite slope alone.
    norms = torch.where(directed, squares, 1.0).sqrt()
    inverse = torch.where(directed, 1 / (norms + EPSILON), 0.0)
    return products * inverse[:, None] * inverse
