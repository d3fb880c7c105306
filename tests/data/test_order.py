"""The order of texts: like lengths together, all rows seen, another order in every epoch."""

import numpy as np
import pytest

from tutelage.data.order import bucketed


def order(count: int, batch_size: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    lengths = np.random.default_rng(1).integers(1, 500, count)
    rows = np.random.default_rng(seed).permutation(count)
    return bucketed(rows, lengths, batch_size, np.random.default_rng(seed)), lengths


@pytest.mark.parametrize(("count", "batch_size"), [(64, 8), (67, 8), (5, 8), (9, 8), (1000, 1)])
def test_no_row_is_seen_twice_and_no_more_than_the_last_part_batch_is_left_out(count: int, batch_size: int) -> None:
    found, _ = order(count, batch_size)
    assert len(set(found.tolist())) == len(found)
    assert len(found) in (count, count - count % batch_size)


def test_texts_of_a_batch_are_about_equally_long() -> None:
    found, lengths = order(4096, 16)
    spread = np.ptp(lengths[found].reshape(-1, 16), axis=1).mean()
    assert spread < np.ptp(lengths) / 10


def test_batches_do_not_come_by_their_length() -> None:
    found, lengths = order(4096, 16)
    means = lengths[found].reshape(-1, 16).mean(axis=1)
    assert abs(np.corrcoef(means, np.arange(len(means)))[0, 1]) < 0.3


def test_the_same_rows_do_not_meet_in_every_epoch() -> None:
    first, second = (order(256, 16, seed)[0].reshape(-1, 16) for seed in (0, 1))
    assert {frozenset(batch) for batch in first.tolist()} != {frozenset(batch) for batch in second.tolist()}


def test_what_is_left_out_does_not_depend_on_its_length() -> None:
    lengths = np.arange(17)
    rows = np.arange(17)[::-1].copy()  # the shortest comes last
    assert 0 not in bucketed(rows, lengths, 4, np.random.default_rng(0))
