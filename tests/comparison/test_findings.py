from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import pytest

from tutelage.comparison.findings import (
    Contender,
    Group,
    compute_ratios,
    curves,
    label_curves,
    ranked,
    summaries,
)
from tutelage.comparison.table import BEST, Cell, Comparison, Outcome, Point, Spent

SCRATCH = Contender("scratch", None, "random", BEST)
RELATED = Contender("task-oriented", "related", "random", BEST)
GENERIC = Contender("task-oriented", "generic", "random", BEST)
AGNOSTIC = Contender("agnostic-image", "related", "random", BEST)


def runs(who: Contender, scores: Sequence[float | None], labels: str = "5", **fields: Any) -> list[Outcome]:
    """Return an outcome for each score, of seeds from 0; a missing score is a failure."""
    return [
        Outcome(
            Cell(who.method, labels, seed, who.transfer, who.start, who.compute, who.variant),
            error="out of memory" if score is None else None,
            score=score,
            **(fields if score is not None else {}),
        )
        for seed, score in enumerate(scores)
    ]


def climb(*points: tuple[float, float]) -> tuple[Point, ...]:
    """Return checkpoints of (FLOPs, score); each FLOP takes ten seconds."""
    return tuple(
        Point((i + 1) / len(points), Spent(10 * flops, flops), score) for i, (flops, score) in enumerate(points)
    )


def compared(*outcomes: list[Outcome]) -> Comparison:
    return Comparison({}, tuple(outcome for each in outcomes for outcome in each))


def test_a_summary_counts_runs_and_failures() -> None:
    (summary,) = summaries(compared(runs(SCRATCH, [0.6, None, 0.8])))
    assert (summary.runs, summary.failed, summary.mean) == (2, 1, pytest.approx(0.7))
    assert summary.scores == {0: 0.6, 2: 0.8}


def test_a_summary_of_failures_alone_has_no_mean() -> None:
    (summary,) = summaries(compared(runs(SCRATCH, [None, None])))
    assert (summary.runs, summary.failed, summary.mean, summary.pretraining) == (0, 2, None, None)


def test_compute_is_averaged_over_the_runs_with_a_score() -> None:
    one, _ = runs(SCRATCH, [0.6, None], finetuning=Spent(10.0, 100.0))
    (two,) = runs(SCRATCH, [0.7], finetuning=Spent(20.0, 500.0))
    failed = runs(SCRATCH, [0.6, None])[1]
    (summary,) = summaries(
        compared([one, failed, dataclasses.replace(two, cell=dataclasses.replace(two.cell, seed=2))])
    )
    assert summary.finetuning == Spent(15.0, 300.0)


def test_the_teachers_of_all_seeds_are_summed_up() -> None:
    outcomes = runs(RELATED, [0.6, 0.7, 0.8], teacher_mode="probe", teacher_score=0.9)
    outcomes[1] = dataclasses.replace(outcomes[1], teacher_mode="finetune", teacher_score=0.6)
    (summary,) = summaries(compared(outcomes))
    assert (summary.teacher, summary.teacher_modes) == (pytest.approx(0.8), ("probe", "finetune"))


def test_the_best_is_set_against_the_second_and_all_others_against_the_best() -> None:
    members = summaries(compared(runs(SCRATCH, [0.5]), runs(RELATED, [0.9]), runs(AGNOSTIC, [0.7])))
    assert [(each.contender, each.against) for each in members] == [
        (RELATED, AGNOSTIC),
        (AGNOSTIC, RELATED),
        (SCRATCH, RELATED),
    ]
    assert [each.gain.mean for each in members if each.gain] == pytest.approx([0.2, -0.2, -0.4])


def test_gains_are_paired_by_seed() -> None:
    best, _ = summaries(compared(runs(SCRATCH, [0.5, 0.1, None]), runs(RELATED, [0.6, 0.2, 0.9])))
    assert best.gain is not None
    assert (best.gain.runs, best.gain.mean) == (2, pytest.approx(0.1))


def test_one_contender_alone_has_no_gain() -> None:
    (summary,) = summaries(compared(runs(SCRATCH, [0.5, 0.6])))
    assert (summary.against, summary.gain) == (None, None)


def test_a_contender_that_only_failed_comes_last_and_is_no_rival() -> None:
    best, last = summaries(compared(runs(SCRATCH, [None]), runs(RELATED, [0.2])))
    assert (best.contender, best.against, last.contender, last.against) == (RELATED, None, SCRATCH, None)


@pytest.mark.parametrize("other", [{"start": "pretrained"}, {"compute": "2e13"}])
def test_starts_and_budgets_are_never_mixed(other: dict[str, str]) -> None:
    apart = dataclasses.replace(RELATED, **other)
    comparison = compared(
        runs(AGNOSTIC, [0.5], curve=climb((100, 0.5))),
        runs(apart, [0.9], curve=climb((50, 0.9))),
        runs(RELATED, [0.4]),
    )
    assert [[each.contender for each in members] for members in ranked(comparison).values()] == [
        [AGNOSTIC, RELATED],
        [apart],
    ]
    assert compute_ratios(comparison) == []


def test_label_counts_are_groups_in_the_order_of_the_grid() -> None:
    comparison = compared(
        *(runs(who, [0.5], labels) for who in (SCRATCH, RELATED) for labels in ("max:20", "max:100"))
    )
    assert [*ranked(comparison)] == [Group("max:20", "random", BEST), Group("max:100", "random", BEST)]


