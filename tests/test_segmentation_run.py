"""Whole segmentation runs on colored shapes: small enough for seconds, and nothing in them is a stand-in."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from tutelage.checks import check
from tutelage.comparison.compare import compare, plan
from tutelage.comparison.grid import make_grid
from tutelage.errors import DataError, RecipeError
from tutelage.evaluation.results import Result
from tutelage.methods import METHODS
from tutelage.pipeline import cache, plan_cache, run
from tutelage.ranking.rank import rank
from tutelage.recipe import Recipe
from tutelage.recipe_reading import make_recipe

NAMES = ("ground", "red", "blue")
DENSE = [name for name, method in METHODS.items() if method.dense and method.pairing is None]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Red and blue rectangles on gray noise, 40 by 48 pixels."""
    root = tmp_path_factory.mktemp("shapes")
    generator = np.random.default_rng(0)
    for part, count in (("train", 14), ("test", 4)):
        for kind in ("images", "masks"):
            (root / part / kind).mkdir(parents=True)
        for number in range(count):
            pixels = generator.integers(90, 130, (40, 48, 3)).astype(np.uint8)
            mask = np.zeros((40, 48), np.uint8)
            for label, channel in ((1, 0), (2, 2)):
                top, left = generator.integers(0, 20, 2)
                pixels[top : top + 18, left : left + 18] = 40
                pixels[top : top + 18, left : left + 18, channel] = 220
                mask[top : top + 18, left : left + 18] = label
            mask[:2] = 255
            Image.fromarray(pixels).save(root / part / "images" / f"{number}.png")
            Image.fromarray(mask).save(root / part / "masks" / f"{number}.png")
        (root / part / "classes.txt").write_text("\n".join(NAMES))
    for name in ("round", "square"):
        (root / "other" / name).mkdir(parents=True)
        for number in range(4):
            pixels = generator.integers(0, 255, (32, 32, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(root / "other" / name / f"{number}.png")
    return root


def recipe(data: Path, method: str = "task-oriented", changes: Mapping[str, Any] | None = None) -> Recipe:
    settings = {
        "task": "segmentation",
        "method": method,
        "data": {
            "labeled": str(data / "train"),
            "labels": 6,
            "test": str(data / "test"),
            "pretraining": str(data / "other") if method == "supervised" else None,
        },
        "teacher": "bundled:efficientnet-lite0",
        "student": "timm:test_efficientnet",
        "start": "random",
        "folds": 2,
        "device": "cpu",
        "views": {"size": 64},
        "pretraining_views": {"teacher_size": 64, "student_size": 32},
        "adapt": {"epochs": 1, "learning_rates": [1e-3]},
        "pretrain": {"epochs": 1},
        "distill": {"epochs": 2, "batch_size": 4},
        "dino": {"epochs": 1, "batch_size": 8, "hidden": 16, "bottleneck": 8, "local_views": 2},
        "finetune": {"epochs": 2, "learning_rates": [1e-3]},
    }
    return make_recipe(settings, changes)


@pytest.fixture(scope="module")
def whole(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Result:
    changes = {"baselines": ["scratch"], "distill.targets": "cached", "distill.views": 2}
    return run(recipe(data, changes=changes), tmp_path_factory.mktemp("whole"))


def test_a_run_leaves_the_metrics_of_every_model(whole: Result) -> None:
    found = json.loads((whole.folder / "results.json").read_text())
    assert found["task"] == "segmentation"
    for metrics in (
        found["metrics"]["test"],
        found["metrics"]["val"],
        found["baselines"]["scratch"]["metrics"]["test"],
        *found["teacher_metrics"].values(),
    ):
        assert set(metrics) == {"miou", "pixel_accuracy", "class_accuracy"}
        assert all(0 <= value <= 1 for value in metrics.values())
    assert set(found["teacher_metrics"]) == {"probe", "finetune"}


def test_the_pixels_of_every_test_image_are_counted_but_for_ignored_ones(whole: Result) -> None:
    folder = next(stage.folder for stage in whole.stages if stage.name == "evaluate")
    counts = load_file(folder / "predictions.safetensors")["student"]
    assert counts.shape == (4, 3, 3)
    assert counts[..., 1].sum(1).tolist() == [38 * 48] * 4
    assert torch.equal(counts[..., 1].sum(1), counts[..., 2].sum(1))


def test_the_teachers_targets_are_stored_at_its_heads_resolution(whole: Result) -> None:
    stored = next(stage for stage in whole.stages if stage.name == "targets").results
    assert stored["mode"] == "cached"
    assert stored["bytes"] == 2 * 14 * 3 * 8 * 8 * 2


def test_the_model_answers_with_a_mask_of_the_images_size(whole: Result, data: Path) -> None:
    from tutelage.runtime import open_model

    image = np.asarray(Image.open(data / "test" / "images" / "0.png"))
    (answer,) = open_model(whole.folder / "model").answers([image])
    assert answer.mask is not None
    assert answer.mask.shape == image.shape[:2]


def test_the_page_is_written(whole: Result) -> None:
    assert "mean iou" in (whole.folder / "report.html").read_text().lower()


def test_every_method_is_planned_and_compared(data: Path, tmp_path: Path) -> None:
    common = recipe(data, "supervised", {"data.labels": 4})
    grid = make_grid(common, methods=DENSE, seeds=1, points=1)
    planned = plan(common, grid, tmp_path)
    found = compare(common, grid, tmp_path)
    assert planned["cells"] == len(DENSE)
    assert found.about["metric"] == "miou"
    assert [(outcome.cell.method, outcome.error) for outcome in found.outcomes] == [(name, None) for name in DENSE]
    assert all(outcome.score is not None and 0 < outcome.score <= 1 for outcome in found.outcomes)


def test_what_a_comparison_will_compute_is_known(data: Path, tmp_path: Path) -> None:
    """Seconds are not: nothing is timed in tests."""
    common = recipe(data, "scratch", {"data.labels": 4})
    grid = make_grid(common, methods=["scratch", "task-oriented-lp", "agnostic-patch"], seeds=1, points=0)
    planned = plan(common, grid, tmp_path)["flops"]
    compare(common, grid, tmp_path)
    spent = sum(json.loads(file.read_text())["cost"].get("flops", 0) for file in tmp_path.glob("stages/*/stage.json"))
    assert planned == pytest.approx(spent, rel=0.05)


def test_the_same_recipe_gives_the_same_numbers(data: Path, tmp_path: Path) -> None:
    one, other = (run(recipe(data, "scratch", {"export.forms": ["onnx"]}), tmp_path / name) for name in "ab")
    assert one.metrics == other.metrics


def test_stored_targets_serve_another_number_of_labels(data: Path, tmp_path: Path) -> None:
    """What a pretrained teacher says of pictures knows nothing of masks."""
    changes = {"distill.targets": "cached", "distill.views": 1, "store.folder": str(tmp_path / "store")}
    first = cache(recipe(data, "agnostic-patch", changes), tmp_path / "a")
    again = cache(recipe(data, "agnostic-patch", {**changes, "data.labels": 4}), tmp_path / "b")
    assert (first["reused"], again["reused"]) == (False, True)


def test_what_storing_takes_is_predicted(data: Path) -> None:
    found = plan_cache(recipe(data, "task-oriented-lp", {"distill.targets": "cached", "distill.views": 2}))
    assert found["targets"]["bytes"] == 2 * 14 * 3 * 8 * 8 * 2


@pytest.mark.parametrize("method", [name for name, method in METHODS.items() if not method.dense])
def test_a_method_for_classification_is_refused(method: str, data: Path) -> None:
    with pytest.raises(RecipeError, match=r"is for classification; for segmentation there are scratch, supervised"):
        recipe(data, method)


def test_teachers_are_not_ranked_for_pixels(data: Path) -> None:
    with pytest.raises(RecipeError, match=r"task 'segmentation' tells their pixels apart; compare them"):
        rank(recipe(data), ["timm:test_efficientnet"])


def test_masks_of_another_size_are_told_by_name(data: Path, tmp_path: Path) -> None:
    for kind in ("images", "masks"):
        (tmp_path / kind).mkdir()
    for number in range(4):
        Image.new("RGB", (16, 16)).save(tmp_path / "images" / f"{number}.png")
        Image.new("L", (8, 16)).save(tmp_path / "masks" / f"{number}.png")
    with pytest.raises(DataError, match=r"0\.png"):
        check(recipe(data, "scratch", {"data.labeled": str(tmp_path)}))
