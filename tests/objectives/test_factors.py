from __future__ import annotations

import copy
import math

import pytest
import torch
from rows import drawn, example, examples, labeled
from torch import nn

from tutelage.objectives import Factors, factor_distance, factors
from tutelage.objectives.factors import fitted_encoder

# Names of models have dots.
WIDTHS = {"timm:one.two": 6, "other": 5}


def slow_factor_distance(student, teacher) -> float:
    def direction(row: list[float]) -> list[float]:
        norm = math.sqrt(sum(value * value for value in row)) + 1e-8
        return [value / norm for value in row]

    pairs = zip(student.tolist(), teacher.tolist(), strict=True)
    found = [sum(abs(a - b) for a, b in zip(direction(one), direction(other), strict=True)) for one, other in pairs]
    return sum(found) / len(found)


def test_distance_is_that_of_the_slow_reference() -> None:
    student, teacher = drawn(6, 4, seed=0), drawn(6, 4, seed=1)
    teacher[2] = 0.0
    found = factor_distance(student, teacher).item()
    assert found == pytest.approx(slow_factor_distance(student, teacher), rel=1e-9)


def test_codes_that_point_the_same_way_have_no_distance() -> None:
    factors = drawn(6, 4, seed=0)
    assert factor_distance(3 * factors, factors).item() == pytest.approx(0.0, abs=1e-7)


@pytest.mark.parametrize(("one", "other"), [((4, 3), (4, 1)), ((4, 3), (1, 3)), ((4,), (4,))])
def test_codes_of_other_shapes_are_refused(one, other) -> None:
    with pytest.raises(ValueError, match=r"same B|share a width"):
        factor_distance(torch.ones(one), torch.ones(other))


def layers(module: nn.Module) -> list[tuple[int, int] | str]:
    return [(x.in_features, x.out_features) if isinstance(x, nn.Linear) else type(x).__name__ for x in module]


def test_the_maps_have_the_sizes_of_the_source() -> None:
    objective = Factors(7, WIDTHS)
    assert layers(objective.encoders[0]) == [(6, 6), "ReLU", (6, 3), "ReLU", (3, 3)]
    assert layers(objective.encoders[1]) == [(5, 5), "ReLU", (5, 2), "ReLU", (2, 2)]
    assert layers(objective.translator) == [(7, 7), "ReLU", (7, 5), "ReLU", (5, 5)]


def test_the_objective_compares_with_each_teachers_code_after_its_relu() -> None:
    objective = Factors(7, WIDTHS)
    student, one, other = (drawn(8, width, seed=width, dtype=torch.float32) for width in (7, 6, 5))
    found = objective(*example(student, {"other": other, "timm:one.two": one}))["ft"]
    codes = torch.cat([objective.encoders[0](one).clamp(min=0), objective.encoders[1](other).clamp(min=0)], dim=1)
    torch.testing.assert_close(found, factor_distance(objective.translator(student), codes))


def teachers(count: int):
    """Features that a few numbers say all of."""
    generator = torch.Generator().manual_seed(0)
    few = torch.randn(count, 2, generator=generator)
    return {name: few @ torch.randn(2, width, generator=generator) for name, width in WIDTHS.items()}


def prepared(*, seed: int = 0, count: int = 60) -> Factors:
    torch.manual_seed(99)
    objective = Factors(7, WIDTHS, seed=seed)
    objective.prepare(labeled(count), examples(drawn(count, 7, seed=1), teachers(count), size=16))
    return objective


@pytest.fixture(scope="module")
def fitted() -> tuple[nn.Module, list[float], list[nn.Module]]:
    """A fitted encoder, and the held-out error and the encoder after each pass."""
    errors: list[float] = []
    encoders: list[nn.Module] = []

    def watched(coder, features, rows, device) -> float:
        errors.append(error(coder, features, rows, device))
        encoders.append(copy.deepcopy(coder[0]))
        return errors[-1]

    error = factors._error
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(factors, "_error", watched)
        patch.setattr(factors, "PATIENT_STEPS", 50)
        generator = torch.Generator().manual_seed(0)
        features = torch.randn(400, 2, generator=generator) @ torch.randn(2, 16, generator=generator)
        return fitted_encoder(features, seed=0), errors, encoders


def test_an_autoencoder_learns_to_reconstruct_what_it_has_not_seen(fitted) -> None:
    _, errors, _ = fitted
    assert min(errors) < 0.1 * errors[0]


def test_the_encoder_that_reconstructs_held_out_samples_best_is_kept(fitted) -> None:
    encoder, errors, encoders = fitted
    best = encoders[errors.index(min(errors))].state_dict()
    assert all(torch.equal(value, best[name]) for name, value in encoder.state_dict().items())


def test_an_autoencoder_is_done_after_ten_passes_without_a_better_one(monkeypatch: pytest.MonkeyPatch) -> None:
    given = iter([3.0, 2.0, 2.5, 1.0, *range(2, 100)])
    seen: list[float] = []
    monkeypatch.setattr(factors, "_error", lambda *_: seen.append(next(given)) or seen[-1])
    monkeypatch.setattr(factors, "PATIENT_STEPS", 1)
    fitted_encoder(teachers(60)["other"], seed=0)
    assert len(seen) == 4 + 10


def test_fitting_is_a_pure_function_of_rows_and_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(factors, "EPOCHS", 3)
    first, second, other = prepared(), prepared(), prepared(seed=1)
    pairs = list(zip(first.encoders.parameters(), second.encoders.parameters(), strict=True))
    assert all(torch.equal(one, again) for one, again in pairs)
    assert not torch.equal(next(first.encoders.parameters()), next(other.encoders.parameters()))


def test_fitted_autoencoders_are_frozen_and_the_translator_learns_at_the_students_rate(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(factors, "EPOCHS", 3)
    objective = prepared()
    (group,) = objective.param_groups(1e-4)
    assert group["lr"] == 1e-4
    assert {id(each) for each in group["params"]} == {id(each) for each in objective.translator.parameters()}
