from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import pytest

from tutelage.comparison.findings import Contender, Group
from tutelage.comparison.table import BEST, Cell, Comparison, Outcome
from tutelage.comparison.verdict import contender_words, group_words, verdicts

SCRATCH = Contender("scratch", None, "random", BEST)
SUPERVISED = Contender("supervised", None, "random", BEST)
RELATED = Contender("task-oriented", "related", "random", BEST)


def runs(who: Contender, scores: Sequence[float | None], items: int = 0, labels: str = "5") -> list[Outcome]:
    """Return an outcome for each score, of seeds from 0; the first items are right where there are items."""
    return [
        Outcome(
            Cell(who.method, labels, seed, who.transfer, who.start, who.compute, who.variant),
            error="out of memory" if score is None else None,
            score=score,
            right=np.arange(items) < round(score * items) if items and score is not None else None,
        )
        for seed, score in enumerate(scores)
    ]


def compared(*outcomes: list[Outcome]) -> Comparison:
    return Comparison({}, tuple(outcome for each in outcomes for outcome in each))


def verdict(*outcomes: list[Outcome]) -> str:
    return verdicts(compared(*outcomes))[0]


def test_it_says_who_scores_best_and_by_how_much() -> None:
    text = verdict(runs(SCRATCH, [0.5, 0.52, 0.54]), runs(RELATED, [0.6, 0.63, 0.63]))
    # Differences of 10, 11 and 9 points: 4.303 standard errors of 1 / sqrt(3) points are 2.5.
    assert text.startswith(
        "With 5 labels a class, from random weights, each method at its best: task-oriented (related) scores best, "
        "62.0% ± 1.7. That is +10.0 points against scratch (95% interval over three seeds: +7.5 to +12.5); "
        "three seeds tell these apart."
    )


def test_another_form_of_the_best_is_not_its_rival() -> None:
    kin = Contender("task-oriented-lp", "related", "random", BEST)
    text = verdict(runs(SCRATCH, [0.5, 0.52]), runs(RELATED, [0.9, 0.92]), runs(kin, [0.9, 0.92]))
    assert "That is +40.0 points against scratch" in text


def test_seeds_that_disagree_cannot_tell() -> None:
    text = verdict(runs(SCRATCH, [0.5, 0.6, 0.5]), runs(RELATED, [0.6, 0.5, 0.6]))
    assert "; three seeds cannot tell these apart." in text
    assert "Three seeds cannot tell whether distillation helped here" in text


def test_one_seed_says_nothing_about_chance() -> None:
    text = verdict(runs(SCRATCH, [0.5]), runs(RELATED, [0.9]))
    assert "90.0% (one seed). That is +40.0 points against scratch; one seed says nothing about chance." in text
    assert "One seed cannot tell whether distillation helped here" in text


def test_seeds_beyond_ten_are_digits() -> None:
    scores = [0.5 + 0.001 * seed for seed in range(11)]
    assert "11 seeds cannot tell these apart" in verdict(runs(SCRATCH, scores), runs(RELATED, scores))


def test_distillation_helped_where_the_seeds_say_so() -> None:
    text = verdict(runs(SCRATCH, [0.5, 0.52, 0.54]), runs(RELATED, [0.6, 0.63, 0.63]))
    assert "Distillation helped here: task-oriented (related) has +10.0 points against scratch." in text


def test_distillation_did_not_help_where_the_seeds_say_so() -> None:
    text = verdict(runs(SCRATCH, [0.6, 0.63, 0.63]), runs(RELATED, [0.5, 0.52, 0.54]))
    assert (
        "Distillation did not help here: task-oriented (related) has \N{MINUS SIGN}10.0 points against scratch"
        in text
    )


def test_test_items_suffice_to_say_that_distillation_did_not_help() -> None:
    text = verdict(runs(SCRATCH, [0.6], items=1000), runs(RELATED, [0.5], items=1000))
    assert "Distillation did not help here" in text


def test_test_items_do_not_suffice_to_say_that_distillation_helped() -> None:
    text = verdict(runs(SCRATCH, [0.5], items=1000), runs(RELATED, [0.6], items=1000))
    assert "One seed cannot tell whether distillation helped here" in text


def test_one_seed_is_shown_with_its_interval_over_test_items() -> None:
    text = verdict(runs(SCRATCH, [0.5], items=1000), runs(RELATED, [0.6], items=1000))
    # 1.96 standard deviations of an item that differs in one case of ten: 1.9 points of 1000 items.
    assert "+10.0 points against scratch (95% interval over test items: +8." in text


