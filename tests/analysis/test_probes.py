from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from tutelage.analysis.probes import SHARES, Labeled, fit_path, penalty_grid, probe, probe_gain


def labeled(classes: int, count: int = 30, width: int = 4, *, seed: int = 0) -> Labeled:
    """Features of different lengths, far from zero, whose means depend on the class."""
    generator = np.random.default_rng(seed)
    centers = np.random.default_rng(9).normal(size=(classes, width))
    targets = np.arange(count) % classes
    values = (centers[targets] + generator.normal(size=(count, width))) * np.linspace(0.5, 2.0, width) + 3.0
    return Labeled(torch.from_numpy(values), torch.from_numpy(targets))


def slow_logits(fit: Labeled, seen: Tensor, penalty: float, classes: int) -> Tensor:
    """Plain gradient descent on the features as they are, to a standstill; the mean over classes taken out."""
    mean = fit.features.mean(0)
    values, wanted = (fit.features - mean).numpy(), np.eye(classes)[fit.targets.numpy()]
    weight, bias = np.zeros((classes, values.shape[1])), np.zeros(classes)
    rate = 1 / (np.linalg.norm(values, 2) ** 2 / len(values) + penalty + 1)
    for _ in range(3000):
        powers = np.exp(values @ weight.T + bias)
        error = (powers / powers.sum(1, keepdims=True) - wanted) / len(values)
        weight -= rate * (error.T @ values + penalty * weight)
        bias -= 0.5 * error.sum(0)
    logits = (seen - mean).numpy() @ weight.T + bias
    return torch.from_numpy(logits - logits.mean(1, keepdims=True))


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("width", [4, 40])  # also more features than samples, where another basis is taken
def test_the_path_is_the_slow_reference_at_every_penalty(classes: int, width: int) -> None:
    fit, seen = labeled(classes, width=width), labeled(classes, 12, width, seed=1).features
    penalties = [1.0, 3.0, 10.0]
    found = fit_path(fit, seen, penalties, classes=classes)
    for logits, penalty in zip(found, penalties, strict=True):
        torch.testing.assert_close(
            logits - logits.mean(1, keepdim=True), slow_logits(fit, seen, penalty, classes), atol=5e-3, rtol=0
        )


def test_a_longer_feature_is_cheaper_to_use() -> None:
    fit, seen = labeled(3), labeled(3, seed=1).features
    plain = fit_path(fit, seen, [1.0], classes=3)
    scale = torch.tensor([2.0, 2.0, 2.0, 2.0], dtype=torch.float64)
    # All twice as long is a quarter of the penalty; one of them alone is another problem.
    same = fit_path(Labeled(fit.features * scale, fit.targets), seen * scale, [4.0], classes=3)
    torch.testing.assert_close(plain, same, atol=1e-3, rtol=0)
    scale[1:] = 1.0
    other = fit_path(Labeled(fit.features * scale, fit.targets), seen * scale, [1.0], classes=3)
    assert float((plain - other).abs().max()) > 0.05


def test_a_class_without_samples_is_refused() -> None:
    with pytest.raises(ValueError, match="samples of 4 classes, got 3"):
        fit_path(labeled(3), labeled(3).features, [1.0], classes=4)


def noisy(count: int, *, seed: int, loud: float = 0.5) -> Labeled:
    """Three features that know the class, and sixty that do not."""
    generator = np.random.default_rng(seed)
    targets = np.arange(count) % 3
    known = np.eye(3)[targets] + 0.4 * generator.normal(size=(count, 3))
    values = np.concatenate([known, loud * generator.normal(size=(count, 60))], axis=1)
    return Labeled(torch.from_numpy(values), torch.from_numpy(targets))


def halves(whole: Labeled) -> list[tuple[Labeled, Labeled]]:
    first, second = (
        torch.arange(0, len(whole.targets) // 2),
        torch.arange(len(whole.targets) // 2, len(whole.targets)),
    )
    parts = [Labeled(whole.features[rows], whole.targets[rows]) for rows in (first, second)]
    return [(parts[0], parts[1]), (parts[1], parts[0])]


def test_weights_that_know_what_is_noise_make_a_better_probe() -> None:
    whole, test = noisy(60, seed=0), noisy(300, seed=1)
    weights = torch.cat([torch.ones(3), torch.full((60,), 0.05)])
    found = probe_gain(weights, whole, halves(whole), test, classes=3)
    assert found.difference is not None
    assert found.interval is not None
    assert found.difference > 0.1
    assert found.interval.low > 0
    assert found.images == 300


def test_equal_weights_change_nothing() -> None:
    whole, test = noisy(60, seed=0), noisy(300, seed=1)
    # A root of ten is a step of the grid: squared, two.
    found = probe_gain(torch.full((63,), 10**-0.5), whole, halves(whole), test, classes=3)
    assert found.weighted.penalty == pytest.approx(found.plain.penalty / 10)
    assert found.difference == 0


def test_test_data_choose_nothing() -> None:
    whole, test = noisy(60, seed=0), noisy(90, seed=1)
    penalties = penalty_grid(whole.features)
    alone = probe(whole, halves(whole), None, penalties, classes=3)
    upside_down = Labeled(test.features, (test.targets + 1) % 3)
    both = [probe(whole, halves(whole), part, penalties, classes=3) for part in (test, upside_down)]
    assert {(each.penalty, each.held_out) for each in both} == {(alone.penalty, alone.held_out)}
    assert alone.test is None
    assert both[0].test != both[1].test


def test_the_penalty_is_the_one_whose_held_out_predictions_are_best() -> None:
    whole = noisy(60, seed=0)
    penalties = penalty_grid(whole.features)[6:]  # with weaker ones, there is no end to a fit
    rights = []
    for penalty in penalties:
        right = [
            fit_path(fit, held.features, [penalty], classes=3)[0].argmax(1) == held.targets
            for fit, held in halves(whole)
        ]
        rights.append(float(torch.cat(right).double().mean()))
    found = probe(whole, halves(whole), None, penalties, classes=3)
    assert min(rights) < found.held_out == pytest.approx(max(rights))
    assert found.held_out == rights[penalties.index(found.penalty)]
    assert found.edge is None


@pytest.mark.parametrize(("part", "edge"), [(slice(0, 5), "strongest"), (slice(-3, None), "weakest")])
def test_a_penalty_at_an_edge_of_the_grid_is_told(part: slice, edge: str) -> None:
    whole = noisy(60, seed=0, loud=0.3)
    penalties = penalty_grid(whole.features)[part]
    assert probe(whole, halves(whole), None, penalties, classes=3).edge == edge


def test_a_grid_suits_features_of_any_length() -> None:
    features = labeled(3).features
    grid, longer = penalty_grid(features), penalty_grid(10 * features)
    assert len(grid) == len(SHARES)
    assert longer == pytest.approx([100 * penalty for penalty in grid])
    assert all(penalty > 0 for penalty in penalty_grid(torch.ones(3, 2)))
