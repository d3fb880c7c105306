"""Image-text pairs from a table to a run folder: colored squares with the right or a wrong word for their color."""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from PIL import Image
from safetensors.torch import load_file
from tests.models.tiny_clips import save_tokenizer

from tutelage import pipeline
from tutelage.errors import DataError, ModelError, RecipeError
from tutelage.ledger import Cost
from tutelage.models import build_encoder
from tutelage.models.preprocess import PairPreprocess
from tutelage.models.weights import load_weights
from tutelage.progress import Quiet
from tutelage.recipe import Recipe
from tutelage.recipe_reading import make_recipe
from tutelage.run import Stage, open_run
from tutelage.training.distributed import World

COLORS = {"red": (220, 30, 30), "green": (30, 200, 30), "blue": (30, 30, 220)}
SIDE, WIDTH = 16, 16


@dataclass(frozen=True)
class Made:
    """Data and models in a folder."""

    folder: Path

    @property
    def image(self) -> str:
        return f"hf:{self.folder}/image"

    @property
    def text(self) -> str:
        return f"hf:{self.folder}/text"

    @property
    def student(self) -> str:
        return f"pair:{self.image}+{self.text}"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Tables of pairs, and an encoder each of images and texts with weights of their own."""
    folder = tmp_path_factory.mktemp("pairs")
    rng = np.random.default_rng(0)
    for name, count in (("train", 48), ("test", 32), ("pool", 24)):
        (folder / name).mkdir()
        with (folder / f"{name}.csv").open("w", newline="") as file:
            rows = csv.writer(file)
            rows.writerow(["image", "text", "label"])
            for row in range(count):
                color, other = rng.choice(list(COLORS), 2, replace=False).tolist()
                noise = rng.integers(-20, 21, (SIDE, SIDE, 3))
                pixels = np.clip(np.array(COLORS[color]) + noise, 0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(folder / name / f"{row}.png")
                said = color if row % 2 else other
                rows.writerow([f"{name}/{row}.png", f"a {said} square", "right" if row % 2 else "wrong"])
    tower = {"hidden_size": WIDTH, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    torch.manual_seed(0)
    vision = transformers.ViTConfig(**tower, image_size=SIDE, patch_size=8)
    transformers.ViTModel(vision, add_pooling_layer=False).save_pretrained(folder / "image")
    words = ("a", "square", *COLORS)
    language = transformers.BertConfig(**tower, vocab_size=4 + len(words), max_position_embeddings=12)
    transformers.BertModel(language, add_pooling_layer=False).save_pretrained(folder / "text")
    save_tokenizer(folder / "text", words)
    return Made(folder)


def recipe(made: Made, method: str, *, teacher: Any = None, **more: Any) -> Recipe:
    data = {name: f"{made.folder}/{file}.csv" for name, file in (("labeled", "train"), ("test", "test"))}
    if teacher is None:
        teacher = made.student if method.startswith("task-oriented") else [made.image, made.text]
    return make_recipe(
        {
            "data": {**data, "transfer": f"{made.folder}/pool.csv", **more.pop("data", {})},
            "student": made.student,
            "teacher": teacher,
            "method": method,
            "start": "pretrained",
            "views": {"student_size": SIDE, "teacher_size": SIDE, **more.pop("views", {})},
            "folds": 2,
            "adapt": {"modes": ["probe"]},
            "distill": {"epochs": 1, "batch_size": 8},
            "finetune": {"epochs": 1, "modes": ["finetune"], "learning_rates": [1e-3]},
            "pseudo_label": {"rounds": 2, "epochs": 1},
            "regularize": {"betas": [1.0], **more.pop("regularize", {})},
            "export": {"latency": False},
            **more,
        }
    )


@dataclass(frozen=True)
class Taught:
    """What the stages of a method left, without evaluation and export."""

    stages: dict[str, Stage]
    accuracy: float


def taught(folder: Path, wanted: Recipe) -> Taught:
    data, resolved = pipeline.check(wanted)
    with open_run(folder) as opened:
        job = pipeline.make_job(resolved, data, opened, World(torch.device("cpu")), Quiet())
        stages = pipeline.run_method(job)
    student = job.new_student()
    load_weights(list(stages.values())[-1].folder / "student.safetensors", student)
    assert data.test is not None
    right = job.predict(student, data.test, cost=Cost()).argmax(1) == torch.from_numpy(data.test.labels())
    return Taught(stages, float(right.float().mean()))


@pytest.mark.parametrize("method", ["scratch", "task-oriented", "pseudo-label", "kd"])
def test_every_method_makes_a_student_of_pairs(made: Made, tmp_path: Path, method: str) -> None:
    assert 0 <= taught(tmp_path, recipe(made, method)).accuracy <= 1


def test_a_student_learns_whether_word_and_color_belong_together(made: Made, tmp_path: Path) -> None:
    # Neither the image nor the text alone says it: each word is right for one color in three, and each color for one.
    finetune = {"epochs": 20, "modes": ["finetune"], "learning_rates": [1e-2], "batch_size": 8}
    found = taught(tmp_path, recipe(made, "aft", finetune=finetune, regularize={"betas": [0.1]}))
    assert found.accuracy > 0.9


def test_a_run_leaves_a_model_of_pairs(made: Made, tmp_path: Path) -> None:
    found = pipeline.run(recipe(made, "stl"), tmp_path)
    assert 0 <= found.metrics["test"]["accuracy"] <= 1
    assert json.loads((tmp_path / "results.json").read_text())["images"]["test"] == 32
    assert isinstance(build_encoder(str(tmp_path), pretrained=True).preprocess, PairPreprocess)


def test_the_features_of_each_teacher_get_weights(made: Made, tmp_path: Path) -> None:
    stages = taught(tmp_path, recipe(made, "aft")).stages
    learned = load_file(stages["finetune"].folder / "regularizer.safetensors")
    assert learned["weights"].shape == (2 * WIDTH,)
    assert stages["finetune"].results["regularizer"]["widths"] == {made.image: WIDTH, made.text: WIDTH}


@pytest.mark.parametrize("method", ["aft", "kd"])
def test_a_teacher_of_one_modality_is_enough(made: Made, tmp_path: Path, method: str) -> None:
    stages = taught(tmp_path, recipe(made, method, teacher=made.text)).stages
    assert stages["finetune"].results["regularizer"]["widths"] == {made.text: WIDTH}


@pytest.mark.parametrize("missing", ["image", "text"])
def test_tables_that_lack_half_of_a_pair_are_refused(made: Made, tmp_path: Path, missing: str) -> None:
    kept = [name for name in ("image", "text", "label") if name != missing]
    with (
        (made.folder / "train.csv").open(newline="") as source,
        (tmp_path / "half.csv").open("w", newline="") as file,
    ):
        rows = csv.DictWriter(file, kept, extrasaction="ignore")
        rows.writeheader()
        rows.writerows(csv.DictReader(source))
    with pytest.raises(DataError, match=f"half.csv: has no column '{missing}'; its columns are {', '.join(kept)}"):
        pipeline.check(recipe(made, "aft", data={"labeled": f"{tmp_path}/half.csv"}))


@pytest.mark.parametrize("method", ["aft", "kd"])
def test_a_teacher_of_pairs_cannot_hold_a_student(made: Made, method: str) -> None:
    with pytest.raises(ModelError, match="reads pairs, and a student of pairs is held by teachers of images and"):
        pipeline.check(recipe(made, method, teacher=made.student))


def test_a_teacher_of_images_cannot_teach_what_pairs_are(made: Made) -> None:
    with pytest.raises(ModelError, match=r"learns what the teacher makes of pairs, and .* does not read them"):
        pipeline.check(recipe(made, "task-oriented", teacher=made.image))


@pytest.mark.parametrize("method", ["rkd", "ft", "b-tuning", "dino", "agnostic-image", "task-oriented-aft"])
def test_a_method_without_a_form_for_pairs_is_refused(made: Made, method: str) -> None:
    with pytest.raises(RecipeError, match=f"'{method}': the student .* reads pairs, for which there are .*aft"):
        pipeline.check(recipe(made, method, teacher=made.image))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"noise": 4}, "regularize.noise: is for students of images or of texts alone"),
        ({"kernel": "none"}, "regularize: kernel: none .* for pairs give kernel: linear or rbf"),
        ({"weights": "dense"}, "weights: dense would need the whole product"),
    ],
)
def test_settings_that_pairs_do_not_have_are_refused(made: Made, settings: dict[str, Any], said: str) -> None:
    with pytest.raises(RecipeError, match=said):
        pipeline.check(recipe(made, "aft", regularize=settings))


def test_pairs_are_not_augmented_unless_asked_for(made: Made) -> None:
    _, resolved = pipeline.check(recipe(made, "aft"))
    assert resolved.views.augment == "none"
    assert resolved.regularize.views == 1
