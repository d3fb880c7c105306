"""What single choices decide, all else equal."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from tutelage.comparison.effects import finetuning_effects, teacher_effects, transfer_effects, variant_effects
from tutelage.comparison.findings import Contender
from tutelage.comparison.table import BEST, Cell, Comparison, Outcome

SCRATCH = Contender("scratch", None, "random", BEST)
RELATED = Contender("task-oriented", "related", "random", BEST)
GENERIC = Contender("task-oriented", "generic", "random", BEST)
AGNOSTIC = Contender("agnostic-image", "related", "random", BEST)


def runs(who: Contender, scores: Sequence[float], labels: str = "5", **fields: Any) -> list[Outcome]:
    """Return an outcome for each score, of seeds from 0."""
    return [
        Outcome(
            Cell(who.method, labels, seed, who.transfer, who.start, who.compute, who.variant), score=score, **fields
        )
        for seed, score in enumerate(scores)
    ]


def compared(*outcomes: list[Outcome]) -> Comparison:
    return Comparison({}, tuple(outcome for each in outcomes for outcome in each))


def varied(who: Contender, *names: str) -> list[Contender]:
    return [dataclasses.replace(who, variant=name) for name in names]


def test_transfer_sets_are_compared_within_a_method_and_label_count() -> None:
    scores = {SCRATCH: [0.1, 0.1], RELATED: [0.6, 0.8], AGNOSTIC: [0.4, 0.4], GENERIC: [0.5, 0.5]}
    comparison = compared(*(runs(who, scores[who], labels) for who in scores for labels in ("5", "10")))
    assert [
        (each.labels, each.first, each.second, each.difference.mean) for each in transfer_effects(comparison)
    ] == [
        ("5", RELATED, GENERIC, pytest.approx(0.2)),
        ("10", RELATED, GENERIC, pytest.approx(0.2)),
    ]


@pytest.mark.parametrize("turned", [False, True])
def test_finetuning_is_task_oriented_over_the_same_without_it(turned: bool) -> None:
    without = dataclasses.replace(RELATED, method="task-oriented-no-finetuning")
    outcomes = [runs(RELATED, [0.6, 0.7]), runs(without, [0.5, 0.5]), runs(GENERIC, [0.9]), runs(AGNOSTIC, [0.4])]
    (effect,) = finetuning_effects(compared(*(outcomes[::-1] if turned else outcomes)))
    assert (effect.first, effect.second, effect.difference.mean) == (RELATED, without, pytest.approx(0.15))


def test_a_finetuned_teachers_student_is_set_over_a_probed_ones() -> None:
    tuned, probed = (dataclasses.replace(RELATED, method=f"task-oriented-{mode}") for mode in ("ft", "lp"))
    (effect,) = teacher_effects(compared(runs(probed, [0.5, 0.5]), runs(tuned, [0.7, 0.8])))
    assert (effect.first, effect.second, effect.difference.mean) == (tuned, probed, pytest.approx(0.25))


def test_a_student_is_set_over_its_own_teacher_seed_by_seed() -> None:
    one, two = runs(RELATED, [0.6, 0.9])
    outcomes = [dataclasses.replace(one, teacher_score=0.7), dataclasses.replace(two, teacher_score=0.8)]
    (effect,) = teacher_effects(compared(outcomes, runs(SCRATCH, [0.5, 0.5])))
    assert (effect.first, effect.second, effect.difference.mean) == (RELATED, None, pytest.approx(0.0))
    assert effect.difference.t_interval is not None


def test_each_variant_is_set_over_the_methods_first_one() -> None:
    plain, hot, cold = varied(RELATED, "plain", "hot", "cold")
    other = varied(GENERIC, "plain")
    comparison = compared(
        runs(plain, [0.5, 0.5]), runs(hot, [0.6, 0.7]), runs(cold, [0.3, 0.3]), *(runs(who, [0.9]) for who in other)
    )
    assert [(each.first, each.second, each.difference.mean) for each in variant_effects(comparison)] == [
        (hot, plain, pytest.approx(0.15)),
        (cold, plain, pytest.approx(-0.2)),
    ]


def test_a_variant_that_changes_nothing_for_a_method_is_left_out() -> None:
    right = np.array([True, False])
    plain, hot = varied(SCRATCH, "plain", "hot")
    same = compared(*(runs(who, [0.5], right=right) for who in (plain, hot)))
    other = compared(runs(plain, [0.5], right=right), runs(hot, [0.5], right=~right))
    assert variant_effects(same) == []
    assert [effect.difference.mean for effect in variant_effects(other)] == [0.0]
