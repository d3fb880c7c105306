"""Runs on texts are analyzed and their teachers ranked, as those on images are."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from tests.models.tiny_texts import save_family

from tutelage.analysis.analyze import analyze
from tutelage.analysis.of_run import RunAnalysis
from tutelage.pipeline import run
from tutelage.ranking.rank import rank
from tutelage.recipe import Recipe
from tutelage.recipe_reading import make_recipe


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Recipe:
    folder = tmp_path_factory.mktemp("texts")
    for name, count in (("train", 6), ("test", 8)):
        with (folder / f"{name}.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["text", "label"])
            for row in range(count):
                writer.writerow([f"{'red ' * (row + 1)}{name}", "red"])
                writer.writerow([f"{'blue ' * (row + 1)}{name}", "blue"])
    student, teacher = (save_family(family, folder / family) for family in ("bert", "gpt2"))
    return make_recipe(
        {
            "data": {"labeled": f"{folder}/train.csv", "test": f"{folder}/test.csv"},
            "student": student,
            "teacher": teacher,
            "method": "aft",
            "folds": 2,
            "device": "cpu",
            "finetune": {"epochs": 2, "learning_rates": [1e-3]},
            "regularize": {"betas": [1.0]},
        }
    )


def test_a_run_on_texts_is_analyzed_in_full(recipe: Recipe, tmp_path: Path) -> None:
    found = analyze(run(recipe, tmp_path).folder)
    assert isinstance(found, RunAnalysis)
    assert found.left_out == {}
    assert found.inference is not None
    assert [(each.size, each.tokens is not None) for each in found.inference] == [(None, True), (None, True)]


def test_the_page_of_a_run_on_texts_tells_of_no_image(recipe: Recipe, tmp_path: Path) -> None:
    folder = run(recipe, tmp_path).folder
    analyze(folder)
    page = (folder / "analysis.html").read_text()
    assert "16 test texts" in page
    assert "image" not in page.split("</style>")[1].lower()


def test_teachers_of_texts_are_ranked(recipe: Recipe) -> None:
    found = rank(recipe, [*recipe.teachers, recipe.student], seeds=1)
    assert found.failed == {}
    assert found.modality == "text"
    assert "images" not in found.verdict


def test_a_teacher_of_images_is_not_ranked_on_texts(recipe: Recipe) -> None:
    found = rank(recipe, [*recipe.teachers, "bundled:efficientnet-lite0"], seeds=1)
    assert found.failed == {
        "bundled:efficientnet-lite0": "bundled:efficientnet-lite0: reads images; name encoders that read texts"
    }
