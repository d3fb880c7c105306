from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tests.models.tiny_texts import FAMILIES, save_family

from tutelage.errors import ModelError
from tutelage.models import Encoder, build_encoder, check_name
from tutelage.models.preprocess import TextPreprocess
from tutelage.models.sources import modality
from tutelage.runtime.texts import paired

SAID = ["red green", "blue circle square red green red", "blue"]


def padded(encoder: Encoder, side: str) -> torch.Tensor:
    assert isinstance(encoder.preprocess, TextPreprocess)
    encoder.preprocess = replace(encoder.preprocess, padding=side)  # type: ignore[arg-type]
    with torch.no_grad():
        features = encoder(SAID).features
    assert features is not None
    return features


@pytest.mark.parametrize("family", FAMILIES)
def test_features_do_not_depend_on_the_side_of_padding(family: str, tmp_path: Path) -> None:
    encoder = build_encoder(save_family(family, tmp_path), pretrained=True)
    torch.testing.assert_close(padded(encoder, "left"), padded(encoder, "right"))


@pytest.mark.parametrize("family", FAMILIES)
def test_features_do_not_depend_on_the_texts_beside(family: str, tmp_path: Path) -> None:
    encoder = build_encoder(save_family(family, tmp_path), pretrained=True)
    with torch.no_grad():
        alone = torch.cat([encoder([text]).features for text in SAID])
    torch.testing.assert_close(padded(encoder, "right"), alone, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_folder_s_modality_is_known_by_its_configuration(family: str, tmp_path: Path) -> None:
    name = save_family(family, tmp_path)
    (tmp_path / "model.safetensors").unlink()
    assert modality(name) == "text"


@pytest.mark.parametrize(("family", "limit"), [("bert", 40), ("roberta", 39), ("gpt2", 40), ("t5", None)])
def test_the_limit_is_how_many_positions_there_are(family: str, limit: int | None, tmp_path: Path) -> None:
    """RoBERTa's positions begin behind that of padding, here 0."""
    encoder = build_encoder(save_family(family, tmp_path), pretrained=False)
    assert isinstance(encoder.preprocess, TextPreprocess)
    assert encoder.preprocess.limit == limit
    with torch.no_grad():
        assert encoder(["red " * 500]).features is not None


def test_a_model_that_tells_segments_apart_reads_which_part_is_which(tmp_path: Path) -> None:
    encoder = build_encoder(save_family("bert", tmp_path), pretrained=True)
    found = encoder.preprocess([paired("red", "green blue")])  # type: ignore[operator]
    assert found["token_type_ids"].tolist() == [[0, 0, 0, 1, 1, 1]]
    with torch.no_grad():
        changed = encoder.encode({**found, "token_type_ids": found["token_type_ids"] * 0}, {"features"})
        assert not torch.allclose(changed.features, encoder([paired("red", "green blue")]).features)


@pytest.mark.parametrize("family", ["gpt2", "distilbert", "llama", "t5"])
def test_a_model_that_does_not_gets_no_segments(family: str, tmp_path: Path) -> None:
    encoder = build_encoder(save_family(family, tmp_path), pretrained=False)
    assert encoder.preprocess(["red"]).keys() == {"input_ids", "attention_mask"}  # type: ignore[operator]


def test_a_tokenizer_of_another_model_is_refused(tmp_path: Path) -> None:
    name = save_family("bert", tmp_path)
    config = (tmp_path / "config.json").read_text()
    (tmp_path / "config.json").write_text(config.replace('"vocab_size": 9', '"vocab_size": 7'))
    with pytest.raises(ModelError, match="tokenizer has 9 tokens, and the model knows 7"):
        build_encoder(name, pretrained=False)


def test_a_folder_without_a_tokenizer_is_refused_when_the_model_is_built(tmp_path: Path) -> None:
    name = save_family("bert", tmp_path)
    for file in tmp_path.glob("tokenizer*"):
        file.unlink()
    with pytest.raises(ModelError, match="tokenizer"):
        build_encoder(name, pretrained=False)


def test_a_text_model_takes_a_size_as_its_length(tmp_path: Path) -> None:
    encoder = build_encoder(save_family("gpt2", tmp_path), pretrained=False, size=7)
    with torch.no_grad():
        outputs = encoder(["red " * 20], size=64)
    assert outputs.mask is not None
    assert outputs.mask.shape == (1, 7)


def test_a_length_that_is_too_long_is_known_without_building(tmp_path: Path) -> None:
    name = save_family("bert", tmp_path)
    check_name(name, pretrained=True, size=40)
    with pytest.raises(ModelError, match="reads at most 40 tokens, not 41"):
        check_name(f"cut:2@{name}", pretrained=True, size=41)