def test_one_seed_of_many_contenders_shows_what_its_items_say_of_distillation() -> None:
    agnostic = Contender("agnostic-image", "related", "random", BEST)
    text = verdict(*(runs(who, [score], 1000) for who, score in ((SCRATCH, 0.5), (agnostic, 0.6), (RELATED, 0.7))))
    assert "has +20.0 points against scratch (95% interval over test items: +17." in text


def test_how_sure_a_difference_is_is_said_once() -> None:
    text = verdict(runs(SCRATCH, [0.5, 0.5, 0.5], items=1000), runs(RELATED, [0.51, 0.55, 0.6], items=1000))
    assert (text.count("over three seeds"), text.count("over test items")) == (1, 1)


def test_how_much_distillation_helped_has_its_own_interval_where_others_came_second() -> None:
    agnostic = Contender("agnostic-image", "related", "random", BEST)
    text = verdict(runs(SCRATCH, [0.1, 0.2]), runs(agnostic, [0.5, 0.5]), runs(RELATED, [0.6, 0.7]))
    assert text.endswith("has +50.0 points against scratch (95% interval over two seeds: +50.0 to +50.0).")


def test_the_best_of_either_side_decides_whether_distillation_helped() -> None:
    agnostic = Contender("agnostic-image", "related", "random", BEST)
    text = verdict(
        runs(SCRATCH, [0.1, 0.1]),
        runs(agnostic, [0.3, 0.3]),
        runs(SUPERVISED, [0.5, 0.52]),
        runs(RELATED, [0.6, 0.63]),
    )
    assert "task-oriented (related) has +10.5 points against supervised" in text


@pytest.mark.parametrize(
    "only", [[SCRATCH, SUPERVISED], [RELATED, Contender("task-oriented", "generic", "random", BEST)]]
)
def test_nothing_is_said_of_distillation_with_one_side_alone(only: list[Contender]) -> None:
    assert "istillation" not in verdict(runs(only[0], [0.5, 0.6]), runs(only[1], [0.4, 0.5]))


def test_items_that_differ_more_than_seeds_agree_are_said_to() -> None:
    text = verdict(runs(SCRATCH, [0.5, 0.5, 0.5], items=1000), runs(RELATED, [0.51, 0.55, 0.6], items=1000))
    assert (
        "three seeds cannot tell these apart; the difference is real on these test items (95% interval over" in text
    )
    assert "but another draw of labels may turn it around." in text


def test_seeds_that_agree_on_too_few_items_are_said_to() -> None:
    # One item of forty in each seed: a draw of items without either one shows no difference.
    text = verdict(runs(SCRATCH, [0.5, 0.6], items=40), runs(RELATED, [0.525, 0.625], items=40))
    assert "other test items may turn it around (95% interval over test items: +0.0 to " in text


def test_items_that_say_what_the_seeds_say_are_not_mentioned() -> None:
    text = verdict(runs(SCRATCH, [0.5, 0.52], items=1000), runs(RELATED, [0.7, 0.73], items=1000))
    assert "test items" not in text


def test_a_start_or_budget_has_its_own_verdict() -> None:
    others = [Contender("task-oriented", "related", "pretrained", BEST), Contender("scratch", None, "random", "2e13")]
    found = verdicts(compared(runs(SCRATCH, [0.5]), *(runs(who, [0.9]) for who in others)))
    assert len(found) == 3
    assert all("It has nothing to be compared with" in text for text in found)


def test_seeds_that_only_one_side_has_are_left_out_and_said_to() -> None:
    text = verdict(runs(SCRATCH, [0.5, 0.52]), runs(RELATED, [0.6, 0.63, 0.63]))
    assert "+10.5 points against scratch (95% interval over the two seeds that both have: " in text


def test_contenders_without_a_common_seed_are_not_compared() -> None:
    text = verdict(runs(SCRATCH, [None, 0.5]), runs(RELATED, [0.6, None]))
    assert "It has no seed in common with scratch, the next best." in text
    assert "points" not in text


def test_failed_runs_are_counted_and_named() -> None:
    found = verdicts(compared(runs(SCRATCH, [None, 0.5, None]), runs(RELATED, [0.6, None, 0.6])))
    assert found[1:] == [
        "3 of 6 runs failed and left no score (scratch: 2, task-oriented (related): 1); means are over the others."
    ]


def test_a_group_that_only_failed_has_no_best() -> None:
    assert verdict(runs(SCRATCH, [None])).endswith("each method at its best: no run has a score.")


@pytest.mark.parametrize(("contenders", "times"), [([SCRATCH, RELATED], 0), ([SCRATCH, RELATED, SUPERVISED], 1)])
def test_that_many_comparisons_are_made_is_said_once(contenders: list[Contender], times: int) -> None:
    comparison = compared(*(runs(who, [0.5, 0.6], labels=labels) for who in contenders for labels in ("5", "10")))
    assert " ".join(verdicts(comparison)).count("not corrected for the number of comparisons") == times