def test_a_curve_is_the_mean_over_seeds() -> None:
    one, two = runs(RELATED, [0.6, 0.8])
    one = dataclasses.replace(one, curve=climb((10, 0.2), (20, 0.6)))
    two = dataclasses.replace(two, curve=climb((30, 0.4), (40, 0.8)))
    (curve,) = curves(compared([one, two]))
    assert [(point.spent.flops, point.score) for point in curve.points] == [
        (20, pytest.approx(0.3)),
        (30, pytest.approx(0.7)),
    ]


def test_a_contender_without_pretraining_is_a_level() -> None:
    (curve,) = curves(compared(runs(SCRATCH, [0.5, None, 0.7])))
    assert (curve.points, curve.score, curve.runs) == ((), pytest.approx(0.6), 2)


def test_a_contender_that_only_failed_has_no_curve() -> None:
    assert curves(compared(runs(RELATED, [None]))) == []


def test_a_ratio_is_the_rivals_compute_over_ours_at_its_score() -> None:
    comparison = compared(
        runs(RELATED, [0.8], curve=climb((100, 0.4), (400, 0.6), (900, 0.8))),
        runs(AGNOSTIC, [0.5], curve=climb((500, 0.3), (1000, 0.5))),
    )
    (found,) = compute_ratios(comparison)
    assert (found.contender, found.rival, found.score) == (RELATED, AGNOSTIC, 0.5)
    assert found.flops is not None
    assert found.seconds is not None
    assert (found.flops.ours, found.flops.ratio) == pytest.approx((200, 5))
    assert found.seconds.ours == pytest.approx(2000)


def test_a_rival_out_of_reach_is_kept_without_a_ratio() -> None:
    comparison = compared(
        runs(RELATED, [0.4], curve=climb((100, 0.4))), runs(AGNOSTIC, [0.5], curve=climb((100, 0.5)))
    )
    (found,) = compute_ratios(comparison)
    assert (found.flops, found.seconds) == (None, None)


def test_ratios_are_over_the_seeds_that_both_have() -> None:
    ours = runs(RELATED, [0.5, 0.5], curve=climb((100, 0.5)))
    rival = runs(AGNOSTIC, [0.5, None], curve=climb((300, 0.5)))
    ours[1] = dataclasses.replace(ours[1], curve=climb((900, 0.1)))
    (found,) = compute_ratios(compared(ours, rival))
    assert found.flops is not None
    assert (found.runs, found.flops.ratio) == (1, 3)


def test_neither_scratch_nor_another_transfer_set_is_a_rival_in_compute() -> None:
    comparison = compared(
        runs(SCRATCH, [0.3]), *(runs(who, [0.5], curve=climb((100, 0.5))) for who in (RELATED, GENERIC))
    )
    assert compute_ratios(comparison) == []


def test_label_curves_follow_the_grids_order_and_skip_what_failed() -> None:
    comparison = compared(
        runs(SCRATCH, [0.1], "5"), runs(SCRATCH, [None], "10"), runs(SCRATCH, [0.3], "100"), runs(RELATED, [0.2], "5")
    )
    assert [(each.contender, [point.labels for point in each.points]) for each in label_curves(comparison)] == [
        (SCRATCH, ["5", "100"]),
        (RELATED, ["5"]),
    ]


def test_the_best_one_s_gain_is_over_another_approach() -> None:
    kin = Contender("task-oriented-ft", "related", "random", BEST)
    best, second, last = summaries(compared(runs(RELATED, [0.9]), runs(kin, [0.8]), runs(SCRATCH, [0.5])))
    assert (best.against, second.against, last.against) == (SCRATCH, RELATED, RELATED)


def test_where_all_are_of_one_approach_the_best_one_s_gain_is_over_the_next() -> None:
    kin = Contender("task-oriented-ft", "related", "random", BEST)
    assert summaries(compared(runs(RELATED, [0.9]), runs(kin, [0.8])))[0].against == kin


def test_variants_are_contenders_of_their_own() -> None:
    plain, noisy = (dataclasses.replace(RELATED, variant=name) for name in ("plain", "noisy"))
    comparison = compared(runs(plain, [0.5, 0.6]), runs(noisy, [0.7, 0.8]), runs(SCRATCH, [0.4, 0.4]))
    assert [(each.contender.variant, each.mean) for each in summaries(comparison)] == [
        ("noisy", pytest.approx(0.75)),
        ("plain", pytest.approx(0.55)),
        ("", pytest.approx(0.4)),
    ]
    assert summaries(comparison)[0].against == SCRATCH


def test_a_rival_in_the_same_variant_is_no_rival_in_another_one() -> None:
    both = [dataclasses.replace(who, variant=name) for who in (RELATED, AGNOSTIC) for name in ("plain", "noisy")]
    alone = dataclasses.replace(RELATED, variant="own")
    comparison = compared(*(runs(who, [0.5], curve=climb((100, 0.5))) for who in [*both, alone]))
    assert [(each.contender.variant, each.rival.variant) for each in compute_ratios(comparison)] == [
        ("plain", "plain"),
        ("noisy", "noisy"),
        ("own", "plain"),
        ("own", "noisy"),
    ]
