from __future__ import annotations

import math

import pytest
import torch
from rows import drawn, example, examples, labeled
from torch import Tensor

from tutelage.errors import DataError
from tutelage.objectives import BTuning, log_evidence


def informed(count: int, width: int, *, noise: float, seed: int, classes: int = 3) -> tuple[Tensor, Tensor]:
    """Features whose first few directions say the label, more or less."""
    labels = torch.arange(count) % classes
    hints = torch.nn.functional.one_hot(labels, classes).double() @ drawn(classes, width, seed=seed)
    return hints + noise * drawn(count, width, seed=seed + 1), labels


def slow_log_evidence(features: Tensor, wanted: Tensor, alpha: float, beta: float) -> float:
    """The labels are normal with mean 0 and covariance I / beta + F Fᵀ / alpha, once weights are integrated out."""
    count = len(features)
    covariance = torch.eye(count, dtype=torch.float64) / beta + features @ features.T / alpha
    fit = wanted @ torch.linalg.inv(covariance) @ wanted
    return float(-(fit + torch.logdet(covariance) + count * math.log(2 * math.pi)) / 2)


CASES = {"more samples": (40, 6, 1.0), "more features": (20, 30, 3.0)}
cases = pytest.mark.parametrize("case", list(CASES))


@cases
def test_the_score_is_the_evidence_by_its_definition(case: str) -> None:
    count, width, noise = CASES[case]
    features, labels = informed(count, width, noise=noise, seed=0)
    found = log_evidence(features, labels)
    expected = [
        slow_log_evidence(
            features, (labels == number).double(), float(found.alphas[number]), float(found.betas[number])
        )
        for number in range(3)
    ]
    assert found.score == pytest.approx(sum(expected) / 3 / count, rel=1e-9)


@cases
def test_no_other_prior_and_noise_near_by_have_more_evidence(case: str) -> None:
    count, width, noise = CASES[case]
    features, labels = informed(count, width, noise=noise, seed=0)
    found = log_evidence(features, labels)
    for number in range(3):
        wanted, alpha, beta = (labels == number).double(), float(found.alphas[number]), float(found.betas[number])
        best = slow_log_evidence(features, wanted, alpha, beta)
        for more_alpha, more_beta in ((1.05, 1), (1 / 1.05, 1), (1, 1.05), (1, 1 / 1.05), (1.05, 1.05), (0.95, 0.95)):
            assert slow_log_evidence(features, wanted, alpha * more_alpha, beta * more_beta) < best


@cases
def test_the_means_are_those_of_ridge_regression(case: str) -> None:
    count, width, noise = CASES[case]
    features, labels = informed(count, width, noise=noise, seed=0)
    found = log_evidence(features, labels)
    assert found.means.shape == (3, width)
    for number in range(3):
        penalty = float(found.alphas[number] / found.betas[number])
        gram = features.T @ features + penalty * torch.eye(width, dtype=torch.float64)
        expected = torch.linalg.inv(gram) @ features.T @ (labels == number).double()
        torch.testing.assert_close(found.means[number], expected)


def test_features_that_say_more_have_more_evidence() -> None:
    scores = [log_evidence(*informed(60, 8, noise=noise, seed=0)).score for noise in (0.1, 1.0, 10.0)]
    assert scores == sorted(scores, reverse=True)


def test_the_evidence_does_not_see_the_turn_of_features() -> None:
    features, labels = informed(40, 6, noise=1.0, seed=0)
    turned = features @ torch.linalg.qr(drawn(6, 6, seed=5)).Q
    assert log_evidence(turned, labels).score == pytest.approx(log_evidence(features, labels).score)


@pytest.mark.parametrize("copies", [1, 3])
def test_directions_that_are_missing_leave_all_finite(copies: int) -> None:
    features, labels = informed(30, 4, noise=1.0, seed=0)
    rankless = torch.cat([features] * copies + [torch.zeros(30, 50, dtype=torch.float64)], dim=1)
    found = log_evidence(rankless, labels)
    assert math.isfinite(found.score)
    assert found.means.isfinite().all()


def test_labels_that_can_be_said_exactly_leave_all_finite() -> None:
    labels = torch.arange(12) % 3
    found = log_evidence(torch.nn.functional.one_hot(labels, 3), labels)
    assert math.isfinite(found.score)
    torch.testing.assert_close(found.means, torch.eye(3, dtype=torch.float64), atol=1e-3, rtol=1e-3)


