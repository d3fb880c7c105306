"""Encoders of text models made here."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tests.models.tiny_texts import save_family

from tutelage.export import save_model
from tutelage.models.model import LinearHead, Model, weight_hash
from tutelage.models.preprocess import TextPreprocess
from tutelage.models.sources import build_encoder, modality

SAID = ["red green", "blue circle square red green red"]


@pytest.fixture
def made(tmp_path: Path) -> tuple[Path, Model]:
    """A run folder with a finished model of two layers."""
    encoder = build_encoder(f"cut:2@{save_family('bert', tmp_path / 'bert')}", pretrained=True)
    assert isinstance(encoder.preprocess, TextPreprocess)
    encoder.preprocess = replace(encoder.preprocess, length=9, template="green {text}", truncation="left")
    model = Model(encoder, LinearHead(encoder.widths["features"], 2))
    save_model(tmp_path / "run" / "model", model, classes=["a", "b"], task="classification", provenance={})
    return tmp_path / "run", model


def test_a_run_gives_its_encoder_back(made: tuple[Path, Model]) -> None:
    run, model = made
    encoder = build_encoder(str(run), pretrained=True)
    assert weight_hash(encoder) == weight_hash(model.encoder)
    with torch.no_grad():
        assert torch.equal(encoder(SAID).features, model.encoder(SAID).features)


def test_texts_are_read_as_they_were_but_with_the_tokenizer_beside_the_weights(made: tuple[Path, Model]) -> None:
    run, model = made
    found = build_encoder(str(run), pretrained=True).preprocess
    assert isinstance(found, TextPreprocess)
    assert found.tokenizer == str(run / "model" / "tokenizer")
    assert replace(found, tokenizer="") == replace(model.encoder.preprocess, tokenizer="")  # type: ignore[type-var]


def test_another_size_is_another_length(made: tuple[Path, Model]) -> None:
    found = build_encoder(str(made[0]), pretrained=True, size=5).preprocess
    assert isinstance(found, TextPreprocess)
    assert (found.length, found.template) == (5, "green {text}")


def test_a_run_tells_what_it_reads(made: tuple[Path, Model]) -> None:
    assert modality(str(made[0])) == "text"


def test_a_run_that_was_moved_takes_its_tokenizer_along(made: tuple[Path, Model], tmp_path: Path) -> None:
    run, model = made
    shutil.move(run, tmp_path / "elsewhere")
    with torch.no_grad():
        found = build_encoder(str(tmp_path / "elsewhere"), pretrained=True)(SAID).features
    assert torch.equal(found, model.encoder(SAID).features)
    told = json.loads((tmp_path / "elsewhere" / "model" / "model.json").read_text())
    assert told["preprocess"]["tokenizer"] == "tokenizer"
