"""The axes of a comparison, and its cells."""

from __future__ import annotations

from typing import Any

import pytest

from tutelage.comparison.grid import Grid, make_grid, recipe_of
from tutelage.errors import RecipeError, UnknownNameError
from tutelage.recipe import Recipe
from tutelage.recipe_reading import make_recipe


def recipe(**changes: Any) -> Recipe:
    return make_recipe(
        {
            "data": {"labeled": "digits", "labels": 5, "test": "digits", "transfer": "pictures"},
            "teacher": "bundled:efficientnet-lite0",
            "student": "timm:lcnet_050",
            "baselines": ["scratch"],
            **changes,
        }
    )


def grid(**changes: Any) -> Grid:
    return make_grid(recipe(), **{"methods": ["scratch", "task-oriented"], **changes})


def test_a_method_without_a_transfer_set_has_one_cell_for_all_of_them() -> None:
    cells = grid(seeds=1, transfers=["a=x", "b=y"]).cells
    assert [(cell.method, cell.transfer) for cell in cells] == [
        ("scratch", None),
        ("task-oriented", "a"),
        ("task-oriented", "b"),
    ]


def test_cells_come_by_method_then_labels_then_seeds() -> None:
    cells = grid(methods=["scratch"], labels=["10", "5"], seeds=2).cells
    assert [(cell.labels, cell.seed) for cell in cells] == [("10", 0), ("10", 1), ("5", 0), ("5", 1)]


def test_cells_run_seed_by_seed() -> None:
    made = grid(labels=["5", "10"], seeds=3, budgets=["1e12"])
    assert [cell.seed for cell in made.in_turn()] == sorted(cell.seed for cell in made.cells)


def test_running_order_has_every_cell_once() -> None:
    made = grid(labels=["5", "10"], seeds=3, starts=["random", "pretrained"], budgets=["1e12", "60s"])
    assert len(made.in_turn()) == len(set(made.in_turn())) == len(made.cells)
    assert set(made.in_turn()) == set(made.cells)


def test_seeds_count_from_the_recipe_s() -> None:
    assert make_grid(recipe(seed=4), methods=["scratch"], seeds=2).seeds == (4, 5)


def test_labels_and_transfer_set_are_the_recipe_s_unless_given() -> None:
    made = grid()
    assert (made.labels, made.transfers) == (("5",), {"own": "pictures"})


@pytest.mark.parametrize(("given", "start"), [(None, "random"), ("pretrained", "pretrained")])
def test_the_start_is_the_recipe_s_unless_given(given: str | None, start: str) -> None:
    assert make_grid(recipe(start=given), methods=["scratch"]).starts == (start,)


def test_a_name_alone_is_the_unlabeled_rest() -> None:
    assert grid(transfers=["related", "web=some/folder"]).transfers == {"related": None, "web": "some/folder"}


def test_points_halve_the_training() -> None:
    assert grid(points=3).shares == (0.125, 0.25, 0.5)


def test_no_points_at_all_may_be_asked_for() -> None:
    assert grid(points=0).shares == ()


@pytest.mark.parametrize(
    ("text", "amount", "seconds"), [("2e13", 2e13, False), ("300s", 300.0, True), ("7", 7, False)]
)
def test_a_budget_is_flops_or_seconds(text: str, amount: float, seconds: bool) -> None:
    budget = grid(budgets=[text]).budgets[0]
    assert (budget.name, budget.amount, budget.seconds) == (text, amount, seconds)


def test_each_budget_has_its_cells_beside_each_method_at_its_best() -> None:
    cells = grid(methods=["scratch"], seeds=1, budgets=["1e12", "60s"]).cells
    assert [cell.compute for cell in cells] == ["best", "1e12", "60s"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"methods": []}, "--methods: name some of scratch"),
        ({"methods": ["supervised"]}, "needs data.pretraining"),
        ({"methods": ["scratch", "scratch"]}, "--methods: 'scratch' is given twice"),
        ({"labels": ["5", "5"]}, "--labels: '5' is given twice"),
        ({"seeds": 0}, "--seeds 0: at least one"),
        ({"points": -1}, "--points -1: from 0 to 12"),
        ({"transfers": ["a=x", "a=y"]}, "--transfer: 'a' is given twice"),
        ({"transfers": ["=x"]}, "write NAME=PATH"),
        ({"transfers": ["a="]}, "write NAME=PATH"),
        ({"budgets": ["soon"]}, "--budget 'soon': write FLOPs"),
        ({"budgets": ["0"]}, "--budget '0': write FLOPs"),
        ({"budgets": ["-3s"]}, "--budget '-3s': write FLOPs"),
    ],
)
def test_what_cannot_be_compared_is_said(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        grid(**changes)


@pytest.mark.parametrize("changes", [{"methods": ["scrtch"]}, {"starts": ["pretraind"]}])
def test_a_misspelled_name_is_answered_with_the_close_one(changes: dict[str, Any]) -> None:
    with pytest.raises(UnknownNameError, match="did you mean"):
        grid(**changes)


def test_a_cell_s_recipe_has_its_place_in_the_grid() -> None:
    made = grid(labels=["5", "10"], seeds=2, transfers=["a=x", "b=y"])
    cell = next(each for each in made.cells if (each.transfer, each.labels, each.seed) == ("b", "10", 1))
    found = recipe_of(recipe(), made, cell)
    assert (found.method, found.data.transfer, found.data.labels, found.seed) == ("task-oriented", "y", "10", 1)


def test_a_cell_s_recipe_keeps_its_checkpoints() -> None:
    made = grid(points=1)
    assert recipe_of(recipe(), made, made.cells[-1]).distill.snapshots == (0.5,)


def test_a_cell_has_no_baselines() -> None:
    made = grid()
    assert recipe_of(recipe(), made, made.cells[0]).baselines == ()


def test_a_method_finetunes_as_the_recipe_says_of_it_as_a_baseline() -> None:
    made, given = grid(), recipe(finetune={"epochs": 3}, baseline_finetune={"scratch": {"epochs": 7}})
    epochs = {cell.method: recipe_of(given, made, cell).finetune.epochs for cell in made.cells}
    assert epochs == {"scratch": 7, "task-oriented": 3}
