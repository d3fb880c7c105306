from __future__ import annotations

import math

import pytest
import torch

from tutelage.objectives.collapse import collapse, relative_entropy, spread

HEALTHY = {"teacher_entropy": 0.6, "divergence": 1.0, "spread": 0.8, "prototypes": 256}


def drawn(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def slow_entropy(logits: torch.Tensor, center: torch.Tensor, temperature: float) -> float:
    """One row at a time."""
    found = []
    for row in logits.flatten(0, -2).tolist():
        powers = [
            math.exp((value - middle) / temperature) for value, middle in zip(row, center.tolist(), strict=True)
        ]
        shares = [power / sum(powers) for power in powers]
        found.append(-sum(share * math.log(share) for share in shares) / math.log(len(row)))
    return sum(found) / len(found)


def slow_spread(embeddings: torch.Tensor) -> float:
    """One image at a time: the mean square distance from each view's mean."""
    found = []
    for view in embeddings.tolist():
        mean = [sum(column) / len(view) for column in zip(*view, strict=True)]
        distances = [sum((value - middle) ** 2 for value, middle in zip(row, mean, strict=True)) for row in view]
        found.append(sum(distances) / len(distances))
    return math.sqrt(sum(found) / len(found))


@pytest.mark.parametrize("temperature", [0.5, 2.0])
def test_the_entropy_is_that_of_the_slow_reference(temperature: float) -> None:
    logits, center = drawn(2, 3, 5, seed=0), drawn(5, seed=1)
    found = relative_entropy(logits, center, temperature).item()
    assert found == pytest.approx(slow_entropy(logits, center, temperature), rel=1e-9)


def test_saying_nothing_has_the_largest_entropy() -> None:
    center = drawn(7, seed=1)
    assert relative_entropy(center.expand(4, 7), center, 0.04).item() == pytest.approx(1.0)


def test_being_sure_has_no_entropy() -> None:
    logits = 100 * torch.eye(4, dtype=torch.float64)
    assert relative_entropy(logits, torch.zeros(4, dtype=torch.float64), 0.04).item() == pytest.approx(0.0, abs=1e-9)


def test_the_spread_is_that_of_the_slow_reference() -> None:
    embeddings = torch.nn.functional.normalize(drawn(2, 5, 3, seed=0), dim=2)
    assert spread(embeddings).item() == pytest.approx(slow_spread(embeddings), rel=1e-9)


def test_images_with_the_same_embedding_do_not_spread() -> None:
    views = torch.nn.functional.normalize(drawn(2, 1, 3, seed=0), dim=2)
    assert spread(views.expand(2, 6, 3)).item() == pytest.approx(0.0, abs=1e-7)


def test_opposite_embeddings_spread_as_far_as_they_can() -> None:
    assert spread(torch.tensor([[[0.6, 0.8], [-0.6, -0.8]]])).item() == pytest.approx(1.0)


def test_outputs_that_tell_images_apart_have_not_collapsed() -> None:
    assert collapse(**HEALTHY) is None


def test_a_teacher_that_says_nothing_has_collapsed() -> None:
    assert "prefers no prototype" in (collapse(**{**HEALTHY, "teacher_entropy": 0.9999}) or "")


def test_a_student_that_says_the_same_of_every_image_has_collapsed() -> None:
    found = collapse(**{**HEALTHY, "teacher_entropy": 0.0, "divergence": 0.001, "spread": 0.001})
    assert "says the same of every image" in (found or "")


@pytest.mark.parametrize(("divergence", "settled"), [(1.0, False), (0.001, True)])
def test_embeddings_close_together_have_collapsed_once_views_no_longer_differ(
    divergence: float, settled: bool
) -> None:
    assert (collapse(**{**HEALTHY, "spread": 0.03, "divergence": divergence}) is not None) == settled


def test_a_constant_output_has_collapsed_whatever_its_teacher_says() -> None:
    assert "says the same of every image" in (collapse(**{**HEALTHY, "spread": 0.0}) or "")
