from __future__ import annotations

import pytest
from tiny_models import tiny_model

from tutelage.training.schedule import Schedule, cosine, decayed_groups, learning_rate_factor

SCHEDULE = Schedule(steps=1, batch_size=1, learning_rate=0.1, weight_decay=0.3)


def test_warm_up_rises_by_equal_steps_to_the_peak() -> None:
    factors = [learning_rate_factor(step, 100, 0.04) for step in range(5)]
    assert factors == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])


def test_without_warm_up_the_first_step_is_the_peak() -> None:
    assert learning_rate_factor(0, 10, 0.0) == 1.0


def test_half_way_down_the_rate_is_half() -> None:
    assert learning_rate_factor(60, 100, 0.2) == pytest.approx(0.5)


@pytest.mark.parametrize(("steps", "warmup"), [(1, 0.0), (1, 0.99), (2, 0.5), (7, 0.1), (300, 0.1)])
def test_no_step_is_wasted_on_a_rate_of_zero(steps: int, warmup: float) -> None:
    assert all(0 < learning_rate_factor(step, steps, warmup) <= 1 for step in range(steps))


def test_every_trained_parameter_is_in_one_group() -> None:
    model = tiny_model()
    grouped = [id(parameter) for group in decayed_groups([model], SCHEDULE) for parameter in group["params"]]
    assert sorted(grouped) == sorted(id(parameter) for parameter in model.parameters())


def test_frozen_parameters_are_in_no_group() -> None:
    model = tiny_model()
    model.encoder.requires_grad_(False)
    grouped = [parameter for group in decayed_groups([model], SCHEDULE) for parameter in group["params"]]
    assert {id(parameter) for parameter in grouped} == {id(parameter) for parameter in model.head.parameters()}


def test_matrices_are_decayed_and_vectors_are_not() -> None:
    found = {
        parameter.ndim > 1: group["weight_decay"]
        for group in decayed_groups([tiny_model()], SCHEDULE)
        for parameter in group["params"]
    }
    assert found == {True: 0.3, False: 0.0}


@pytest.mark.parametrize(("progress", "expected"), [(0.0, 0.04), (0.5, 0.22), (1 / 3, 0.13), (1.0, 0.4)])
def test_a_cosine_goes_from_one_value_to_another(progress: float, expected: float) -> None:
    assert cosine(0.04, 0.4, progress) == pytest.approx(expected)


def test_decay_grows_along_a_cosine_over_the_steps() -> None:
    schedule = Schedule(steps=4, batch_size=1, learning_rate=0.1, weight_decay=0.04, final_weight_decay=0.4)
    found = [0.04 * schedule.weight_decay_factor(step) for step in range(4)]
    assert found == pytest.approx([cosine(0.04, 0.4, step / 4) for step in range(4)])


def test_without_a_last_value_decay_stays_as_it_is() -> None:
    assert [SCHEDULE.weight_decay_factor(step) for step in range(3)] == [1.0, 1.0, 1.0]


def test_decay_may_end_at_none() -> None:
    schedule = SCHEDULE.model_copy(update={"steps": 2, "final_weight_decay": 0.0})
    assert [schedule.weight_decay_factor(step) for step in range(2)] == pytest.approx([1.0, 0.5])


def test_decay_that_starts_at_none_cannot_grow() -> None:
    with pytest.raises(ValueError, match="nothing to start from"):
        Schedule(steps=1, batch_size=1, learning_rate=0.1, weight_decay=0.0, final_weight_decay=0.4)
