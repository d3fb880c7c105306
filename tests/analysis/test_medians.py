from __future__ import annotations

import itertools

import pytest

from tutelage.analysis.medians import median_interval, median_ratio


@pytest.mark.parametrize("count", [6, 9, 12, 25])
def test_the_interval_of_a_median_is_the_narrowest_that_holds_it_often_enough(count: int) -> None:
    # Every value lies above the median or below, like a coin; counted in all ways, or summed up for many.
    def probability(place: int) -> float:
        ways = 1.0
        below = 0.0
        for heads in range(place):
            below += ways
            ways = ways * (count - heads) / (heads + 1)
        return 1 - 2 * below / 2**count

    found = median_interval([float(value) for value in range(count)])
    assert found is not None
    place = int(found.low) + 1
    assert found.high == count - place
    assert probability(place) >= 0.95 > probability(place + 1)


def test_coins_say_the_same_as_the_formula() -> None:
    outcomes = [sum(coins) for coins in itertools.product((0, 1), repeat=9)]
    found = median_interval(list(range(9)))
    assert found is not None
    place = int(found.low) + 1
    assert sum(place <= heads <= 9 - place for heads in outcomes) / len(outcomes) >= 0.95


def test_few_values_have_no_interval() -> None:
    assert median_interval([1.0] * 5) is None
    assert median_interval([]) is None


def test_ratios_are_taken_pair_by_pair() -> None:
    # The machine becomes ten times slower in between: no matter.
    found = median_ratio([1.1, 11.0, 1.2], [1.0, 10.0, 1.0])
    assert found.median == pytest.approx(1.1)
    assert (found.interval, found.rounds) == (None, 3)
