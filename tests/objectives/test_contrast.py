from __future__ import annotations

import itertools
import math
from collections import Counter
from typing import Any

import pytest
import torch
from rows import drawn
from torch import Tensor

from tutelage.objectives import blended_rows, draw_negatives, info_nce, log_normalizer, nce_loss
from tutelage.objectives.contrast import last_places

DRAWS = ["shared", "separate"]


def cosine(one: list[float], other: list[float]) -> float:
    dot = sum(a * b for a, b in zip(one, other, strict=True))
    return dot / math.sqrt(sum(a * a for a in one)) / math.sqrt(sum(b * b for b in other))


def slow_info_nce(student: Tensor, teacher: Tensor, temperature: float) -> float:
    """One pair at a time."""
    count = len(student)
    z = [[cosine(s.tolist(), t.tolist()) / temperature for t in teacher] for s in student]
    rows = [math.log(sum(math.exp(z[i][j]) for j in range(count))) - z[i][i] for i in range(count)]
    columns = [math.log(sum(math.exp(z[j][i]) for j in range(count))) - z[i][i] for i in range(count)]
    return (sum(rows) + sum(columns)) / (2 * count)


@pytest.mark.parametrize("temperature", [0.07, 1.0])
def test_info_nce_is_that_of_the_slow_reference(temperature: float) -> None:
    student, teacher = drawn(6, 4, seed=0), drawn(6, 4, seed=1)
    found = info_nce(student, teacher, temperature=temperature).item()
    assert found == pytest.approx(slow_info_nce(student, teacher, temperature), rel=1e-9)


def test_info_nce_of_embeddings_that_say_nothing_is_that_of_chance() -> None:
    same = torch.ones(8, 3, dtype=torch.float64)
    assert info_nce(same, same).item() == pytest.approx(math.log(8))


def test_info_nce_does_not_see_lengths() -> None:
    student, teacher = drawn(6, 4, seed=0), drawn(6, 4, seed=1)
    assert info_nce(5 * student, teacher).item() == pytest.approx(info_nce(student, teacher).item())


