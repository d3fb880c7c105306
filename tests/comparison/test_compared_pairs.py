"""A comparison of students that learn from image-text pairs: what it shares and forecasts, how budgets are kept."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tests.models.tiny_clips import RANDOM, tiny_clip

from tutelage.comparison.compare import compare, plan
from tutelage.comparison.forecast import method_cost
from tutelage.comparison.grid import Grid, make_grid
from tutelage.comparison.layout import Layout
from tutelage.comparison.table import Comparison
from tutelage.errors import ModelError
from tutelage.progress import Quiet
from tutelage.recipe import Recipe
from tutelage.recipe_reading import make_recipe
from tutelage.run import Run
from tutelage.training.distributed import world

PAIRS = 12


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes, each with more of one color, and pictures with a text."""
    root = tmp_path_factory.mktemp("compared-pairs")
    generator = np.random.default_rng(0)
    rows = ["image,text"]
    for part, count in (("train", 8), ("test", 3), ("pairs", PAIRS // 2)):
        for color, name in enumerate(("red", "green")):
            (root / part / name).mkdir(parents=True)
            for number in range(count):
                pixels = generator.integers(0, 120, (10, 10, 3))
                pixels[..., color] += 130
                Image.fromarray(pixels.astype(np.uint8)).save(root / part / name / f"{number}.png")
                if part == "pairs":
                    rows.append(f"{part}/{name}/{number}.png,{name} noise of number {number}")
    (root / "pairs.csv").write_text("\n".join(rows))
    return root


def recipe(data: Path, **changes: Any) -> Recipe:
    return make_recipe(
        {
            "data": {
                "labeled": str(data / "train"),
                "labels": 3,
                "test": str(data / "test"),
                "pairs": str(data / "pairs.csv"),
            },
            "teacher": tiny_clip(),
            "student": "timm:test_efficientnet",
            "folds": 2,
            "device": "cpu",
            "views": {"student_size": 32},
            "clip": {"epochs": 2, "batch_size": 4, "text": {"tower": RANDOM}, "targets": "cached", "views": 2},
            "finetune": {"epochs": 2, "learning_rates": [1e-3], "probe_views": 1},
        },
        changes,
    )


def grid(data: Path, **changes: Any) -> Grid:
    asked = {"methods": ["clip", "clip-mimic", "scratch"], "labels": ["3", "4"], "seeds": 1, "points": 1}
    return make_grid(recipe(data), **{**asked, **changes})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("whole") / "comparison"


@pytest.fixture(scope="module")
def whole(data: Path, folder: Path) -> Comparison:
    return compare(recipe(data), grid(data), folder)


def test_no_cell_failed(whole: Comparison) -> None:
    assert [each.error for each in whole.outcomes] == [None] * 6


@pytest.mark.parametrize(("stage", "count"), [("align", 2), ("targets", 1)])
def test_pairs_are_learned_from_once_for_all_label_counts(
    whole: Comparison, folder: Path, stage: str, count: int
) -> None:
    assert len([*(folder / "stages").glob(f"{stage}-*")]) == count


def test_checkpoints_on_the_way_are_tested(whole: Comparison) -> None:
    assert [len(outcome.curve) for outcome in whole.outcomes if outcome.cell.method != "scratch"] == [2] * 4


@pytest.mark.parametrize("stage", ["align", "targets"])
def test_planned_flops_are_those_that_are_spent(
    whole: Comparison, data: Path, folder: Path, tmp_path: Path, stage: str
) -> None:
    planned = plan(recipe(data), grid(data), tmp_path)["stages"][stage]
    manifests = [json.loads(path.read_text()) for path in (folder / "stages").glob(f"{stage}-*/stage.json")]
    assert planned["count"] == len(manifests)
    assert planned["flops"] == pytest.approx(sum(each["cost"]["flops"] for each in manifests), rel=0.02)
    assert planned["seconds"] > 0


@pytest.mark.parametrize("method", ["clip", "clip-mimic"])
def test_within_a_budget_pairs_are_seen_as_often_as_that_allows(data: Path, tmp_path: Path, method: str) -> None:
    budget = 1e10
    asked = grid(data, methods=[method], labels=["3"], budgets=[f"{budget:.0f}"], points=0)
    cell = asked.cells[-1]
    with world("cpu") as here:
        layout = Layout(recipe(data), asked, tmp_path, here)
        job = layout.job(cell, Run(tmp_path), Quiet())
        clip = job.recipe.clip
        assert clip.epochs is not None
        longer = clip.model_copy(update={"epochs": clip.epochs + 1})
        speeds = layout.speeds(cell)
        assert method_cost(job, speeds).flops <= budget
        more = replace(job, recipe=job.recipe.model_copy(update={"clip": longer}))
        assert method_cost(more, speeds).flops > budget


def test_a_live_teacher_costs_both_of_its_towers_in_every_epoch(data: Path, tmp_path: Path) -> None:
    variants: dict[str, dict[str, Any]] = {"stored": {}, "live": {"clip.targets": "live"}}
    asked = grid(data, methods=["clip-mimic"], labels=["3"], points=0, variants=variants)
    with world("cpu") as here:
        layout = Layout(recipe(data), asked, tmp_path, here)
        stored, live = (
            method_cost(layout.job(cell, Run(tmp_path), Quiet()), layout.speeds(cell)).flops for cell in asked.cells
        )
        passes = layout.speeds(asked.cells[0]).passes
    # Two epochs of two views: images as often either way, texts once more.
    assert live - stored == pytest.approx(PAIRS * passes["teacher-text"].flops, rel=1e-6)


def test_a_variant_with_longer_texts_has_speeds_of_its_own(data: Path, tmp_path: Path) -> None:
    changes = {"short": {"clip.text.length": 4}, "wide": {"clip.crop": [0.5, 1.0]}}
    variants: dict[str, dict[str, Any]] = {"own": {}, **changes}
    asked = grid(data, methods=["clip"], labels=["3"], points=0, variants=variants)
    with world("cpu") as here:
        layout = Layout(recipe(data), asked, tmp_path, here)
        own, short, wide = (layout.speeds(cell).training["align"].flops for cell in asked.cells)
    assert short < own == wide


def test_a_teacher_without_a_text_tower_is_refused_before_a_cell_runs(data: Path, tmp_path: Path) -> None:
    asked = recipe(data, teacher="bundled:efficientnet-lite0")
    with pytest.raises(ModelError, match="has no text tower here"):
        compare(asked, make_grid(asked, methods=["clip-mimic"], labels=["3"], seeds=1), tmp_path)
