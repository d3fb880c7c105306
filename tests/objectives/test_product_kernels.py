"""Kernels of tensor products, against the products themselves."""

from __future__ import annotations

import pytest
import torch
from rows import drawn
from torch import Tensor

from tutelage.objectives import kernel_distance, product_kernel_distance

KERNELS = ["linear", "rbf"]
COUNT = 6


def formed(*factors: Tensor) -> Tensor:
    """The tensor product of some features, row by row: [B, product of the widths]."""
    rows = []
    for parts in zip(*factors, strict=True):
        row = parts[0]
        for part in parts[1:]:
            row = torch.outer(row, part).flatten()
        rows.append(row)
    return torch.stack(rows)


def factors(*widths: int, seed: int, mean: float = 1.0) -> list[Tensor]:
    return [mean + drawn(COUNT, width, seed=seed + number) for number, width in enumerate(widths)]


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize(
    ("student", "teacher"), [((3, 4), (5, 2)), ((3,), (5, 2)), ((3, 4), (5,)), ((2, 3, 2), (4, 3))]
)
def test_distance_is_that_of_the_products_themselves(kernel, student, teacher) -> None:
    phi, psi = factors(*student, seed=0), factors(*teacher, seed=10)
    expected = kernel_distance(formed(*phi), formed(*psi), kernel=kernel)
    assert product_kernel_distance(phi, psi, kernel=kernel).item() == pytest.approx(expected.item(), rel=1e-10)


@pytest.mark.parametrize("kernel", KERNELS)
def test_weights_of_each_factor_are_a_product_of_weights(kernel) -> None:
    phi, psi, logits = factors(3, 4, seed=0), factors(5, 2, seed=10), [drawn(5, seed=20), drawn(2, seed=21)]
    shares = torch.outer(logits[0].sigmoid(), logits[1].sigmoid()).flatten()
    expected = kernel_distance(formed(*phi), formed(*psi) * shares, kernel=kernel)
    assert product_kernel_distance(phi, psi, logits, kernel=kernel).item() == pytest.approx(
        expected.item(), rel=1e-10
    )


@pytest.mark.parametrize("kernel", KERNELS)
def test_the_gradient_is_that_of_the_products_themselves(kernel) -> None:
    given = [*factors(3, 4, seed=0), *factors(5, 2, seed=10), drawn(5, seed=20), drawn(2, seed=21)]

    def gradients(distance) -> tuple[Tensor, ...]:
        inputs = [each.clone().requires_grad_() for each in given]
        return torch.autograd.grad(distance(*inputs), inputs)

    def plain(a: Tensor, b: Tensor, c: Tensor, d: Tensor, s: Tensor, t: Tensor) -> Tensor:
        return kernel_distance(formed(a, b), formed(c * s.sigmoid(), d * t.sigmoid()), kernel=kernel)

    def quick(a: Tensor, b: Tensor, c: Tensor, d: Tensor, s: Tensor, t: Tensor) -> Tensor:
        return product_kernel_distance((a, b), (c, d), (s, t), kernel=kernel)

    for one, other in zip(gradients(quick), gradients(plain), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-10)


def test_float32_features_far_from_zero_keep_their_distance() -> None:
    # Centering products of 10,000 in float32 would leave nothing of differences of 1.
    phi, psi = factors(3, 4, seed=0, mean=100), factors(5, 2, seed=10, mean=100)
    expected = kernel_distance(formed(*phi), formed(*psi)).item()
    narrow = ([each.float() for each in side] for side in (phi, psi))
    assert product_kernel_distance(*narrow).item() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_product_that_is_the_same_for_all_has_no_direction_and_a_finite_gradient(kernel) -> None:
    phi = [torch.full((COUNT, width), 0.3, dtype=torch.float64).requires_grad_() for width in (3, 4)]
    psi = factors(5, 2, seed=10)
    found = product_kernel_distance(phi, psi, kernel=kernel)
    expected = kernel_distance(torch.zeros(COUNT, 2, dtype=torch.float64), formed(*psi), kernel=kernel)
    assert found.item() == pytest.approx(expected.item(), rel=1e-10)
    assert all(each.abs().max() < 1 for each in torch.autograd.grad(found, phi))


def test_a_row_at_the_mean_has_no_direction() -> None:
    phi = [torch.tensor([[1.0], [-1.0], [0.0]], dtype=torch.float64), torch.ones(3, 2, dtype=torch.float64)]
    psi = [drawn(3, 4, seed=0), drawn(3, 2, seed=1)]
    expected = kernel_distance(formed(*phi), formed(*psi)).item()
    assert product_kernel_distance(phi, psi).item() == pytest.approx(expected, rel=1e-10)


def test_half_precision_factors_are_multiplied_in_full() -> None:
    phi, psi = ([each.bfloat16() for each in factors(3, 4, seed=seed)] for seed in (0, 10))
    expected = product_kernel_distance([each.double() for each in phi], [each.double() for each in psi]).item()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = product_kernel_distance(phi, psi)
    assert found.dtype == torch.float32
    assert found.item() == pytest.approx(expected, rel=1e-6)


def test_the_product_is_never_formed() -> None:
    sizes: list[int] = []
    width = 256
    phi, psi = ([each.requires_grad_() for each in factors(width, width, seed=seed)] for seed in (0, 10))
    with torch.autograd.graph.saved_tensors_hooks(lambda x: sizes.append(x.numel()) or x, lambda x: x):
        product_kernel_distance(phi, psi)
    assert max(sizes) <= COUNT * width


@pytest.mark.parametrize(
    ("student", "teacher", "logits", "said"),
    [
        ([], [(4, 3)], None, "must be a factor"),
        ([(4, 3)], [], None, "must be a factor"),
        ([(4, 3), (5, 3)], [(4, 3)], None, "same B"),
        ([(4, 3)], [(4, 3), (5, 3)], None, "same B"),
        ([(1, 3)], [(1, 3), (1, 2)], None, "batch of 1"),
        ([(4, 3)], [(4, 3), (4, 2)], [(3,)], "1 scale_logits for 2 factors"),
        ([(4, 3)], [(4, 3), (4, 2)], [(3,), (3,)], r"scale_logits must be \[2\]"),
    ],
)
def test_factors_that_do_not_belong_together_are_refused(student, teacher, logits, said: str) -> None:
    scales = None if logits is None else [torch.ones(shape) for shape in logits]
    with pytest.raises(ValueError, match=said):
        product_kernel_distance(
            [torch.ones(shape) for shape in student], [torch.ones(shape) for shape in teacher], scales
        )


def test_an_unknown_kernel_is_refused() -> None:
    with pytest.raises(ValueError, match="'linear' or 'rbf', got 'cubic'"):
        product_kernel_distance([torch.ones(2, 3)], [torch.ones(2, 3)], kernel="cubic")
