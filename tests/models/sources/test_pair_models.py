from __future__ import annotations

from pathlib import Path

import pytest
import torch
import transformers
from tests.models.tiny_clips import CLIP, RANDOM, WIDTH, save_tokenizer, tiny_clip

from tutelage.errors import ModelError, UnknownNameError
from tutelage.models import Encoder, build_encoder, check_name
from tutelage.models.preprocess import (
    ClipTextPreprocess,
    PairInputs,
    PairPreprocess,
    preprocess_from_dict,
    preprocess_to_dict,
)
from tutelage.models.sources import modality
from tutelage.models.sources.pair_models import PairEncoder
from tutelage.models.text_towers import build_text_tower

IMAGE = "timm:test_vit"
SAID = ["red square", "nothing at all", "all red"]
EVERYTHING = frozenset({"features", "image_features", "text_features"})


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A folder with a tiny text encoder and a tokenizer that knows a few words."""
    folder = tmp_path_factory.mktemp("bert")
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    transformers.BertModel(
        transformers.BertConfig(vocab_size=8, max_position_embeddings=20, **sizes)
    ).save_pretrained(folder)
    save_tokenizer(folder, ("red", "square", "nothing", "all"))
    return f"hf:{folder}"


@pytest.fixture
def pairs() -> PairInputs:
    return PairInputs(torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(0)), SAID)


def built(name: str, **options) -> PairEncoder:
    torch.manual_seed(0)
    encoder = build_encoder(name, **{"pretrained": False, "size": 32, **options})
    assert isinstance(encoder, PairEncoder)
    return encoder


def given(encoder: Encoder, inputs, output: str) -> torch.Tensor:
    with torch.no_grad():
        return encoder(inputs, frozenset({output})).require(output)


def test_the_factors_are_what_each_encoder_says_alone(bert: str, pairs: PairInputs) -> None:
    encoder = built(f"pair:{IMAGE}+{bert}")
    torch.testing.assert_close(given(encoder, pairs, "image_features"), given(encoder.image, pairs.image, "features"))
    torch.testing.assert_close(given(encoder, pairs, "text_features"), given(encoder.text, SAID, "features"))


def test_features_are_the_tensor_product_of_the_factors(bert: str, pairs: PairInputs) -> None:
    encoder = built(f"pair:{IMAGE}+{bert}")
    with torch.no_grad():
        outputs = encoder(pairs, EVERYTHING)
    rows = [
        torch.outer(image, text).flatten()
        for image, text in zip(outputs.image_features, outputs.text_features, strict=True)
    ]
    torch.testing.assert_close(outputs.features, torch.stack(rows))
    assert {name: getattr(outputs, name).shape[1] for name in EVERYTHING} == encoder.widths


def test_the_product_is_not_formed_where_nobody_asks_for_it(bert: str, pairs: PairInputs) -> None:
    encoder = built(f"pair:{IMAGE}+{bert}")
    assert encoder(pairs, frozenset({"image_features"})).features is None


def test_a_clip_model_gives_both_of_its_embeddings(pairs: PairInputs) -> None:
    tiny_clip()
    encoder = built(f"pair:{CLIP}", pretrained=True, size=None)
    image, text = build_encoder(CLIP, pretrained=True), build_text_tower(CLIP)
    assert encoder.widths == {"features": WIDTH**2, "image_features": WIDTH, "text_features": WIDTH}
    torch.testing.assert_close(given(encoder, pairs, "image_features"), given(image, pairs.image, "embedding"))
    torch.testing.assert_close(given(encoder, pairs, "text_features"), given(text, SAID, "embedding"))


def test_of_a_clip_model_the_texts_are_read_as_it_reads_them() -> None:
    tiny_clip()
    assert isinstance(built(f"pair:{RANDOM}", size=None).preprocess.text, ClipTextPreprocess)


@pytest.mark.parametrize("pretrained", [False, True])
def test_both_start_alike(bert: str, pretrained: bool) -> None:
    tiny_clip()
    one, other = (built(f"pair:{CLIP}+{bert}", pretrained=pretrained, size=None) for _ in range(2))
    assert (one.image.pretrained, one.text.pretrained, one.pretrained) == (pretrained,) * 3
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.zero_()
    other.load_state_dict(one.state_dict())
    assert bool(one.source["pretrained"]) == pretrained


def test_the_size_is_that_of_the_images(bert: str) -> None:
    assert built(f"pair:{IMAGE}+{bert}", size=48).preprocess.image.size == 48


def test_gradients_reach_both_encoders(bert: str, pairs: PairInputs) -> None:
    encoder = built(f"pair:{IMAGE}+{bert}").train()
    encoder(pairs, frozenset({"features"})).require("features").square().sum().backward()
    for part in (encoder.image, encoder.text):
        assert any(each.grad is not None and each.grad.abs().sum() > 0 for each in part.parameters())


def test_its_name_tells_that_it_reads_pairs(bert: str) -> None:
    assert modality(f"pair:{IMAGE}+{bert}") == "pair"


def test_its_preprocess_travels_as_plain_data(bert: str) -> None:
    tiny_clip()
    for name in (f"pair:{IMAGE}+{bert}", f"pair:{RANDOM}"):
        preprocess = built(name, size=None if RANDOM in name else 32).preprocess
        assert isinstance(preprocess, PairPreprocess)
        assert preprocess_from_dict(preprocess_to_dict(preprocess)) == preprocess


def test_it_is_in_eval_mode(bert: str) -> None:
    assert not any(module.training for module in built(f"pair:{IMAGE}+{bert}").modules())


@pytest.mark.parametrize("name", ["pair:timm:test_vit", "pair:timm:test_vit+", "pair:+timm:test_vit"])
def test_a_name_without_two_encoders_is_refused(name: str) -> None:
    with pytest.raises(ModelError, match=r"names no two encoders; write pair:IMAGE\+TEXT"):
        check_name(name, pretrained=False)


def test_encoders_in_the_wrong_order_are_refused(bert: str) -> None:
    with pytest.raises(ModelError, match="reads texts; the encoder of images comes first"):
        check_name(f"pair:{bert}+{IMAGE}", pretrained=False)


def test_two_encoders_of_images_are_refused() -> None:
    with pytest.raises(ModelError, match=r"timm:test_vit reads images; .* that of texts after the \+"):
        check_name(f"pair:{IMAGE}+{IMAGE}", pretrained=False)


def test_an_unknown_encoder_is_answered_with_the_close_ones(bert: str) -> None:
    with pytest.raises(UnknownNameError, match="timm:test_vit"):
        check_name(f"pair:timm:test_vitt+{bert}", pretrained=False)


def test_an_unknown_clip_model_is_answered_with_the_close_ones() -> None:
    with pytest.raises(UnknownNameError, match="openclip:RN50"):
        check_name("pair:openclip:RN51/openai", pretrained=False)


def test_pairs_have_no_patches(bert: str) -> None:
    with pytest.raises(ModelError, match="has no patches"):
        check_name(f"pair:{IMAGE}+{bert}", pretrained=False, stride=8)


def test_a_folder_of_no_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no folder with a config"):
        check_name(f"pair:{IMAGE}+hf:{tmp_path}", pretrained=False)
