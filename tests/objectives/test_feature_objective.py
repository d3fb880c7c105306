from __future__ import annotations

import pytest
import torch
from rows import drawn, example, examples, labeled
from torch import Tensor

from tutelage.errors import ModelError
from tutelage.objectives import FeatureObjective

WIDTHS = {"one": 3, "other": 2}
STUDENT = drawn(10, 4, seed=0, dtype=torch.float32)
TEACHERS = {
    "one": 50 + 20 * drawn(10, 3, seed=1, dtype=torch.float32),
    "other": 1e-3 * drawn(10, 2, seed=2, dtype=torch.float32),
}


class Fits(FeatureObjective):
    """Keeps what it is to be fitted to."""

    fits = True
    fits_student = True

    def fit(self, features, labels, student) -> None:
        self.features, self.labels, self.student = features, labels, student


def prepared(teachers=TEACHERS, *, widths=WIDTHS, count: int = 10, **options) -> Fits:
    objective = Fits(4, widths, **options)
    objective.prepare(labeled(count), examples(STUDENT[:count], teachers))
    return objective


def test_teachers_are_side_by_side_in_the_order_of_their_widths() -> None:
    _, _, targets = example(STUDENT, dict(reversed(TEACHERS.items())))
    joined = FeatureObjective(4, WIDTHS).teacher_features(targets)
    assert torch.equal(joined, torch.cat([TEACHERS["one"], TEACHERS["other"]], dim=1))


def test_what_is_fitted_sees_every_row_as_it_was_shown() -> None:
    objective = prepared()
    assert all(torch.equal(objective.features[name], values.flip(0)) for name, values in TEACHERS.items())
    assert torch.equal(objective.student, STUDENT.flip(0))


def test_what_is_fitted_sees_the_labels_of_those_rows() -> None:
    assert prepared().labels.tolist() == [number % 3 for number in reversed(range(10))]


def test_unlabeled_samples_have_no_labels_to_fit_to() -> None:
    objective = Fits(4, WIDTHS)
    objective.prepare(labeled(10).without_targets(), examples(STUDENT, TEACHERS))
    assert objective.labels is None


def slow_standardized(rows: Tensor) -> Tensor:
    rows = rows.double()
    count, width = rows.shape
    means = [sum(rows[:, column].tolist()) / count for column in range(width)]
    squares = [sum((value - means[column]) ** 2 for value in rows[:, column].tolist()) for column in range(width)]
    scale = (sum(squares) / count / width) ** 0.5
    return (rows - torch.tensor(means, dtype=torch.float64)) / scale


def test_standardized_features_are_those_of_the_slow_reference() -> None:
    # In batches of 4, 4 and 2.
    objective = prepared(standardize=True)
    _, _, targets = example(STUDENT, TEACHERS)
    expected = torch.cat([slow_standardized(TEACHERS[name]) for name in WIDTHS], dim=1)
    torch.testing.assert_close(objective.teacher_features(targets).double(), expected, atol=1e-5, rtol=1e-5)


def test_what_is_fitted_sees_standardized_features() -> None:
    objective = prepared(standardize=True)
    _, _, targets = example(STUDENT.flip(0), {name: values.flip(0) for name, values in TEACHERS.items()})
    assert torch.equal(torch.cat(list(objective.features.values()), dim=1), objective.teacher_features(targets))


def test_features_that_are_not_finite_are_counted_and_their_teacher_named() -> None:
    bad = TEACHERS["other"].clone()
    bad[3, 0], bad[3, 1], bad[7, 1] = float("nan"), float("inf"), float("nan")
    with pytest.raises(ModelError, match=r"teacher other: its features of 2 of 10 .* not finite"):
        prepared({**TEACHERS, "other": bad}, standardize=True)


def test_a_teacher_that_says_the_same_of_every_sample_is_named() -> None:
    # 0.1 has no exact form: its mean over samples may be another number.
    with pytest.raises(ModelError, match="teacher one: its features are the same for all 10"):
        prepared({**TEACHERS, "one": torch.full((10, 3), 0.1)})


def test_a_single_sample_need_not_vary() -> None:
    objective = prepared({name: values[:1] for name, values in TEACHERS.items()}, count=1, standardize=True)
    _, _, targets = example(STUDENT[:1], {name: values[:1] for name, values in TEACHERS.items()})
    assert objective.teacher_features(targets).tolist() == [[0.0] * 5]


def test_features_of_another_width_are_refused_with_the_teachers_name() -> None:
    with pytest.raises(ModelError, match=r"teacher other: its features are \[4, 2\], and \[B, 7\] was expected"):
        prepared(widths={"one": 3, "other": 7})


def test_without_a_teacher_there_is_nothing_to_learn() -> None:
    with pytest.raises(ValueError, match="must be a teacher"):
        FeatureObjective(4, {})


class NoStudent(dict):
    def __missing__(self, group):
        raise AssertionError("the student must not run")


def test_the_student_is_not_looked_at_where_nothing_is_fitted_to_it() -> None:
    objective = FeatureObjective(4, WIDTHS, standardize=True)
    objective.prepare(labeled(10), ((batch, NoStudent(), t) for batch, _, t in examples(STUDENT, TEACHERS)))
