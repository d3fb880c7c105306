from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from tutelage.data.splits import folds
from tutelage.methods.probe import CachedFeatures, fit_probe
from tutelage.ranking.scores import (
    Split,
    judged_together,
    neighbor_count,
    neighbors_right,
    probe_right,
    score,
    side_by_side,
)

PENALTIES = (1e-3, 1e-1, 10.0)


def rows(
    count: int = 60, width: int = 8, classes: int = 3, *, signal: float = 0.7, seed: int = 0
) -> tuple[Tensor, Tensor]:
    """Features whose means depend on the class by so much, and class numbers."""
    generator = np.random.default_rng(seed)
    targets = generator.permutation(np.arange(count) % classes)
    values = generator.normal(size=(count, width)) + signal * generator.normal(size=(classes, width))[targets]
    return torch.from_numpy(values).float(), torch.from_numpy(targets)


def held_once(targets: Tensor) -> list[Split]:
    every = np.arange(len(targets))
    return [(every[: len(every) // 2], every[len(every) // 2 :])]


def brute_force(features: Tensor, targets: Tensor, splits: list[Split]) -> list[bool]:
    values = features.double().numpy()
    lengths = [float(np.sqrt(sum(value * value for value in row))) for row in values]
    found = []
    for fit, held in splits:
        count = min(5, len(fit) // len({int(targets[row]) for row in fit}))
        for row in held:
            cosines = {int(other): values[row] @ values[other] / lengths[row] / lengths[other] for other in fit}
            nearest = sorted(cosines, key=lambda other: -cosines[other])[:count]
            ballots: dict[int, tuple[int, float]] = {}
            for other in nearest:
                votes, total = ballots.get(int(targets[other]), (0, 0.0))
                ballots[int(targets[other])] = (votes + 1, total + cosines[other])
            found.append(max(ballots, key=lambda number: ballots[number]) == int(targets[row]))
    return found


@pytest.mark.parametrize("count", [9, 12, 60])  # 2, 3 and 5 neighbors
def test_nearest_neighbors_are_those_of_brute_force(count: int) -> None:
    features, targets = rows(count)
    splits = folds(targets.numpy(), seed=0, most=3)
    assert neighbors_right(features, targets, splits).tolist() == brute_force(features, targets, splits)


def test_as_many_neighbors_vote_as_a_class_has_labels() -> None:
    assert [neighbor_count(torch.arange(count) % 3) for count in (3, 7, 9, 300)] == [1, 2, 3, 5]


def test_lengths_of_features_do_not_move_neighbors() -> None:
    features, targets = rows()
    splits = folds(targets.numpy(), seed=0)
    stretched = features * torch.linspace(0.01, 100, len(features))[:, None]
    assert neighbors_right(stretched, targets, splits).tolist() == neighbors_right(features, targets, splits).tolist()


def test_a_fold_s_penalty_is_the_one_that_suits_the_other_folds() -> None:
    features, targets = rows(45, width=40)
    splits = folds(targets.numpy(), seed=0, most=3)
    right: dict[tuple[int, float], list[bool]] = {}
    likely: dict[tuple[int, float], float] = {}
    for fold, (fit, held) in enumerate(splits):
        for penalty in PENALTIES:
            weight, bias = fit_probe(CachedFeatures({}, features[None, fit], targets[fit]), 3, penalty=penalty)
            logits = (features[held] @ weight.T + bias).double()
            wanted = [int(targets[row]) for row in held]
            right[fold, penalty] = [int(row.argmax()) == number for row, number in zip(logits, wanted, strict=True)]
            likely[fold, penalty] = sum(
                float(row[number] - row.logsumexp(0)) for row, number in zip(logits, wanted, strict=True)
            )
    expected: list[bool] = []
    for fold in range(3):
        others = [other for other in range(3) if other != fold]
        worth = {
            penalty: (
                sum(sum(right[each, penalty]) for each in others),
                sum(likely[each, penalty] for each in others),
            )
            for penalty in PENALTIES
        }
        expected += right[fold, max(worth, key=worth.__getitem__)]
    assert probe_right(features, targets, splits, penalties=PENALTIES).tolist() == expected


@pytest.mark.parametrize("held", ["folds", "once"])
def test_labels_without_meaning_are_predicted_by_chance(held: str) -> None:
    # More features than samples: a probe fits all of them, and would be right on every row that it was fitted on.
    features, targets = rows(400, width=500, classes=4, signal=0.0)
    splits = held_once(targets) if held == "once" else folds(targets.numpy(), seed=0)
    found = score(features, targets, np.arange(400), splits, penalties=PENALTIES)
    margin = 4 * np.sqrt(0.25 * 0.75 / len(found.probe))
    assert abs(found.probe.mean() - 0.25) < margin
    assert abs(found.neighbors.mean() - 0.25) < margin


@pytest.mark.parametrize("held", ["folds", "once"])
def test_what_tells_classes_apart_is_recognized(held: str) -> None:
    features, targets = rows(signal=9.0)
    splits = held_once(targets) if held == "once" else folds(targets.numpy(), seed=0)
    found = score(features, targets, np.arange(60), splits, penalties=PENALTIES)
    assert found.probe.all()
    assert found.neighbors.all()
    assert found.evidence > score(*rows(signal=0.1), np.arange(60), splits, penalties=PENALTIES).evidence


def test_features_side_by_side_weigh_the_same() -> None:
    first, second = rows()[0], 1000 * rows(width=3, seed=1)[0]
    both = side_by_side([first, second])
    assert both.shape == (60, 11)
    for part in (both[:, :8], both[:, 8:]):
        assert float(part.norm(dim=1).mean()) == pytest.approx(1.0, abs=1e-6)


def test_features_alone_stay_as_they_are() -> None:
    first = rows()[0]
    assert side_by_side([first]) is first


def test_the_halves_of_one_held_out_part_have_as_many_of_each_class() -> None:
    targets = torch.tensor([0, 1] * 20)  # every other row alone would be of one class
    halves = judged_together(held_once(targets), targets)
    wanted = targets[20:].numpy()
    assert [np.bincount(wanted[halves == half]).tolist() for half in (0, 1)] == [[5, 5], [5, 5]]
