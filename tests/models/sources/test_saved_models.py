"""Encoders of models made here."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tutelage.errors import ModelError, UnknownNameError
from tutelage.export import save_model
from tutelage.models.model import LinearHead, Model, weight_hash
from tutelage.models.preprocess import ImagePreprocess
from tutelage.models.sources import build_encoder, check_name
from tutelage.recipe_reading import make_recipe


@pytest.fixture
def made(tmp_path: Path) -> tuple[Path, Model]:
    """A run folder with a finished model."""
    encoder = build_encoder("timm:test_efficientnet", pretrained=False, size=40)
    assert isinstance(encoder.preprocess, ImagePreprocess)
    encoder.preprocess = replace(encoder.preprocess, crop=0.75, mean=(0.1, 0.2, 0.3))
    model = Model(encoder, LinearHead(encoder.widths["features"], 2))
    save_model(tmp_path / "run" / "model", model, classes=["a", "b"], task="classification", provenance={})
    return tmp_path / "run", model


@pytest.mark.parametrize("inside", ["", "model", "model/model.safetensors"])
def test_a_run_its_model_folder_and_its_weights_name_the_encoder(made: tuple[Path, Model], inside: str) -> None:
    run, model = made
    encoder = build_encoder(str(run / inside), pretrained=True)
    assert weight_hash(encoder) == weight_hash(model.encoder)


def test_the_preprocess_comes_with_it(made: tuple[Path, Model]) -> None:
    run, model = made
    assert build_encoder(str(run), pretrained=True).preprocess == model.encoder.preprocess


def test_another_size_changes_the_size_alone(made: tuple[Path, Model]) -> None:
    run, model = made
    assert isinstance(model.encoder.preprocess, ImagePreprocess)
    assert build_encoder(str(run), pretrained=True, size=64).preprocess == replace(model.encoder.preprocess, size=64)


def test_random_start_leaves_the_weights(made: tuple[Path, Model]) -> None:
    run, model = made
    torch.manual_seed(1)
    assert weight_hash(build_encoder(str(run), pretrained=False)) != weight_hash(model.encoder)


def test_a_student_from_a_run_starts_with_its_weights(made: tuple[Path, Model]) -> None:
    recipe = make_recipe({"data": {"labeled": "digits"}, "student": str(made[0]), "method": "scratch"})
    assert recipe.resolved(short_side=8, labels=50, transfer=100, classes=10).start == "pretrained"


def test_a_damaged_description_is_refused(made: tuple[Path, Model]) -> None:
    (made[0] / "model" / "model.json").write_text(json.dumps({"schema": 1}))
    with pytest.raises(ModelError, match="names no encoder"):
        check_name(str(made[0]), pretrained=True)


def test_a_path_that_is_not_there_is_an_unknown_name() -> None:
    with pytest.raises(UnknownNameError, match=r"runs/nothing"):
        check_name("runs/nothing", pretrained=True)
