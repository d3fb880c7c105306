from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from tutelage.comparison.table import Cell, Comparison, Outcome, Point, Spent
from tutelage.report.compared import tables

Make = Callable[..., Comparison]


def ratio(ours: Sequence[tuple[float, float]], rival: Sequence[tuple[float, float]]) -> dict[str, Any]:
    """Return the row of two methods with checkpoints of (FLOPs, score); each FLOP takes ten seconds."""
    outcomes = [
        Outcome(
            Cell(method, "5", 0, "related", "random"),
            score=points[-1][1],
            curve=tuple(Point(at / points[-1][0], Spent(10 * at, at), score) for at, score in points),
        )
        for method, points in (("task-oriented", ours), ("agnostic-image", rival))
    ]
    (group,) = tables.ratios(Comparison({}, tuple(outcomes)))
    (row,) = group["rows"]
    return row


def test_a_ratio_says_what_either_needs() -> None:
    flops, seconds = ratio([(100.0, 0.5), (200.0, 0.7)], [(400.0, 0.6), (800.0, 0.7)])["costs"]
    assert flops == {"ratio": "4.0\N{MULTIPLICATION SIGN} less", "ours": "200", "rival": "800", "reached": "800"}
    assert seconds == {
        "ratio": "4.0\N{MULTIPLICATION SIGN} less",
        "ours": "33 min 20 s",
        "rival": "2 h 13 min",
        "reached": "2 h 13 min",
    }


def test_a_rival_that_stopped_gaining_is_known_by_where_it_was_there() -> None:
    flops, _ = ratio([(100.0, 0.5), (200.0, 0.7)], [(400.0, 0.7), (800.0, 0.7)])["costs"]
    assert (flops["rival"], flops["reached"]) == ("800", "400")


def test_a_first_checkpoint_that_is_good_already_makes_a_bound() -> None:
    assert ratio([(100.0, 0.8)], [(400.0, 0.7)])["costs"][0]["ratio"] == "at least 4.0\N{MULTIPLICATION SIGN} less"
    assert ratio([(400.0, 0.8)], [(100.0, 0.7)])["costs"][0]["ratio"] == "at most 4.0\N{MULTIPLICATION SIGN} more"


def test_what_costs_more_is_not_called_less() -> None:
    assert (
        ratio([(400.0, 0.5), (800.0, 0.7)], [(100.0, 0.6), (200.0, 0.7)])["costs"][0]["ratio"]
        == "4.0\N{MULTIPLICATION SIGN} more"
    )


def test_a_score_that_is_never_reached_has_no_ratio() -> None:
    assert ratio([(400.0, 0.5)], [(100.0, 0.6)])["costs"] == [None, None]


def test_ablations_are_set_apart_unless_there_is_nothing_else(make_comparison: Make) -> None:
    comparison = make_comparison(labels=("5",))
    (group,) = tables.ratios(comparison)
    assert {row["contender"] for row in group["rows"]} == {"task-oriented (related)", "task-oriented (generic)"}
    assert len(group["others"]) == 3 * len(group["rows"])
    without = [each for each in comparison.outcomes if each.cell.method != "task-oriented"]
    (group,) = tables.ratios(dataclasses.replace(comparison, outcomes=tuple(without)))
    assert (len(group["rows"]), group["others"]) == (24, [])


def test_a_failed_run_is_counted_beside_the_others(make_comparison: Make) -> None:
    table = tables.results(make_comparison(labels=("5",)))[0]
    runs = {(row["method"], row["transfer"]): row["runs"] for row in table["rows"]}
    assert runs.pop(("agnostic-patch", "generic")) == "2/3"
    assert set(runs.values()) == {"3"}


def test_one_seed_has_no_deviation_and_is_not_listed(make_comparison: Make) -> None:
    rows = tables.results(make_comparison(labels=("5",), seeds=1))[0]["rows"]
    assert not any("±" in row["score"] or row["seeds"] or row["interval"] for row in rows)


def test_every_seeds_score_is_listed(make_comparison: Make) -> None:
    comparison = make_comparison(labels=("5",))
    scratch = next(row for row in tables.results(comparison)[0]["rows"] if row["method"] == "scratch")
    scores = [each.score for each in comparison.outcomes if each.cell.method == "scratch"]
    assert scratch["seeds"] == [f"{100 * score:.1f}" for score in scores if score is not None]


def test_transfer_sets_are_told_apart_by_a_method_alone(make_comparison: Make) -> None:
    table = tables.effects(make_comparison())["transfer"]
    assert table is not None
    assert {row["over"] for row in table["rows"]} == {"related over generic"}
    assert "task-oriented" in {row["who"] for row in table["rows"]}


def test_an_effect_names_its_start_only_where_there_are_several(make_comparison: Make) -> None:
    for starts in (("random",), ("random", "pretrained")):
        table = tables.effects(make_comparison(starts=starts))["finetuning"]
        assert table is not None
        assert table["several"] == (len(starts) > 1)
        assert len({row["place"] for row in table["rows"]}) == 2 * len(starts)


def test_choices_that_were_not_varied_have_no_table(make_comparison: Make) -> None:
    comparison = make_comparison(transfers=("related",))
    only = [each for each in comparison.outcomes if each.cell.method in {"scratch", "agnostic-image"}]
    assert set(tables.effects(Comparison({}, tuple(only))).values()) == {None}


@pytest.mark.parametrize(
    ("name", "words"), [("accuracy", "Accuracy"), ("miou", "Mean IoU"), ("balanced_accuracy", "Balanced accuracy")]
)
def test_metrics_are_called_by_their_names(name: str, words: str) -> None:
    assert tables.metric(Comparison({"metric": name}, ())).title == words


def test_what_is_not_known_is_not_said() -> None:
    assert tables.measured(Comparison({}, ())) == []
    assert tables.unfinished(Comparison({}, ())) == ""


def test_each_transfer_set_has_its_images(make_comparison: Make) -> None:
    found = dict(tables.measured(make_comparison()))
    assert found["images of transfer set related"] == "12,000"
    assert found["images of transfer set generic"] == "12,800"
    assert (found["student"], found["device"], found["wall time"]) == ("lcnet_050", "CPU", "1 h 27 min")