@pytest.mark.parametrize(
    ("student", "teacher", "temperature", "said"),
    [
        ((4, 3), (4, 2), 0.1, "share a shape"),
        ((4, 3, 1), (4, 3, 1), 0.1, "share a shape"),
        ((1, 3), (1, 3), 0.1, "batch of one"),
        ((4, 3), (4, 3), 0.0, "temperature"),
    ],
)
def test_what_cannot_be_contrasted_is_refused(
    student: tuple[int, ...], teacher: tuple[int, ...], temperature: float, said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        info_nce(drawn(*student, seed=0), drawn(*teacher, seed=1), temperature=temperature)


# Noise-contrastive estimation. Scores are given as what they are the logarithm of, e^s.


def logs(*values: Any) -> Tensor:
    return torch.tensor(values, dtype=torch.float64).log()


def test_nce_of_an_example_worked_out_by_hand() -> None:
    # h(2) = 2 / (2 + 1/2) = 4/5, and h(1/2) = 1/2.
    found = nce_loss(logs(2.0), logs([0.5]), noise=0.5)
    assert found.item() == pytest.approx(-math.log(4 / 5) - math.log(1 / 2), rel=1e-12)


def test_nce_with_a_normalizer_worked_out_by_hand() -> None:
    # With Z = 2: h(2) = 1 / (1 + 1/2) = 2/3, and 1 - h(1/2) = (1/2) / (1/4 + 1/2) = 2/3.
    found = nce_loss(logs(2.0), logs([0.5]), noise=0.5, log_z=math.log(2))
    assert found.item() == pytest.approx(-2 * math.log(2 / 3), rel=1e-12)


def test_nce_counts_a_negative_as_often_as_it_was_drawn() -> None:
    # 1 - h(1/2) = 1/2, twice; 1 - h(8) = (1/2) / (17/2), not at all.
    counts = torch.tensor([[2, 0]])
    found = nce_loss(logs(2.0), logs([0.5, 8.0]), noise=0.5, counts=counts)
    assert found.item() == pytest.approx(-math.log(4 / 5) - 2 * math.log(1 / 2), rel=1e-12)


def slow_nce(positive: Tensor, negative: Tensor, noise: float, z: float, counts: Tensor | None = None) -> float:
    """One score at a time, by the definition."""

    def h(score: float) -> float:
        return math.exp(score) / z / (math.exp(score) / z + noise)

    found = 0.0
    for i in range(len(positive)):
        found += math.log(h(positive[i].item()))
        for k in range(negative.shape[1]):
            often = 1 if counts is None else counts[i, k].item()
            found += often * math.log(1 - h(negative[i, k].item()))
    return -found / len(positive)


@pytest.mark.parametrize("z", [1.0, 40.0])
@pytest.mark.parametrize("counted", [False, True])
def test_nce_is_that_of_the_slow_reference(z: float, counted: bool) -> None:
    positive, negative = 3 * drawn(4, seed=0), 3 * drawn(4, 6, seed=1)
    counts = torch.tensor([[0, 1, 2, 3, 0, 1]]).expand(4, 6) if counted else None
    found = nce_loss(positive, negative, noise=0.7, log_z=math.log(z), counts=counts).item()
    assert found == pytest.approx(slow_nce(positive, negative, 0.7, z, counts), rel=1e-9)


def test_nce_stays_finite_where_the_definition_overflows() -> None:
    positive, negative = torch.tensor([-200.0]), torch.tensor([[200.0]])
    assert nce_loss(positive, negative, noise=1.0).item() == pytest.approx(400.0)


def test_the_normalizer_of_an_example_worked_out_by_hand() -> None:
    # N = 10; the scores that count are 1, 3, 2, 2 (twice) and 8: their mean is 18 / 6.
    counts = torch.tensor([[1, 0], [2, 1]])
    found = log_normalizer(logs(1.0, 3.0), logs([2.0, 5.0], [2.0, 8.0]), size=10, counts=counts)
    assert found.exp().item() == pytest.approx(10 * 18 / 6, rel=1e-12)


def test_the_normalizer_makes_the_mean_score_the_density_of_noise() -> None:
    positive, negative = drawn(4, seed=0), drawn(4, 6, seed=1)
    z = log_normalizer(positive, negative, size=10).exp()
    every = torch.cat([positive, negative.flatten()])
    assert (every.exp() / z).mean().item() == pytest.approx(1 / 10)


@pytest.mark.parametrize(
    ("positive", "negative", "counts", "noise", "said"),
    [
        ((4, 1), (4, 2), None, 1.0, r"\[B\] and \[B, K\]"),
        ((4,), (4,), None, 1.0, r"\[B\] and \[B, K\]"),
        ((4,), (3, 2), None, 1.0, r"\[B\] and \[B, K\]"),
        ((4,), (4, 2), (4, 3), 1.0, r"counts must be \[4, 2\]"),
        ((4,), (4, 2), None, 0.0, "noise must be positive"),
    ],
)
def test_scores_that_do_not_belong_together_are_refused(
    positive: tuple[int, ...], negative: tuple[int, ...], counts: tuple[int, ...] | None, noise: float, said: str
) -> None:
    often = None if counts is None else torch.ones(counts)
    with pytest.raises(ValueError, match=said):
        nce_loss(drawn(*positive, seed=0), drawn(*negative, seed=1), noise=noise, counts=often)


# Rows of a bank.


def test_a_row_moves_towards_the_newest_embedding() -> None:
    rows, newest = torch.eye(2, dtype=torch.float64), torch.eye(2, dtype=torch.float64).flip(0)
    found = blended_rows(rows, newest, momentum=0.8)
    expected = torch.tensor([[0.8, 0.2], [0.2, 0.8]], dtype=torch.float64) / math.hypot(0.8, 0.2)
    torch.testing.assert_close(found, expected)


def test_an_empty_row_becomes_the_embedding() -> None:
    newest = torch.nn.functional.normalize(drawn(2, 3, seed=0), dim=1)
    torch.testing.assert_close(blended_rows(torch.zeros_like(newest), newest, momentum=0.9), newest)


@pytest.mark.parametrize("momentum", [-0.1, 1.0, 1.5])
def test_a_momentum_outside_is_refused(momentum: float) -> None:
    with pytest.raises(ValueError, match=r"momentum must be in 0\.\.1"):
        blended_rows(torch.zeros(2, 3), torch.ones(2, 3), momentum=momentum)


def test_rows_and_embeddings_must_belong_together() -> None:
    with pytest.raises(ValueError, match="share a shape"):
        blended_rows(torch.zeros(2, 3), torch.ones(3, 3), momentum=0.5)


def test_a_row_is_found_where_it_stands_last() -> None:
    assert last_places(torch.tensor([3, 5, 3, 7])).tolist() == [2, 1, 2, 3]


# Draws.


def negatives(own: list[int], count: int, size: int, key: int, draws: Any = "shared") -> list[Counter[int]]:
    """How often each anchor has each row among its negatives."""
    draw = draw_negatives(torch.tensor(own), count, size, key=[key], draws=draws)
    return [
        Counter({int(row): int(often) for row, often in zip(draw.rows, line, strict=True) if often})
        for line in draw.counts
    ]


@pytest.mark.parametrize("count", [1, 3, 6, 7])
def test_a_shared_draw_gives_each_anchor_so_many_different_others(count: int) -> None:
    own = [0, 3, 7, 3]
    for key in range(20):
        for anchor, found in zip(own, negatives(own, count, 8, key), strict=True):
            assert len(found) == found.total() == count
            assert anchor not in found


def test_a_draw_of_as_many_as_there_are_is_all_others() -> None:
    assert negatives([2], 4, 5, 0) == [Counter([0, 1, 3, 4])]


def test_every_set_of_others_is_as_likely() -> None:
    turns = 4000
    found = Counter(frozenset(negatives([1, 4], 2, 5, key)[0]) for key in range(turns))
    assert found.keys() == {frozenset(each) for each in itertools.combinations([0, 2, 3, 4], 2)}
    assert all(often / turns == pytest.approx(1 / 6, abs=0.03) for often in found.values())


def test_separate_draws_are_uniform_over_all_and_with_replacement() -> None:
    turns, found = 1000, Counter[int]()
    for key in range(turns):
        (one, other) = negatives([1, 4], 4, 5, key, "separate")
        assert one.total() == other.total() == 4
        found += one
    assert found.keys() == set(range(5))
    assert all(often / (4 * turns) == pytest.approx(1 / 5, abs=0.03) for often in found.values())


def test_separate_draws_differ_between_anchors() -> None:
    one, other = negatives([1, 4], 8, 1000, 0, "separate")
    assert one != other


@pytest.mark.parametrize("draws", DRAWS)
def test_a_draw_is_a_function_of_its_key(draws: str) -> None:
    first, again, other = (negatives([1, 4], 8, 1000, key, draws) for key in (3, 3, 4))
    assert first == again != other


@pytest.mark.parametrize("draws", DRAWS)
def test_a_draw_leaves_the_random_numbers_of_training_alone(draws: str) -> None:
    before = torch.get_rng_state()
    negatives([1, 4], 8, 1000, 0, draws)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("count", "size", "draws", "said"),
    [
        (0, 5, "shared", "negatives must be 1 to 4"),
        (5, 5, "shared", "negatives must be 1 to 4"),
        (1, 1, "shared", "a single sample has nothing to contrast with"),
        (1, 5, "others", "draws must be"),
    ],
)
def test_a_draw_that_cannot_be_made_is_refused(count: int, size: int, draws: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        negatives([0], count, size, 0, draws)
