"""Text classification from a table to a run folder, on a tiny student and a real teacher."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tutelage import pipeline
from tutelage.comparison.compare import compare
from tutelage.comparison.grid import make_grid
from tutelage.errors import DataError, ModelError, RecipeError
from tutelage.recipe_reading import make_recipe

SUBJECTS = {"food": ("soup", "bread", "cheese", "apples"), "weather": ("rain", "snow", "storm", "sunshine")}


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A labeled, an unlabeled and a test table of short sentences about two subjects."""
    folder = tmp_path_factory.mktemp("texts")
    rng = np.random.default_rng(0)

    def sentence(label: str) -> str:
        words = rng.choice(["today", "again", "we", "had", "some", "really", "good", "and"], 5).tolist()
        return " ".join([*words, rng.choice(SUBJECTS[label]), str(rng.integers(1_000_000))])

    for name, count in (("train", 40), ("test", 30), ("pool", 60)):
        with (folder / f"{name}.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["text", "label"])
            for row in range(count):
                label = sorted(SUBJECTS)[row % 2]
                writer.writerow([sentence(label), label])
    return folder


def recipe(tables: Path, method: str, **more: Any) -> Any:
    data = {"labeled": f"{tables}/train.csv", "test": f"{tables}/test.csv", "transfer": f"{tables}/pool.csv"}
    return make_recipe(
        {
            "data": {**data, "labels": 10},
            "student": "text:tiny",
            "teacher": "bundled:minilm-l6",
            "method": method,
            "text": {"student_length": 24, "teacher_length": 24},
            "folds": 2,
            "adapt": {"modes": ["probe"]},
            "distill": {"epochs": 2},
            "finetune": {"epochs": 2, "modes": ["finetune"], "learning_rates": [1e-3]},
            "pseudo_label": {"rounds": 2, "epochs": 1},
            "regularize": {"betas": [1.0]},
            "export": {"latency": False},
            **more,
        }
    )


METHODS = ("scratch", "task-oriented", "agnostic-text", "pseudo-label", "stl", "aft", "kd", "rkd", "ft", "b-tuning")


@pytest.mark.parametrize("method", METHODS)
def test_every_method_makes_a_student_of_texts(tables: Path, tmp_path: Path, method: str) -> None:
    start = {} if method in ("scratch", "task-oriented", "agnostic-text") else {"start": "random"}
    found = pipeline.run(recipe(tables, method, **start), tmp_path)
    assert 0 <= found.metrics["test"]["accuracy"] <= 1
    assert json.loads((tmp_path / "results.json").read_text())["images"]["test"] == 30


def test_a_run_gives_the_same_numbers_again(tables: Path, tmp_path: Path) -> None:
    first, second = (pipeline.run(recipe(tables, "scratch"), tmp_path / name).metrics for name in ("a", "b"))
    assert first == second


def test_a_teacher_of_images_is_refused_before_data_are_read(tables: Path) -> None:
    with pytest.raises(ModelError, match="efficientnet-lite0 reads images, and the student text:tiny reads texts"):
        pipeline.check(recipe(tables, "task-oriented", teacher="bundled:efficientnet-lite0"))


@pytest.mark.parametrize("method", ["dino", "agnostic-patch", "agnostic-image", "pseudo-label-dino"])
def test_a_method_of_images_is_refused_and_those_of_texts_are_named(tables: Path, method: str) -> None:
    with pytest.raises(
        RecipeError, match=f"'{method}': the student text:tiny reads texts, for which there are .*aft"
    ):
        pipeline.check(recipe(tables, method))


@pytest.mark.parametrize("views", [{"student_size": 64}, {"augment": "full"}, {"crop": 0.9}])
def test_what_only_images_have_is_refused(tables: Path, views: dict[str, Any]) -> None:
    with pytest.raises(RecipeError, match=f"views.{next(iter(views))}: the student reads texts"):
        pipeline.check(recipe(tables, "scratch", views=views))


def test_what_a_teacher_says_of_texts_is_stored_once_for_all_seeds(tables: Path, tmp_path: Path) -> None:
    store = {"store": {"folder": str(tmp_path / "store")}, "distill": {"epochs": 2, "targets": "cached"}}
    for seed in (0, 1):
        pipeline.cache(recipe(tables, "agnostic-text", seed=seed, **store), tmp_path / str(seed))
    reused = [json.loads(next((tmp_path / str(seed)).glob("*-targets/stage.json")).read_text()) for seed in (0, 1)]
    assert [stage["results"]["reused"] for stage in reused] == [False, True]


def test_a_template_for_two_texts_is_refused_by_a_comparison_before_anything_is_trained(
    tables: Path, tmp_path: Path
) -> None:
    common = recipe(tables, "scratch", text={"template": "{text} / {text_pair}"})
    with pytest.raises(DataError, match="asks for two texts"):
        compare(common, make_grid(common, methods=("scratch",), seeds=1, points=0), tmp_path)


@pytest.mark.parametrize(("student", "rate"), [("text:tiny", 5e-4), ("timm:test_efficientnet", 2e-3)])
def test_a_pretraining_on_labels_has_a_rate_that_suits_what_is_read(student: str, rate: float) -> None:
    open_recipe = make_recipe({"data": {"labeled": "digits"}, "student": student, "method": "scratch"})
    found = open_recipe.resolved(short_side=8, labels=20, transfer=100, classes=2)
    assert found.pretrain.learning_rate == rate