def varied(who: Contender, *names: str) -> list[Contender]:
    return [dataclasses.replace(who, variant=name) for name in names]


def test_the_best_variant_is_set_against_the_first_where_it_is_not_the_best_of_all() -> None:
    plain, warm, cold = varied(RELATED, "plain", "warm", "cold")
    text = verdict(
        runs(SUPERVISED, [0.8, 0.8, 0.8]),
        runs(plain, [0.5, 0.52, 0.54]),
        runs(warm, [0.6, 0.63, 0.63]),
        runs(cold, [0.4, 0.4, 0.4]),
    )
    assert text.endswith(
        "Of the three variants of task-oriented (related), warm is best, +10.0 points against plain (95% interval "
        "over three seeds: +7.5 to +12.5); three seeds tell these apart."
    )


def test_a_first_variant_that_is_best_is_said_to_be() -> None:
    plain, warm = varied(RELATED, "plain", "warm")
    text = verdict(runs(SUPERVISED, [0.8]), runs(plain, [0.5]), runs(warm, [0.4]))
    assert text.endswith("Of the two variants of task-oriented (related), plain, the first, is best.")


def test_a_first_variant_without_a_score_is_said_to_have_none() -> None:
    plain, warm, cold = varied(RELATED, "plain", "warm", "cold")
    text = verdict(runs(plain, [None]), runs(warm, [0.5]), runs(cold, [0.4]))
    assert text.endswith("Of the two variants of task-oriented (related), warm is best; plain has no score.")


def test_what_was_said_of_the_best_of_all_is_not_said_again_of_its_variants() -> None:
    plain, warm = varied(RELATED, "plain", "warm")
    for scores in ([0.5, 0.6], [0.6, 0.5]):
        text = verdict(*(runs(who, [score]) for who, score in zip((plain, warm), scores, strict=True)))
        assert "variants of" not in text


def test_variants_that_change_nothing_for_a_method_are_not_mentioned() -> None:
    text = verdict(runs(RELATED, [0.8]), *(runs(who, [0.5]) for who in varied(SCRATCH, "plain", "warm")))
    assert "variants of" not in text


def test_a_student_held_by_features_is_helped_by_its_teacher() -> None:
    held, alone = (Contender(method, None, "pretrained", BEST) for method in ("aft", "stl"))
    text = verdict(runs(alone, [0.5, 0.52]), runs(held, [0.6, 0.62]))
    assert "The teacher helped here: aft has +10.0 points against stl." in text


def test_contenders_are_named_by_method_transfer_set_and_variant() -> None:
    each = [SCRATCH, RELATED, *varied(SCRATCH, "warm"), *varied(RELATED, "warm")]
    assert [contender_words(who) for who in each] == [
        "scratch",
        "task-oriented (related)",
        "scratch (warm)",
        "task-oriented (related, warm)",
    ]


@pytest.mark.parametrize(
    ("group", "words"),
    [
        (Group("5", "random", BEST), "5 labels a class, from random weights, each method at its best"),
        (
            Group("max:100", "pretrained", "2e13"),
            "at most 100 labels a class, from pretrained weights, 2e13 FLOPs for each method",
        ),
        (Group("10%", "random", "300s"), "10% of the labels, from random weights, 300 seconds for each method"),
        (Group("1", "random", BEST), "1 label a class, from random weights, each method at its best"),
        (Group("all", "random", BEST), "all labels, from random weights, each method at its best"),
    ],
)
def test_groups_are_told_apart_in_words(group: Group, words: str) -> None:
    assert group_words(group) == words


@pytest.mark.parametrize(("labels", "words"), [("60", "60 labeled images"), ("10%", "10% of the labels")])
def test_labels_of_every_pixel_are_counted_in_images(labels: str, words: str) -> None:
    found = group_words(Group(labels, "random", BEST), "segmentation")
    assert found == f"{words}, from random weights, each method at its best"


def test_a_collapsed_pretraining_is_told() -> None:
    dino = Contender("dino", "related", "random", BEST)
    one, two = runs(dino, [0.4, 0.5])
    found = verdicts(
        compared(runs(SCRATCH, [0.5, 0.52]), [one, dataclasses.replace(two, collapsed="it says nothing")])
    )
    assert found[-1] == (
        "The pretraining of 1 of 4 runs collapsed (dino (related): 1): what was finetuned had learned next to "
        "nothing. Of the first, it says nothing."
    )


def test_self_distillation_is_no_distillation_from_a_teacher() -> None:
    dino = Contender("dino", "related", "random", BEST)
    assert "distillation" not in verdict(runs(SCRATCH, [0.5, 0.52]), runs(dino, [0.6, 0.62]))
