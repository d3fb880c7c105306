from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from tests.models.tiny_clips import WIDTH, tiny_clip

from tutelage.curation.queries import class_names, embed_texts, query_rows
from tutelage.data.samples import Samples
from tutelage.ledger import Cost
from tutelage.models.text_towers import build_teachers_text

CLASSES = ("a", "b", "c")
COUNTS = (10, 4, 7)


@pytest.fixture
def labeled() -> Samples:
    targets = np.repeat(np.arange(3), COUNTS)
    ids = tuple(f"{number}" for number in range(len(targets)))
    return Samples(ids, images=[b""] * len(ids), targets=targets, classes=CLASSES)


def counts(labeled: Samples, most: int | None, seed: int = 0) -> list[int]:
    return np.bincount(labeled.labels()[query_rows(labeled, most, seed=seed)], minlength=3).tolist()


def test_all_labeled_images_are_queries_if_nobody_says_otherwise(labeled: Samples) -> None:
    assert query_rows(labeled, None, seed=0).tolist() == list(range(21))


@pytest.mark.parametrize(("most", "expected"), [(3, [1, 1, 1]), (12, [4, 4, 4]), (18, [7, 4, 7]), (99, [10, 4, 7])])
def test_classes_have_as_many_queries_as_each_other_as_far_as_they_can(
    labeled: Samples, most: int, expected: list[int]
) -> None:
    assert counts(labeled, most) == expected


def test_no_class_is_more_than_one_query_ahead(labeled: Samples) -> None:
    for most in range(1, 13):
        found = counts(labeled, most)
        assert sum(found) == most
        assert max(found) - min(found) <= 1


def test_fewer_queries_are_among_more(labeled: Samples) -> None:
    rows = [set(query_rows(labeled, most, seed=3).tolist()) for most in range(1, 22)]
    assert all(fewer < more for fewer, more in pairwise(rows))


def test_another_seed_draws_others(labeled: Samples) -> None:
    assert len({tuple(query_rows(labeled, 6, seed=seed).tolist()) for seed in range(5)}) > 1


def test_images_have_the_names_of_their_classes(labeled: Samples) -> None:
    assert class_names(labeled.subset(np.array([0, 12, 20]))) == ("a", "b", "c")


def test_texts_become_unit_vectors_of_what_the_text_tower_gives() -> None:
    name, texts = tiny_clip(), [f"a photo of a thing number {number}." for number in range(70)]
    cost = Cost()
    (found,) = embed_texts([name], texts, torch.device("cpu"), cost)
    with torch.no_grad():
        expected = build_teachers_text(name)(texts[66:67], frozenset({"embedding"})).embedding[0].double()
    assert found.shape == (70, WIDTH)
    np.testing.assert_allclose(found[66], (expected / expected.norm()).numpy(), atol=1e-6)
    assert cost.flops > 0
