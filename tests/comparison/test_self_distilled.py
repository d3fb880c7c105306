"""A comparison of students that learn from themselves: what it shares, what it forecasts, how budgets are kept."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.comparison.two_colors import two_colors

from tutelage.comparison.compare import compare, plan
from tutelage.comparison.forecast import method_cost
from tutelage.comparison.grid import Grid, make_grid
from tutelage.comparison.layout import Layout
from tutelage.comparison.table import Comparison
from tutelage.progress import Quiet
from tutelage.recipe import Recipe
from tutelage.recipe_reading import make_recipe
from tutelage.run import Run
from tutelage.training.distributed import world


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes, each with more of one color; and other pictures without labels."""
    return two_colors(tmp_path_factory.mktemp("self-distilled"))


def recipe(data: Path) -> Recipe:
    return make_recipe(
        {
            "method": "dino",
            "data": {"labeled": str(data / "train"), "labels": 3, "test": str(data / "test")},
            "student": "timm:test_efficientnet",
            "folds": 2,
            "device": "cpu",
            "views": {"student_size": 32},
            "dino": {"epochs": 2, "batch_size": 4, "hidden": 16, "bottleneck": 8, "local_views": 2},
            "finetune": {"epochs": 2, "learning_rates": [1e-3], "probe_views": 1},
        }
    )


def grid(data: Path, **changes: Any) -> Grid:
    transfers = ["related", f"other={data / 'other'}"]
    asked = {"methods": ["dino"], "labels": ["3", "4"], "seeds": 1, "transfers": transfers, "points": 1}
    return make_grid(recipe(data), **{**asked, **changes})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("whole") / "comparison"


@pytest.fixture(scope="module")
def whole(data: Path, folder: Path) -> Comparison:
    return compare(recipe(data), grid(data), folder)


def test_no_cell_failed(whole: Comparison) -> None:
    assert [each.error for each in whole.outcomes] == [None] * 4


def test_a_transfer_set_is_learned_from_once_for_all_label_counts(whole: Comparison, folder: Path) -> None:
    assert len([*(folder / "stages").glob("self-distill-*")]) == 2


def test_checkpoints_on_the_way_are_tested(whole: Comparison) -> None:
    for outcome in whole.outcomes:
        first, last = outcome.curve
        assert first.spent.flops == pytest.approx(last.spent.flops / 2)


def test_planned_flops_are_those_that_are_spent(whole: Comparison, data: Path, folder: Path, tmp_path: Path) -> None:
    planned = plan(recipe(data), grid(data), tmp_path)["stages"]["self-distill"]
    manifests = [json.loads(path.read_text()) for path in (folder / "stages").glob("self-distill-*/stage.json")]
    assert planned["count"] == len(manifests)
    assert planned["flops"] == pytest.approx(sum(each["cost"]["flops"] for each in manifests), rel=0.02)
    assert planned["seconds"] > 0


def test_within_a_budget_a_student_learns_from_itself_as_long_as_that_allows(data: Path, tmp_path: Path) -> None:
    budget = 3e9
    asked = grid(data, labels=["3"], transfers=["related"], budgets=[f"{budget:.0f}"], points=0)
    cell = asked.cells[-1]
    with world("cpu") as here:
        layout = Layout(recipe(data), asked, tmp_path, here)
        job = layout.job(cell, Run(tmp_path), Quiet())
        dino = job.recipe.dino
        assert dino.epochs is not None
        longer = dino.model_copy(update={"epochs": dino.epochs + 1})
        speeds = layout.speeds(cell)
        assert method_cost(job, speeds).flops <= budget
        more = replace(job, recipe=job.recipe.model_copy(update={"dino": longer}))
        assert method_cost(more, speeds).flops > budget


def test_a_variant_with_more_views_has_speeds_of_its_own(data: Path, tmp_path: Path) -> None:
    variants: dict[str, dict[str, Any]] = {"two": {}, "four": {"dino.local_views": 4}, "warm": {"dino.momentum": 0.9}}
    asked = grid(data, labels=["3"], transfers=["related"], points=0, variants=variants)
    with world("cpu") as here:
        layout = Layout(recipe(data), asked, tmp_path, here)
        two, four, warm = (layout.speeds(cell).training["self-distill"].flops for cell in asked.cells)
    assert two == warm < four
