"""The forms that a run leaves, and what it says of them; one small run, with nothing in it a stand-in."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import yaml
from PIL import Image

from tutelage.data.samples import Samples
from tutelage.evaluation.results import Result
from tutelage.export import EXPORTERS, Material, load_model
from tutelage.export import stage as stages
from tutelage.export.int8 import Agreement
from tutelage.pipeline import run
from tutelage.progress import Quiet
from tutelage.recipe import Recipe
from tutelage.recipe_reading import make_recipe


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes, each with more of one color."""
    root = tmp_path_factory.mktemp("data")
    generator = np.random.default_rng(0)
    for part, count in (("train", 12), ("test", 6)):
        for color, name in enumerate(("red", "green")):
            (root / part / name).mkdir(parents=True)
            for number in range(count):
                pixels = generator.integers(0, 120, (12, 10, 3))
                pixels[..., color] += 130
                Image.fromarray(pixels.astype(np.uint8)).save(root / part / name / f"{number}.png")
    return root


def recipe(data: Path, **changes: Any) -> Recipe:
    settings = {
        "method": "scratch",
        "data": {"labeled": str(data / "train"), "labels": 4, "test": str(data / "test")},
        "student": "timm:test_resnet",
        "folds": 2,
        "device": "cpu",
        "views": {"student_size": 32},
        "finetune": {"epochs": 2, "learning_rates": [1e-3]},
        # Two classes after two epochs: agreement is not what is tested here.
        "export": {"forms": ["int8", "torch"], "int8_drop": 1.0, "latency": True},
    }
    return make_recipe(settings, changes)


@pytest.fixture(scope="module")
def result(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Result:
    return run(recipe(data), tmp_path_factory.mktemp("run"))


def test_every_form_asked_for_is_there_and_onnx(result: Result) -> None:
    assert list(result.data["export"]) == ["onnx", "torch", "int8"]
    for name, found in result.data["export"].items():
        assert (result.folder / "model" / EXPORTERS[name].file).stat().st_size == found["bytes"]


def test_exact_forms_are_compared_with_the_model_and_int8_on_images_of_its_own(result: Result) -> None:
    found = result.data["export"]
    assert found["onnx"]["parity"] < 1e-3
    assert found["torch"]["parity"] < 1e-3
    # 24 transfer images: half calibrate, the others judge.
    assert (found["int8"]["kept"], found["int8"]["images"], found["int8"]["tolerance"]) == (True, 12, 1.0)


def test_exported_metrics_are_those_of_the_file_itself(result: Result, data: Path) -> None:
    for form in ("onnx", "int8"):
        file = result.folder / "model" / EXPORTERS[form].file
        session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
        classes = json.loads(session.get_modelmeta().custom_metadata_map["classes"])
        right = [
            classes[session.run(None, {"images": np.asarray(Image.open(path))[None]})[0].argmax()] == path.parent.name
            for path in (data / "test").rglob("*.png")
        ]
        assert result.data["exported"][form]["accuracy"] == pytest.approx(np.mean(right))


def test_the_loss_is_float_minus_int8(result: Result) -> None:
    found = result.data["exported"]
    assert found["int8_loss"] == pytest.approx(found["onnx"]["accuracy"] - found["int8"]["accuracy"])
    assert found["images"] == 12


def test_latency_goes_into_the_results_and_beside_the_model(result: Result) -> None:
    found = result.data["latency"]
    assert json.loads((result.folder / "model" / "latency.json").read_text()) == found
    assert {row["model"] for row in found["rows"]} == {"student", "student int8"}
    assert found["image"] == [12, 10]
    assert all(row["runs"] >= 50 and 0 < row["p50_ms"] <= row["p95_ms"] for row in found["rows"])


def test_model_json_says_what_the_model_is_worth_and_still_loads(result: Result) -> None:
    description = json.loads((result.folder / "model" / "model.json").read_text())
    low, high = description["intervals"]["student"]["accuracy"]
    assert low <= description["metrics"]["test"]["accuracy"] <= high
    assert description["data"]["test"]["images"] == 12
    assert description["limits"]
    assert make_recipe(description["recipe"]).export.forms == ("int8", "torch")
    assert load_model(result.folder).classes == ("green", "red")


def test_the_cards_recipe_is_the_runs(result: Result) -> None:
    card = (result.folder / "model" / "MODEL_CARD.md").read_text()
    block = card.partition("```yaml\n")[2].partition("\n```")[0]
    assert yaml.safe_load(block) == yaml.safe_load((result.folder / "recipe.yaml").read_text())


def test_a_finished_run_is_not_exported_again(result: Result, data: Path) -> None:
    again = run(recipe(data), result.folder)
    assert [stage.name for stage in again.stages if not stage.reused] == []


def test_other_forms_make_nothing_before_the_export_run_again(result: Result, data: Path) -> None:
    again = run(recipe(data, **{"export.forms": ["onnx"], "export.latency": False}), result.folder)
    assert [stage.name for stage in again.stages if not stage.reused] == ["export"]
    assert not (result.folder / "model" / "model.int8.onnx").exists()
    assert not (result.folder / "model" / "latency.json").exists()
    assert (again.data["exported"], again.data["latency"]) == (None, None)


class Heard(Quiet):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, text: str) -> None:
        self.lines.append(text)


@pytest.fixture(scope="module")
def refused(data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Result, Heard, Recipe]:
    """A run whose INT8 file agrees on 97 of 100 images, where 98 are asked for."""
    asked = recipe(data, **{"export.forms": ["int8"], "export.int8_drop": 0.02, "export.latency": False})
    heard = Heard()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stages, "compare", lambda *_: Agreement(100, 0.97, 0.01))
        return run(asked, tmp_path_factory.mktemp("refused"), progress=heard), heard, asked


Refused = tuple[Result, Heard, Recipe]


def test_a_file_that_disagrees_is_removed_and_the_run_goes_on(refused: Refused) -> None:
    result, _, _ = refused
    found: Mapping[str, Any] = result.data["export"]["int8"]
    assert (found["kept"], found["agreement"]) == (False, 0.97)
    assert not (result.folder / "model" / "model.int8.onnx").exists()
    assert result.data["exported"] is None


def test_it_is_said_aloud_and_in_the_card(refused: Refused) -> None:
    result, heard, _ = refused
    card = (result.folder / "model" / "MODEL_CARD.md").read_text()
    why = "class on 97.0% of 100 transfer images, and 98.0% are asked for"
    assert [line for line in heard.lines if why in line]
    assert "not kept" in card
    assert why in card


def test_it_is_not_tried_again_when_the_run_is_resumed(refused: Refused) -> None:
    result, _, asked = refused
    assert all(stage.reused for stage in run(asked, result.folder).stages)


def test_a_form_that_cannot_be_made_is_told_and_the_run_goes_on(tiny: Any, classes: Any, tmp_path: Path) -> None:
    material = Material(tiny(), classes, {})
    EXPORTERS["onnx"].write(material, tmp_path)
    found = stages._gated(EXPORTERS["int8"], material, tmp_path, Samples(()), 0.02)
    assert not found["kept"]
    assert "no images to calibrate" in found["why"]
