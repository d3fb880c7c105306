from __future__ import annotations

import time

import pytest
import torch
from torch import nn

from tutelage.ledger import Cost, counted, measured

CPU = torch.device("cpu")


def test_a_linear_layer_takes_two_operations_a_multiply_add() -> None:
    layer = nn.Linear(7, 5)
    assert counted(lambda: layer(torch.ones(3, 7)))[1] == 2 * 3 * 7 * 5


def test_the_backward_pass_counts() -> None:
    # For each of the gradients of weight and input as much as for the forward pass.
    layer, inputs = nn.Linear(7, 5), torch.ones(3, 7, requires_grad=True)
    assert counted(lambda: layer(inputs).sum().backward())[1] == 3 * 2 * 3 * 7 * 5


def test_counting_gives_back_the_result() -> None:
    assert counted(lambda: "result") == ("result", 0.0)


def test_costs_add_up() -> None:
    cost = Cost(images=2, flops=3.0, waiting=0.5)
    cost.add(Cost(images=5, flops=7.0, waiting=0.25))
    assert (cost.images, cost.flops, cost.waiting) == (7, 10.0, 0.75)


def test_seconds_of_a_part_are_not_counted_twice() -> None:
    cost = Cost(seconds=10.0)
    cost.add(Cost(seconds=4.0))
    assert cost.seconds == 10.0


def test_seconds_of_earlier_attempts_are_not_forgotten() -> None:
    cost = Cost(seconds=10.0)
    cost.add(Cost(seconds=4.0, earlier=3.0))
    assert (cost.seconds, cost.earlier) == (13.0, 3.0)


def test_the_largest_memory_of_all_parts_counts() -> None:
    cost = Cost(peak_memory=5)
    cost.add(Cost(peak_memory=9))
    assert cost.peak_memory == 9


def test_measuring_adds_seconds() -> None:
    cost = Cost(seconds=100.0)
    with measured(cost, CPU):
        time.sleep(0.02)
    assert 100.02 <= cost.seconds < 110


def test_measuring_sees_the_memory_of_this_process() -> None:
    with measured(Cost(), CPU) as cost:
        pass
    # torch alone takes tens of megabytes; in a wrong unit this would be kilobytes or terabytes.
    assert 2**24 < cost.peak_memory < 2**40


def test_measuring_names_the_device() -> None:
    with measured(Cost(), CPU) as cost:
        pass
    assert cost.device == "cpu"


def test_work_that_fails_is_measured_too() -> None:
    cost = Cost()
    with pytest.raises(ValueError, match="non-negative"), measured(cost, CPU):
        time.sleep(-1)
    assert cost.seconds > 0
