"""How outputs are stored, against slow references in float64."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from tutelage.errors import ModelError, RecipeError
from tutelage.store.forms import check_form, decode, encode, row_bytes, top_form


def drawn(*shape: int, scale: float = 4.0, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * scale


def there_and_back(name: str, values: Tensor, form: str) -> Tensor:
    return decode(name, encode(name, values, form), form, values.shape[1:])


def probabilities(logits: Tensor) -> Tensor:
    return logits.double().softmax(1)


def divergence(truth: Tensor, stored: Tensor) -> float:
    p, q = probabilities(truth), probabilities(stored)
    return float((p * (p.log() - q.log())).sum(1).max())


SHAPES = {"logits": (5, 7), "features": (5, 6), "embedding": (5, 3), "patches": (5, 6, 2, 3)}


@pytest.mark.parametrize("name", SHAPES)
def test_half_precision_keeps_shape_and_eleven_bits(name: str) -> None:
    values = drawn(*SHAPES[name])
    truth = values.double() - (values.double().amax(1, keepdim=True) if name == "logits" else 0)
    found = there_and_back(name, values, "float16")
    assert found.dtype == torch.float32
    # The difference from the largest is itself rounded to float32 once.
    assert torch.allclose(found.double(), truth, rtol=2**-11 + 2**-22, atol=2**-24)


def test_dense_logits_lose_the_largest_of_each_pixel() -> None:
    values = drawn(3, 5, 4, 2) + 100
    found = there_and_back("logits", values, "float16")
    assert found.shape == values.shape
    assert torch.equal(found.amax(1), torch.zeros(3, 4, 2))
    assert torch.allclose(found.softmax(1), values.softmax(1), atol=1e-3)


def test_logits_far_from_zero_are_stored_as_well_as_those_near_it() -> None:
    values = drawn(64, 10)
    far = values + 5000  # half precision has steps of 4 there
    assert divergence(far, there_and_back("logits", far, "float16")) < 1e-5


@pytest.mark.parametrize("name", ["features", "embedding", "patches"])
def test_bytes_are_off_by_half_a_step_of_their_row(name: str) -> None:
    values = drawn(*SHAPES[name]) * torch.logspace(-3, 3, 5).view(-1, *[1] * (len(SHAPES[name]) - 1))
    found = there_and_back(name, values, "int8")
    steps = values.double().flatten(1).abs().amax(1) / 127
    off = (found.double() - values.double()).flatten(1).abs().amax(1)
    assert found.shape == values.shape
    assert bool((off <= 0.5 * steps * (1 + 1e-5)).all())


def test_a_row_of_zeros_stays_zero_in_bytes() -> None:
    assert torch.equal(there_and_back("features", torch.zeros(2, 3), "int8"), torch.zeros(2, 3))


def reference_top(logits: Tensor, count: int) -> Tensor:
    """The probabilities that are told of the largest and of each other class, in float64, row by row."""
    rows = []
    for row in probabilities(logits):
        order = sorted(range(len(row)), key=lambda c: -float(row[c]))
        rest = math.fsum(float(row[c]) for c in order[count:]) / (len(row) - count)
        rows.append([float(row[c]) if c in order[:count] else rest for c in range(len(row))])
    return torch.tensor(rows, dtype=torch.float64)


@pytest.mark.parametrize("count", [1, 5, 29])
def test_the_largest_keep_their_probability_and_the_rest_is_spread_evenly(count: int) -> None:
    values = drawn(20, 30)
    found = probabilities(there_and_back("logits", values, top_form(count)))
    # A logit d below the largest is off by at most |d| / 2048.
    assert torch.allclose(found, reference_top(values, count), rtol=2e-2, atol=1e-6)
    assert torch.equal(found.argmax(1), values.argmax(1))


def test_each_pixel_keeps_its_largest_as_an_image_does() -> None:
    values = drawn(3, 30, 4, 2)
    found = there_and_back("logits", values, "top-5")
    pixels = values.permute(0, 2, 3, 1).reshape(-1, 30)
    alone = there_and_back("logits", pixels, "top-5")
    assert torch.allclose(found.permute(0, 2, 3, 1).reshape(-1, 30), alone, atol=1e-5)


def test_thirty_two_of_a_thousand_confident_predictions_are_nearly_all() -> None:
    values = drawn(32, 1000, scale=1.0)
    values[torch.arange(32), torch.arange(32)] += 14
    assert divergence(values, there_and_back("logits", values, "top-32")) < 5e-3


@pytest.mark.parametrize(("classes", "kind"), [(300, np.uint16), (65536, np.uint16), (65537, np.uint32)])
def test_class_numbers_are_as_narrow_as_they_can_be(classes: int, kind: type) -> None:
    values = torch.zeros(1, classes)
    values[0, -1] = 9
    arrays = encode("logits", values, "top-2")
    assert arrays["logits.classes"].dtype == kind
    assert int(decode("logits", arrays, "top-2", (classes,)).argmax()) == classes - 1


@pytest.mark.parametrize(
    ("name", "form", "shape"),
    [
        ("logits", "float16", (9,)),
        ("logits", "top-4", (9,)),
        ("logits", "top-4", (70000,)),
        ("logits", "top-4", (9, 2, 3)),
        ("features", "int8", (6,)),
        ("patches", "int8", (6, 2, 3)),
        ("patches", "float16", (6, 2, 3)),
    ],
)
def test_a_row_takes_the_bytes_that_are_told(name: str, form: str, shape: tuple[int, ...]) -> None:
    arrays = encode(name, drawn(3, *shape), form)
    assert sum(array.nbytes for array in arrays.values()) == 3 * row_bytes(shape, form)
    assert all(key == name or key.startswith(f"{name}.") for key in arrays)


@pytest.mark.parametrize(("name", "form"), [("logits", "float16"), ("logits", "top-4"), ("features", "int8")])
def test_some_rows_are_read_in_the_order_asked_for(name: str, form: str) -> None:
    values = drawn(6, 9)
    arrays, rows = encode(name, values, form), np.array([4, 0, 4])
    assert torch.equal(decode(name, arrays, form, (9,), rows=rows), decode(name, arrays, form, (9,))[rows])


def test_values_too_large_for_half_precision_are_refused() -> None:
    with pytest.raises(ModelError, match=r"features reach 70,000, more than half precision holds .* int8"):
        encode("features", torch.tensor([[1.0, -70_000.0]]), "float16")
    with pytest.raises(ModelError, match=r"logits differ within a row by 80,000"):
        encode("logits", torch.tensor([[40_000.0, -40_000.0]]), "float16")
    assert torch.allclose(there_and_back("features", torch.tensor([[70_000.0]]), "int8"), torch.tensor([[70_000.0]]))


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize(("name", "form"), [("logits", "float16"), ("logits", "top-1"), ("features", "int8")])
def test_what_is_not_finite_is_refused(name: str, form: str, bad: float) -> None:
    with pytest.raises(ModelError, match="not finite"):
        encode(name, torch.tensor([[0.0, 1.0], [bad, 0.0]]), form)


@pytest.mark.parametrize(
    ("name", "shape", "form", "reason"),
    [
        ("logits", (9,), "float8", "no form 'float8'"),
        ("logits", (9,), "top-0", "no form 'top-0'"),
        ("logits", (9,), "int8", "int8 is for features"),
        ("features", (9,), "top-4", "for logits"),
        ("logits", (4, 2, 2), "top-4", "more than 4 classes"),
        ("logits", (9,), "top-9", "more than 9 classes"),
    ],
)
def test_a_form_that_does_not_fit_is_refused(name: str, shape: tuple[int, ...], form: str, reason: str) -> None:
    with pytest.raises(RecipeError, match=reason):
        check_form(name, shape, form)