def test_a_class_without_samples_says_nothing_and_does_not_count() -> None:
    features, labels = informed(40, 6, noise=1.0, seed=0)
    more, fewer = log_evidence(features, labels, classes=5), log_evidence(features, labels)
    assert more.score == fewer.score
    assert torch.equal(more.means[:3], fewer.means)
    assert more.means[3:].tolist() == [[0.0] * 6] * 2


@pytest.mark.parametrize(
    ("features", "labels", "classes", "said"),
    [
        (torch.ones(4, 3), torch.zeros(3, dtype=torch.int64), None, r"\[N, D\]"),
        (torch.ones(4), torch.zeros(4, dtype=torch.int64), None, r"\[N, D\]"),
        (torch.ones(0, 3), torch.zeros(0, dtype=torch.int64), None, r"\[N, D\]"),
        (torch.ones(4, 3), torch.tensor([0, 1, 2, 3]), 3, "class numbers from 0 to 2"),
        (torch.ones(4, 3), torch.tensor([0, 1, -1, 2]), None, "class numbers from 0 to 2"),
        (torch.ones(4, 3), torch.tensor([0.0, 1.0, 0.5, 1.0]), None, "class numbers"),
        (torch.zeros(4, 3), torch.tensor([0, 1, 0, 1]), None, "not all zero"),
        (torch.full((4, 3), float("nan")), torch.tensor([0, 1, 0, 1]), None, "must be finite"),
    ],
)
def test_what_has_no_evidence_is_refused(features, labels, classes, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        log_evidence(features, labels, classes=classes)


# The objective.

KNOWS, LABELS = informed(30, 6, noise=0.5, seed=0)
GUESSES = drawn(30, 4, seed=7)
STUDENT = informed(30, 5, noise=1.0, seed=3)[0]
TEACHERS = {"knows": KNOWS, "guesses": GUESSES}


def prepared(**options) -> BTuning:
    objective = BTuning(5, {"knows": 6, "guesses": 4}, classes=3, **options)
    objective.prepare(labeled(30), examples(STUDENT, TEACHERS, size=7))
    return objective


def test_the_loss_is_that_of_the_slow_reference() -> None:
    objective = prepared(temperature=0.5)
    student, (one, other) = (
        log_evidence(STUDENT.float(), LABELS),
        (log_evidence(x.float(), LABELS) for x in TEACHERS.values()),
    )
    powers = [math.exp(each.score / 0.5) for each in (one, other)]
    now = drawn(8, 5, seed=9)  # the student has learned since
    rows = slice(3, 11)
    total = 0.0
    for phi, psi, other_psi in zip(now, KNOWS[rows], GUESSES[rows], strict=True):
        for number in range(3):
            wanted = sum(
                power / sum(powers) * float(features @ each.means[number])
                for power, features, each in zip(powers, (psi, other_psi), (one, other), strict=True)
            )
            total += (float(phi @ student.means[number]) - wanted) ** 2
    found = objective(*example(now, {name: values[rows] for name, values in TEACHERS.items()}))["b-tuning"]
    assert found.item() == pytest.approx(total / 8 / 3, rel=1e-4)


def test_a_teacher_that_knows_more_counts_more() -> None:
    knows, guesses = prepared().teacher_shares.tolist()
    assert knows > 0.9
    assert knows + guesses == pytest.approx(1.0)


def test_a_high_temperature_lets_all_count_the_same() -> None:
    assert prepared(temperature=1e6).teacher_shares.tolist() == pytest.approx([0.5, 0.5], abs=1e-4)


def test_labels_are_needed() -> None:
    objective = BTuning(5, {"knows": 6}, classes=3)
    assert objective.needs.labels
    with pytest.raises(DataError, match="give it labeled"):
        objective.prepare(labeled(30).without_targets(), examples(STUDENT, {"knows": KNOWS}))


def test_it_has_nothing_to_learn_itself() -> None:
    assert list(prepared().parameters()) == []


def test_a_temperature_that_is_not_positive_is_refused() -> None:
    with pytest.raises(ValueError, match="temperature must be positive"):
        BTuning(5, {"knows": 6}, classes=3, temperature=0.0)
