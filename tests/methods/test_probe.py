from __future__ import annotations

import numpy as np
import pytest
import torch

from tutelage.data.samples import Samples
from tutelage.methods.probe import CachedFeatures, augmented_views, fit_probe


def cached(classes: int, *, views: int = 2, count: int = 24, width: int = 4, seed: int = 0) -> CachedFeatures:
    """Features of very different scales and offsets, whose means depend on the class."""
    generator = np.random.default_rng(seed)
    targets = np.arange(count) % classes
    centers = generator.normal(size=(classes, width))
    values = centers[targets] + 0.8 * generator.normal(size=(views, count, width))
    values = values * np.array([0.1, 1.0, 5.0, 20.0]) + np.array([3.0, 0.0, -20.0, 100.0])
    rows = {str(row): row for row in range(count)}
    return CachedFeatures(rows, torch.from_numpy(values).float(), torch.from_numpy(targets))


def standardized(features: CachedFeatures) -> tuple[np.ndarray, np.ndarray]:
    values = features.values.double().numpy().reshape(-1, features.values.shape[2])
    return (values - values.mean(0)) / values.std(0), np.tile(features.targets.numpy(), len(features.values))


def slow_probe(values: np.ndarray, targets: np.ndarray, classes: int, penalty: float) -> np.ndarray:
    """Plain gradient descent, to a standstill; returns logits with the mean over classes taken out."""
    weight, bias = np.zeros((classes, values.shape[1])), np.zeros(classes)
    wanted = np.eye(classes)[targets]
    for _ in range(6000):
        logits = values @ weight.T + bias
        powers = np.exp(logits - logits.max(1, keepdims=True))
        error = (powers / powers.sum(1, keepdims=True) - wanted) / len(values)
        weight -= 0.5 * (error.T @ values + penalty * weight)
        bias -= 0.5 * error.sum(0)
    logits = values @ weight.T + bias
    return logits - logits.mean(1, keepdims=True)


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("penalty", [0.03, 0.3])
def test_the_probe_is_the_slow_reference_on_raw_features(classes: int, penalty: float) -> None:
    # On raw features: standardization is folded into weight and bias.
    features = cached(classes)
    weight, bias = fit_probe(features, classes, penalty=penalty)
    found = features.values.reshape(-1, 4) @ weight.T + bias
    found = (found - found.mean(1, keepdim=True)).numpy()
    np.testing.assert_allclose(found, slow_probe(*standardized(features), classes, penalty), atol=0.02)


@pytest.mark.parametrize("missing", [0, 1, 3])
@pytest.mark.parametrize("present", [2, 3])
def test_a_class_without_samples_is_never_predicted(missing: int, present: int) -> None:
    features = cached(present)
    numbers = torch.tensor([number for number in range(4) if number != missing])[features.targets]
    weight, bias = fit_probe(CachedFeatures(features.rows, features.values, numbers), 4, penalty=0.03)
    logits = features.values.reshape(-1, 4) @ weight.T + bias
    assert missing not in logits.argmax(1)


@pytest.mark.parametrize("missing", [0, 1, 3])
def test_a_class_without_samples_moves_no_other(missing: int) -> None:
    features = cached(3)
    kept = [number for number in range(4) if number != missing]
    numbers = torch.tensor(kept)[features.targets]
    weight, bias = fit_probe(CachedFeatures(features.rows, features.values, numbers), 4, penalty=0.03)
    alone, alone_bias = fit_probe(features, 3, penalty=0.03)
    torch.testing.assert_close(weight[kept], alone)
    torch.testing.assert_close(bias[kept], alone_bias)


def test_a_feature_that_never_changes_gets_no_say() -> None:
    features = cached(3)
    features.values[:, :, 1] = 5.0
    weight, bias = fit_probe(features, 3, penalty=0.03)
    assert weight.isfinite().all()
    assert bias.isfinite().all()
    torch.testing.assert_close(weight[:, 1], torch.zeros(3), atol=1e-4, rtol=0.0)


def test_features_of_some_samples_are_theirs() -> None:
    features = cached(3)
    some = features.of(Samples(("7", "2")))
    assert torch.equal(some.values, features.values[:, [7, 2]])
    assert torch.equal(some.targets, features.targets[[7, 2]])


def test_features_of_some_samples_can_be_picked_again() -> None:
    features = cached(3)
    assert torch.equal(features.of(Samples(("7", "2", "9"))).of(Samples(("9",))).values, features.values[:, [9]])


def test_features_stay_as_they_are() -> None:
    features = cached(3)
    before = features.values.clone()
    fit_probe(features, 3, penalty=0.1)
    assert torch.equal(features.values, before)


@pytest.mark.parametrize(
    ("asked", "images", "views"),
    [(7, 100, 7), (7, 1 << 17, 7), (7, (1 << 17) + 1, 6), (3, 1 << 19, 1), (7, 1 << 20, 0), (7, 2_000_000, 0)],
)
def test_many_images_are_seen_in_fewer_views(asked: int, images: int, views: int) -> None:
    assert augmented_views(asked, images) == views
