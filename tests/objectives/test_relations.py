from __future__ import annotations

import math

import pytest
import torch
from rows import drawn, example
from torch import Tensor

from tutelage.objectives import Relations, relational_distance


def huber(one: float, other: float) -> float:
    apart = abs(one - other)
    return apart * apart / 2 if apart < 1 else apart - 0.5


def slow_relations(features: Tensor) -> tuple[dict, dict]:
    rows = features.tolist()
    every = range(len(rows))
    differences = {(i, j): [a - b for a, b in zip(rows[i], rows[j], strict=True)] for i in every for j in every}
    lengths = {
        pair: math.sqrt(sum(value * value for value in difference)) for pair, difference in differences.items()
    }
    positive = [length for length in lengths.values() if length > 0]
    mean = sum(positive) / len(positive)
    cosines = {}
    for i in every:
        for j in every:
            for k in every:
                size = lengths[i, j] * lengths[k, j]
                dot = sum(a * b for a, b in zip(differences[i, j], differences[k, j], strict=True))
                cosines[i, j, k] = dot / size if size else 0.0
    return {pair: length / mean for pair, length in lengths.items()}, cosines


def slow_relational_distance(student: Tensor, teacher: Tensor) -> tuple[float, float]:
    losses = [
        sum(huber(one[key], other[key]) for key in one) / len(one)
        for one, other in zip(slow_relations(student), slow_relations(teacher), strict=True)
    ]
    return losses[0], losses[1]


@pytest.mark.parametrize(("variant", "share"), [("code", 0.5), ("paper", 1.0)])
def test_distance_is_that_of_the_slow_reference(variant, share: float) -> None:
    student, teacher = 5 + drawn(6, 4, seed=0), 10 * drawn(6, 3, seed=1)
    distances, angles = slow_relational_distance(student, teacher)
    found = relational_distance(student, teacher, variant=variant).item()
    assert found == pytest.approx(share * (distances + 2 * angles), rel=1e-9)


def test_two_equal_samples_have_no_distance_and_no_angle() -> None:
    student, teacher = drawn(6, 4, seed=0), drawn(6, 3, seed=1)
    student[2] = student[4]
    distances, angles = slow_relational_distance(student, teacher)
    assert relational_distance(student, teacher).item() == pytest.approx(distances / 2 + angles, rel=1e-9)


def test_relations_do_not_see_size_place_and_turn() -> None:
    features = drawn(6, 5, seed=0)
    turned = 3 * features @ torch.linalg.qr(drawn(5, 5, seed=1)).Q + 7
    assert relational_distance(turned, features).item() == pytest.approx(0.0, abs=1e-12)


def test_the_gradient_is_that_of_the_distance() -> None:
    student, teacher = drawn(5, 3, seed=0).requires_grad_(), drawn(5, 4, seed=1)
    assert torch.autograd.gradcheck(lambda x: relational_distance(x, teacher), student)


@pytest.mark.parametrize("rows", [[0, 0, 0, 0], [0, 1, 1, 2]])
def test_the_gradient_is_finite_where_samples_are_equal(rows: list[int]) -> None:
    student = (1e3 + drawn(3, 4, seed=0, dtype=torch.float32))[rows].requires_grad_()
    relational_distance(student, drawn(4, 3, seed=1, dtype=torch.float32)).backward()
    assert student.grad.isfinite().all()
    assert student.grad.abs().max() < 10


def test_far_from_the_origin_float32_is_as_good_as_its_numbers() -> None:
    student, teacher = 1e3 + drawn(8, 16, seed=0, dtype=torch.float32), drawn(8, 16, seed=1, dtype=torch.float32)
    exact = relational_distance(student.double(), teacher.double()).item()
    assert relational_distance(student, teacher).item() == pytest.approx(exact, rel=1e-5)


@pytest.mark.parametrize(("one", "other"), [((4, 3), (5, 3)), ((4,), (4,)), ((1, 3), (1, 3))])
def test_what_cannot_be_compared_is_refused(one, other) -> None:
    with pytest.raises(ValueError, match=r"same B|batch of 1"):
        relational_distance(torch.ones(one), torch.ones(other))


def test_an_unknown_variant_is_refused() -> None:
    with pytest.raises(ValueError, match="'code' or 'paper', got 'mine'"):
        relational_distance(torch.ones(2, 3), torch.ones(2, 3), variant="mine")


@pytest.mark.parametrize("variant", ["code", "paper"])
def test_the_objective_compares_with_all_teachers_side_by_side(variant) -> None:
    objective = Relations(5, {"one": 2, "other": 4}, variant=variant)
    student, one, other = (drawn(8, width, seed=width, dtype=torch.float32) for width in (5, 2, 4))
    found = objective(*example(student, {"one": one, "other": other}))["rkd"]
    assert torch.equal(found, relational_distance(student, torch.cat([one, other], 1), variant=variant))
