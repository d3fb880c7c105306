from __future__ import annotations

import math

import pytest
from tests.analysis.made_comparisons import made, plain_recipes, plus

from tutelage.analysis.normalized import NormalizedError, normalized_errors
from tutelage.comparison.table import Comparison

NOISE = {"plain": {}, "noise": {"regularize.noise": 512}, "longer": {"finetune.epochs": 9}}


def errors(comparison: Comparison) -> dict[tuple[str, str, str | None], NormalizedError]:
    found = normalized_errors(comparison, plain_recipes(comparison))
    return {(each.contender.method, each.contender.variant, each.labels): each for each in found}


def test_an_error_is_set_beside_the_same_seeds() -> None:
    found = errors(made({("stl", ""): [0.8, 0.6, 0.9], ("aft", ""): [0.9, 0.7, None], ("kd", ""): [0.8]}))
    aft, kd = found["aft", "", "5"], found["kd", "", "5"]
    assert aft.seeds == pytest.approx({0: 0.5, 1: 0.75})
    assert aft.mean == pytest.approx(0.625)
    # Sample deviation of two values: their distance over the root of two; over the root of two seeds.
    assert aft.standard_error == pytest.approx(0.25 / math.sqrt(2) / math.sqrt(2))
    assert (kd.mean, kd.standard_error) == (pytest.approx(1.0), None)


def test_standard_transfer_itself_is_left_out() -> None:
    assert {method for method, *_ in errors(made({("stl", ""): [0.5], ("aft", ""): [0.5]}))} == {"aft"}


def test_a_baseline_without_errors_cannot_be_beaten() -> None:
    found = errors(made({("stl", ""): [1.0, 0.5], ("aft", ""): [0.9, 0.8]}))
    assert found["aft", "", "5"].seeds == pytest.approx({1: 0.4})


def test_without_standard_transfer_there_is_nothing() -> None:
    assert errors(made({("aft", ""): [0.9]})) == {}


def test_variants_that_standard_transfer_does_not_read_share_it() -> None:
    scores = {("stl", "plain"): [0.5], ("aft", "plain"): [0.75], ("aft", "noise"): [0.6], ("aft", "longer"): [0.9]}
    found = errors(made(scores, NOISE))
    assert found["aft", "noise", "5"].mean == pytest.approx(0.8)
    assert ("aft", "longer", "5") not in found


def test_a_variant_s_own_standard_transfer_comes_first() -> None:
    scores = {("stl", "plain"): [0.5], ("stl", "noise"): [0.75], ("aft", "noise"): [0.8]}
    assert errors(made(scores, NOISE))["aft", "noise", "5"].mean == pytest.approx(0.8)


def test_label_counts_are_averaged_seed_by_seed() -> None:
    few = made({("stl", ""): [0.5, 0.5], ("aft", ""): [0.6, 0.7]})
    many = made({("stl", ""): [0.9, 0.9], ("aft", ""): [0.96, None]}, labels="10")
    found = errors(plus(few, many))
    assert found["aft", "", "10"].mean == pytest.approx(0.4)
    pooled = found["aft", "", None]
    assert pooled.seeds == pytest.approx({0: (0.8 + 0.4) / 2})
    assert pooled.standard_error is None
