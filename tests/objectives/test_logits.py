from __future__ import annotations

import math

import pytest
import torch

from tutelage.objectives import prediction_divergence

SHAPES = [(5, 4), (2, 3, 4, 5)]


def drawn(shape: tuple[int, ...], seed: int) -> torch.Tensor:
    return 3 * torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def slow_divergence(student, teacher, temperature: float, valid) -> float:
    """One row (or pixel), one class at a time."""
    student, teacher = (x.movedim(1, -1).reshape(-1, x.shape[1]).tolist() for x in (student, teacher))
    counted = [True] * len(student) if valid is None else valid.flatten().tolist()

    def log_softmax(row: list[float]) -> list[float]:
        total = math.log(sum(math.exp(value / temperature) for value in row))
        return [value / temperature - total for value in row]

    rows = []
    for s, t, counts in zip(student, teacher, counted, strict=True):
        if counts:
            pairs = zip(log_softmax(t), log_softmax(s), strict=True)
            rows.append(sum(math.exp(p) * (p - q) for p, q in pairs))
    return temperature**2 * sum(rows) / len(rows)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
@pytest.mark.parametrize("masked", [False, True])
def test_divergence_is_that_of_the_slow_reference(shape, temperature: float, masked: bool) -> None:
    student, teacher = drawn(shape, 0), drawn(shape, 1)
    valid = drawn((shape[0], *shape[2:]), 2) > 0 if masked else None
    found = prediction_divergence(student, teacher, temperature=temperature, valid=valid)
    assert found.item() == pytest.approx(slow_divergence(student, teacher, temperature, valid), rel=1e-9)


@pytest.mark.parametrize("shape", SHAPES)
def test_equal_predictions_do_not_diverge(shape) -> None:
    # Logits are predictions up to a constant.
    assert prediction_divergence(drawn(shape, 0) + 7.0, drawn(shape, 0)).item() == pytest.approx(0.0, abs=1e-12)


def test_where_nothing_is_valid_the_divergence_is_zero() -> None:
    assert prediction_divergence(drawn((3, 4), 0), drawn((3, 4), 1), valid=torch.zeros(3, dtype=torch.bool)) == 0.0


def test_the_gradient_is_the_difference_of_the_predictions() -> None:
    student, teacher = drawn((1, 6), 0).requires_grad_(), drawn((1, 6), 1)
    prediction_divergence(student, teacher).backward()
    torch.testing.assert_close(student.grad, student.detach().softmax(1) - teacher.softmax(1))


def test_rows_that_are_not_valid_get_no_gradient() -> None:
    student = drawn((3, 4), 0).requires_grad_()
    prediction_divergence(student, drawn((3, 4), 1), valid=torch.tensor([True, False, True])).backward()
    assert student.grad.abs().sum(1).gt(0).tolist() == [True, False, True]


def test_a_high_temperature_keeps_the_size_of_the_gradient() -> None:
    # For T → ∞ the loss is half the mean squared difference of centered logits, over classes.
    student, teacher = drawn((5, 4), 0), drawn((5, 4), 1)
    difference = (student - student.mean(1, keepdim=True)) - (teacher - teacher.mean(1, keepdim=True))
    limit = difference.square().mean(1).mean() / 2
    assert prediction_divergence(student, teacher, temperature=1e4).item() == pytest.approx(limit.item(), rel=1e-3)


def test_very_sure_predictions_stay_finite() -> None:
    logits = torch.tensor([[1e4, -1e4, 0.0]])
    assert prediction_divergence(logits.flip(1), logits).isfinite()


@pytest.mark.parametrize(
    ("student", "teacher"), [((4, 3), (4, 2)), ((4, 3), (1, 3)), ((4, 3), (4, 3, 2, 2)), ((3,), (3,))]
)
def test_logits_of_other_shapes_are_refused(student, teacher) -> None:
    with pytest.raises(ValueError, match="must share a shape"):
        prediction_divergence(torch.zeros(student), torch.zeros(teacher))


@pytest.mark.parametrize(("shape", "valid"), [((4, 3), (3,)), ((4, 3), (4, 1)), ((2, 3, 4, 5), (2,))])
def test_a_mask_of_another_shape_is_refused(shape, valid) -> None:
    with pytest.raises(ValueError, match="valid must be"):
        prediction_divergence(torch.zeros(shape), torch.zeros(shape), valid=torch.ones(valid, dtype=torch.bool))


@pytest.mark.parametrize("temperature", [0.0, -1.0])
def test_a_temperature_that_is_not_positive_is_refused(temperature: float) -> None:
    with pytest.raises(ValueError, match="temperature must be positive"):
        prediction_divergence(torch.zeros(2, 3), torch.zeros(2, 3), temperature=temperature)
