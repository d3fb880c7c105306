"""Learning from pseudo-labels in a comparison: what it shares, its curve over rounds, its cost and its budget."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.comparison.two_colors import two_colors

from tutelage.comparison.compare import compare, plan
from tutelage.comparison.forecast import method_cost
from tutelage.comparison.grid import Grid, make_grid
from tutelage.comparison.layout import Layout
from tutelage.comparison.table import Comparison, Outcome
from tutelage.comparison.verdict import WITHOUT_TEACHER
from tutelage.methods import METHODS
from tutelage.progress import Quiet
from tutelage.recipe import Recipe
from tutelage.recipe_reading import make_recipe
from tutelage.run import Run
from tutelage.training.distributed import world

ROUNDS = ["label-2", "train-2", "label-3", "train-3"]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes, each with more of one color."""
    return two_colors(tmp_path_factory.mktemp("rounds"))


def recipe(data: Path) -> Recipe:
    return make_recipe(
        {
            "data": {
                "labeled": str(data / "train"),
                "labels": 3,
                "test": str(data / "test"),
                "pretraining": str(data / "other"),
            },
            "student": "timm:test_efficientnet",
            "method": "scratch",
            "folds": 2,
            "device": "cpu",
            "views": {"student_size": 32},
            "pretrain": {"epochs": 2},
            "finetune": {"epochs": 2, "learning_rates": [1e-3], "probe_views": 1},
            "pseudo_label": {"epochs": 2, "batch_size": 4},
        }
    )


def grid(data: Path, **changes: Any) -> Grid:
    asked = {"methods": ["supervised", "pseudo-label-supervised"], "seeds": 1, "transfers": ["related"], "points": 1}
    return make_grid(recipe(data), **{**asked, **changes})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("whole") / "comparison"


@pytest.fixture(scope="module")
def whole(data: Path, folder: Path) -> Comparison:
    return compare(recipe(data), grid(data), folder)


def outcome(found: Comparison, method: str) -> Outcome:
    return next(each for each in found.outcomes if each.cell.method == method)


def done(folder: Path) -> Iterator[dict[str, Any]]:
    return (json.loads(path.read_text()) for path in (folder / "stages").glob("*/stage.json"))


def test_no_cell_failed(whole: Comparison) -> None:
    assert [each.error for each in whole.outcomes] == [None, None]


def test_pretraining_and_the_first_round_are_those_of_the_method_that_starts_alike(
    whole: Comparison, folder: Path
) -> None:
    names = [each["name"] for each in done(folder)]
    assert {name: names.count(name) for name in ("pretrain", "finetune", *ROUNDS)} == dict.fromkeys(
        ("pretrain", "finetune", *ROUNDS), 1
    )


def test_the_curve_is_over_rounds_and_begins_with_finetuning(whole: Comparison) -> None:
    found, alone = outcome(whole, "pseudo-label-supervised"), outcome(whole, "supervised")
    assert [point.share for point in found.curve] == pytest.approx([1 / 3, 2 / 3, 1])
    first, second, last = found.curve
    assert first.score == alone.score
    assert first.spent.flops == pytest.approx(alone.pretraining.flops + alone.finetuning.flops)
    assert first.spent.flops < second.spent.flops < last.spent.flops
    assert (last.score, last.spent) == (found.score, found.pretraining)


def test_all_of_it_is_spent_before_the_student_is_done(whole: Comparison, folder: Path) -> None:
    found = outcome(whole, "pseudo-label-supervised")
    costs = {each["name"]: each["cost"]["flops"] for each in done(folder)}
    assert found.finetuning.flops == 0
    assert found.pretraining.flops == pytest.approx(sum(costs[name] for name in ("pretrain", "finetune", *ROUNDS)))


def test_without_points_no_round_is_tested(data: Path, tmp_path: Path) -> None:
    asked = grid(data, methods=["pseudo-label"], starts=["random"], points=0)
    found = compare(recipe(data), asked, tmp_path / "few")
    assert len(found.outcomes[0].curve) == 1
    assert [each["name"] for each in done(tmp_path / "few")].count("evaluate") == 1


def test_a_plan_knows_what_rounds_cost(whole: Comparison, data: Path, folder: Path, tmp_path: Path) -> None:
    planned = plan(recipe(data), grid(data), tmp_path)["stages"]
    spent = {each["name"]: each["cost"]["flops"] for each in done(folder)}
    for name in ROUNDS:
        assert planned[name]["count"] == 1
        assert planned[name]["flops"] == pytest.approx(spent[name], rel=0.02)


def test_within_a_budget_rounds_train_as_long_as_that_allows(data: Path, tmp_path: Path) -> None:
    budget = 3e9
    asked = grid(data, methods=["pseudo-label"], starts=["random"], budgets=[f"{budget:.0f}"], points=0)
    with world("cpu") as here:
        layout = Layout(recipe(data), asked, tmp_path, here)
        job = layout.job(asked.cells[-1], Run(tmp_path), Quiet())
        speeds = layout.speeds(asked.cells[-1])
        settings = job.recipe.pseudo_label
        assert settings.epochs is not None
        longer = job.recipe.model_copy(
            update={"pseudo_label": settings.model_copy(update={"epochs": settings.epochs + 1})}
        )
        assert method_cost(job, speeds).flops <= budget < method_cost(replace(job, recipe=longer), speeds).flops


def test_where_all_are_labeled_the_cell_says_so(data: Path, tmp_path: Path) -> None:
    found = compare(
        recipe(data), grid(data, methods=["pseudo-label"], labels=["all"], starts=["random"]), tmp_path / "all"
    )
    assert "every transfer image is a labeled one" in (found.outcomes[0].error or "")


def test_a_verdict_knows_which_methods_have_no_teacher() -> None:
    assert {name for name, method in METHODS.items() if not method.needs_teacher} == WITHOUT_TEACHER
