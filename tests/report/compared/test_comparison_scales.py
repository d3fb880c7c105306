from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from tutelage.report.compared.scales import FLOPS, MOST, SECONDS, flops_tick, log_ticks, places, seconds_tick, spread


def test_names_that_have_room_stay_where_they_are() -> None:
    assert spread([90.0, 10.0, 50.0], 17, 0, 100) == [90.0, 10.0, 50.0]


@pytest.mark.parametrize("seed", range(5))
def test_names_keep_their_order_their_distance_and_the_picture(seed: int) -> None:
    wanted = np.random.default_rng(seed).normal(150, 60, 14).clip(0, 300).tolist()
    found = spread(wanted, 20, 0, 300)
    by_wish = [found[place] for place in sorted(range(14), key=wanted.__getitem__)]
    assert min(after - before for before, after in itertools.pairwise(by_wish)) >= 20 - 1e-9
    assert min(found) >= 0
    assert max(found) <= 300


def test_names_that_touch_move_apart_alike() -> None:
    assert spread([50.0, 50.0, 50.0], 10, 0, 100) == pytest.approx([40.0, 50.0, 60.0])


def test_counts_of_one_kind_are_placed_by_their_logarithms() -> None:
    spots, name = places(["1", "10", "1000"])
    assert [spots[amount] for amount in ("1", "10", "1000")] == pytest.approx([0.0, 1 / 3, 1.0])
    assert name == "labels a class (logarithmic)"


def test_where_every_pixel_is_told_labels_are_images() -> None:
    assert places(["10", "100"], dense=True)[1] == "labeled images (logarithmic)"


@pytest.mark.parametrize("labels", [["5", "10%", "all"], ["5", "10%", "20%"], ["max:5", "10", "20"]])
def test_counts_of_several_kinds_are_placed_evenly(labels: list[str]) -> None:
    spots, name = places(labels)
    assert list(spots.values()) == [0.0, 0.5, 1.0]
    assert name == "labels"


@pytest.mark.parametrize("nice", [FLOPS, SECONDS], ids=["flops", "seconds"])
@pytest.mark.parametrize("reach", [2, 5, 30, 300, 5e4, 1e6])
@pytest.mark.parametrize("low", [0.7, 40.0, 3e3])
def test_a_logarithmic_axis_has_some_ticks_but_not_many(nice: list[list[float]], reach: float, low: float) -> None:
    found = log_ticks(low, low * reach, nice)
    assert 1 <= len(found) <= MOST
    assert all(low <= tick <= low * reach for tick in found)


def test_wide_ranges_of_flops_have_whole_powers_of_ten() -> None:
    assert all(math.log10(tick) == pytest.approx(round(math.log10(tick))) for tick in log_ticks(3e11, 4e15, FLOPS))


@pytest.mark.parametrize(("value", "words"), [(1e12, "1 T"), (2e13, "20 T"), (5e11, "500 G"), (1.0, "1")])
def test_round_flops_have_no_zeros_behind(value: float, words: str) -> None:
    assert flops_tick(value) == words


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (0.5, "0.5 s"),
        (1, "1 s"),
        (60, "1 min"),
        (1200, "20 min"),
        (36_000, "10 h"),
        (86_400, "1 d"),
        (864_000, "10 d"),
    ],
)
def test_round_times_have_no_zeros_behind(value: float, words: str) -> None:
    assert seconds_tick(value) == words
