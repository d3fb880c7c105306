"""What teachers teach, before they are loaded and once they are."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from safetensors.torch import load_file
from tests.methods.tiny_jobs import tiny_job, tiny_run
from tests.training.tiny_models import tiny_model
from torch import Tensor

from tutelage.methods.lessons import LESSONS, Lesson
from tutelage.methods.targets import target_plan
from tutelage.models import build_encoder
from tutelage.models.model import LinearHead, Model
from tutelage.models.preprocess import ImagePreprocess

CLASSES = 7
TEACHERS = {"timm:test_efficientnet": 32, "timm:test_vit": 160, "bundled:efficientnet-lite0": 64}
CLIP = "openclip:tiny-teacher"


@pytest.fixture(scope="module", autouse=True)
def _tiny_clip(tmp_path_factory: pytest.TempPathFactory) -> None:
    """A CLIP model of its own, without weights."""
    folder = tmp_path_factory.mktemp("clips")
    vision = {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 8}
    text = {"context_length": 8, "vocab_size": 64, "width": 16, "heads": 2, "layers": 1}
    (folder / "tiny-teacher.json").write_text(json.dumps({"embed_dim": 24, "vision_cfg": vision, "text_cfg": text}))
    open_clip.add_model_config(folder)


def built(name: str, size: int) -> Model:
    encoder = build_encoder(name, pretrained=False, size=size)
    return Model(encoder, LinearHead(encoder.widths["features"], CLASSES)).eval()


def told(model: Model, output: str) -> tuple[int, ...]:
    """The shape of a row of what a teacher really gives."""
    assert isinstance(model.encoder.preprocess, ImagePreprocess)
    side = model.encoder.preprocess.size
    with torch.no_grad():
        found: Tensor = model(torch.zeros(2, 3, side, side, dtype=torch.uint8), frozenset({output})).require(output)
    return tuple(found.shape[1:])


@pytest.mark.parametrize("lesson", LESSONS.values(), ids=LESSONS)
@pytest.mark.parametrize(("name", "size"), [*TEACHERS.items(), (CLIP, 32)])
def test_shapes_told_before_are_those_of_what_a_teacher_gives(name: str, size: int, lesson: Lesson) -> None:
    model = built(name, size)
    shapes = lesson.shapes(name, size=size, classes=CLASSES)
    assert shapes == {output: told(model, output) for output in shapes}


@pytest.mark.parametrize("lesson", LESSONS.values(), ids=LESSONS)
@pytest.mark.parametrize(("name", "size"), [*TEACHERS.items(), (CLIP, 32)])
def test_a_built_teacher_teaches_by_the_same_output_and_width(name: str, size: int, lesson: Lesson) -> None:
    told_before = lesson.shapes(name, size=size, classes=CLASSES)
    widths = {output: shape[:1] for output, shape in told_before.items()}
    assert lesson.shapes_of(built(name, size), CLASSES) == widths


@pytest.mark.parametrize(("name", "output"), [*((name, "features") for name in TEACHERS), (CLIP, "embedding")])
def test_a_teacher_with_an_embedding_teaches_images_by_it_and_others_by_features(name: str, output: str) -> None:
    assert LESSONS["image"].shapes(name, size=TEACHERS.get(name, 32), classes=CLASSES).keys() == {output}


@pytest.mark.parametrize("lesson", LESSONS.values(), ids=LESSONS)
@pytest.mark.parametrize(("name", "size"), [("timm:test_vit", 160), (CLIP, 32)])
def test_the_objective_asks_the_teacher_for_that_output_alone(name: str, size: int, lesson: Lesson) -> None:
    shapes = lesson.shapes(name, size=size, classes=CLASSES)
    objective = lesson.of(tiny_model(), shapes, temperature=1.0)
    assert objective.needs.teachers == {"teacher": frozenset(shapes)}


def test_only_predictions_take_an_adapted_teacher() -> None:
    assert {name for name, lesson in LESSONS.items() if lesson.adapted} == {"logits"}


@pytest.mark.parametrize("method", ["agnostic-patch", "agnostic-image"])
def test_a_store_takes_the_bytes_that_were_planned(tmp_path: Path, method: str) -> None:
    lesson = LESSONS[method.removeprefix("agnostic-").replace("patch", "patches")]
    settings: dict[str, Any] = {"distill__targets": "cached", "distill__views": 2}
    recipe = tiny_job(tmp_path / "planned", method, **settings).recipe
    stored = tiny_run(tmp_path / "run", method, **settings)["targets"].results
    plan = target_plan(recipe, lesson, "cached", classes=3, images=12)
    assert (stored["bytes"], stored["forms"]) == (plan.bytes, plan.forms)
    assert set(plan.forms.values()) == {"float16"}


def off(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> float:
    return max(float((one[key].double() - other[key].double()).abs().max()) for key in one)


@pytest.mark.parametrize("teacher", ["timm:test_efficientnet", CLIP])
@pytest.mark.parametrize("method", ["agnostic-patch", "agnostic-image"])
def test_stored_features_teach_what_a_live_teacher_does(tmp_path: Path, method: str, teacher: str) -> None:
    def student(name: str, **settings: Any) -> Mapping[str, Tensor]:
        changes = {f"distill__{key}": value for key, value in {"epochs": 4, **settings}.items()}
        stages = tiny_run(tmp_path / name, method, teacher=teacher, finetune__modes=["probe"], **changes)
        assert stages["targets"].results["mode"] == settings["targets"]
        return load_file(stages["distill"].folder / "student.safetensors")

    live = student("live", targets="live")
    assert off(live, student("cached", targets="cached", views=4)) < 2e-3
    # Another view of each image teaches something else.
    assert off(live, student("fewer", targets="cached", views=1)) > 1e-2
