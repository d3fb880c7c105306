from __future__ import annotations

import pytest
import torch
from rows import drawn, example

from tutelage.objectives import FeatureRegression, feature_error


def slow_feature_error(predicted, features, variant: str) -> float:
    predicted, features = predicted.tolist(), features.tolist()
    count, width = len(predicted), len(predicted[0])
    if variant == "paper":
        for rows in (predicted, features):
            for column in range(width):
                mean = sum(row[column] for row in rows) / count
                for row in rows:
                    row[column] -= mean
    total = sum((predicted[i][j] - features[i][j]) ** 2 for i in range(count) for j in range(width))
    return total / count / (width if variant == "code" else 1)


@pytest.mark.parametrize("variant", ["code", "paper"])
def test_error_is_that_of_the_slow_reference(variant) -> None:
    predicted, features = 2 + drawn(6, 4, seed=0), drawn(6, 4, seed=1)
    expected = slow_feature_error(predicted, features, variant)
    assert feature_error(predicted, features, variant=variant).item() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(("one", "other"), [((4, 3), (4, 1)), ((4, 3), (1, 3)), ((4,), (4,)), ((4, 3), (3, 3))])
def test_features_of_other_shapes_are_refused(one, other) -> None:
    with pytest.raises(ValueError, match=r"same B|share a width"):
        feature_error(torch.ones(one), torch.ones(other))


def test_an_unknown_variant_is_refused() -> None:
    with pytest.raises(ValueError, match="'code' or 'paper', got 'mine'"):
        feature_error(torch.ones(2, 3), torch.ones(2, 3), variant="mine")


@pytest.mark.parametrize("variant", ["code", "paper"])
def test_the_objective_compares_mapped_student_features(variant) -> None:
    objective = FeatureRegression(5, {"one": 2, "other": 4}, variant=variant)
    student, one, other = (drawn(8, width, seed=width, dtype=torch.float32) for width in (5, 2, 4))
    found = objective(*example(student, {"one": one, "other": other}))["kd"]
    weight, bias = objective.projector.weight, objective.projector.bias
    predicted = student @ weight.T + (0 if variant == "paper" else bias)
    torch.testing.assert_close(found, feature_error(predicted, torch.cat([one, other], 1), variant=variant))


def test_the_map_learns_at_the_students_rate() -> None:
    (group,) = FeatureRegression(5, {"teacher": 4}).param_groups(1e-4)
    assert group["lr"] == 1e-4
