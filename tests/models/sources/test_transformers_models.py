from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import tokenizers
import torch
import transformers

from tutelage.errors import ModelError
from tutelage.models import ImagePreprocess, TextPreprocess, build_encoder
from tutelage.models.sources.transformers_encoders import pool

if TYPE_CHECKING:
    from conftest import Case

WORDS = {
    "vocab_size": 12,
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 20,
}
TEXT_MODELS: dict[str, tuple[Callable[[], Any], str]] = {
    "bert": (lambda: transformers.BertModel(transformers.BertConfig(**WORDS)), "cls"),
    "llama": (lambda: transformers.LlamaModel(transformers.LlamaConfig(**WORDS)), "last"),
}


def save_text_model(model: Any, folder: Path) -> str:
    model.eval().save_pretrained(folder)
    words = ["[PAD]", "[CLS]", "[SEP]", "[UNK]", "a", "good", "bad", "film"]
    tokenizer = tokenizers.Tokenizer(
        tokenizers.models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="[UNK]")
    )
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    tokenizer.post_processor = tokenizers.processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    fast = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]"
    )
    fast.save_pretrained(folder)
    return f"hf:{folder}"


def test_processor_gives_size_crop_mean_and_interpolation(cases: Callable[[str], Case]) -> None:
    assert cases("hf:clip").encoder.preprocess == ImagePreprocess(
        32, mean=(0.4, 0.5, 0.6), std=(0.2, 0.25, 0.3), interpolation="bicubic", crop=0.8
    )


def test_without_a_processor_the_size_is_the_configurations(cases: Callable[[str], Case]) -> None:
    assert cases("hf:dinov2").encoder.preprocess.size == 32


def test_clip_features_are_projected_to_the_embedding(cases: Callable[[str], Case]) -> None:
    encoder = cases("hf:clip").encoder
    with torch.no_grad():
        outputs = encoder(torch.rand(2, 3, 32, 32), frozenset({"features", "embedding"}))
    assert encoder.widths == {"features": 32, "embedding": 16, "patches": 32}
    torch.testing.assert_close(encoder.projection(outputs.features), outputs.embedding)


def test_clip_patches_are_normalized_as_its_class_token_is(cases: Callable[[str], Case]) -> None:
    encoder = cases("hf:clip").encoder
    with torch.no_grad():
        patches = encoder(torch.rand(1, 3, 32, 32), frozenset({"patches"})).patches
    torch.testing.assert_close(patches.mean(1), torch.zeros(1, 4, 4), atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", ["dinov2", "dinov3", "clip", "siglip", "vit"])
def test_position_embeddings_are_resized_to_the_size(name: str, hf_folders: dict[str, tuple[Path, Any]]) -> None:
    encoder = build_encoder(f"hf:{hf_folders[name][0]}", pretrained=True, size=48)
    with torch.no_grad():
        assert encoder(torch.rand(1, 3, 48, 48), frozenset({"patches"})).patches.shape == (1, 32, 6, 6)


def test_a_size_between_patches_is_refused(hf_folders: dict[str, tuple[Path, Any]]) -> None:
    with pytest.raises(ModelError, match="40 or 48"):
        build_encoder(f"hf:{hf_folders['dinov2'][0]}", pretrained=True, size=44)


def test_a_random_start_takes_the_configuration_only(hf_folders: dict[str, tuple[Path, Any]]) -> None:
    folder, saved = hf_folders["clip"]
    encoder = build_encoder(f"hf:{folder}", pretrained=False)
    assert not torch.equal(encoder.projection.weight, saved.visual_projection.weight)
    assert encoder.preprocess.mean == (0.5, 0.5, 0.5)


def test_an_untrained_tanh_pooler_is_not_kept(cases: Callable[[str], Case]) -> None:
    assert not any("pooler" in key for key in cases("hf:vit").encoder.state_dict())


@pytest.mark.parametrize("kind", TEXT_MODELS)
def test_text_features_do_not_depend_on_padding(kind: str, tmp_path: Path) -> None:
    encoder = build_encoder(save_text_model(TEXT_MODELS[kind][0](), tmp_path), pretrained=True)
    with torch.no_grad():
        together = encoder(["good film", "a bad film a bad film"])
        alone = encoder(["good film"])
    assert encoder.pooling == TEXT_MODELS[kind][1]
    assert together.mask.tolist() == [[True] * 4 + [False] * 4, [True] * 8]
    torch.testing.assert_close(together.features[:1], alone.features)
    assert together.features.shape[1] == encoder.widths["features"]


def test_bert_features_are_its_first_state(tmp_path: Path) -> None:
    model = transformers.BertModel(transformers.BertConfig(**WORDS))
    encoder = build_encoder(save_text_model(model, tmp_path), pretrained=True)
    with torch.no_grad():
        expected = model(input_ids=torch.tensor([[1, 5, 7, 2]])).last_hidden_state[:, 0]
        torch.testing.assert_close(encoder(["good film"]).features, expected)


def test_an_encoder_decoder_gives_its_decoders_state(tmp_path: Path) -> None:
    config = transformers.T5Config(
        vocab_size=12, d_model=16, d_kv=8, d_ff=32, num_layers=1, num_heads=2, decoder_start_token_id=3
    )
    model = transformers.T5Model(config)
    encoder = build_encoder(save_text_model(model, tmp_path), pretrained=True)
    with torch.no_grad():
        expected = model(input_ids=torch.tensor([[1, 5, 7, 2]]), decoder_input_ids=torch.tensor([[3]]))
        torch.testing.assert_close(encoder(["good film"]).features, expected.last_hidden_state[:, 0])


@pytest.mark.parametrize(("flag", "pooling"), [("mean_tokens", "mean"), ("cls_token", "cls"), ("lasttoken", "last")])
def test_sentence_encoders_are_pooled_as_they_state(flag: str, pooling: str, tmp_path: Path) -> None:
    name = save_text_model(TEXT_MODELS["bert"][0](), tmp_path)
    (tmp_path / "1_Pooling").mkdir()
    (tmp_path / "1_Pooling" / "config.json").write_text(json.dumps({f"pooling_mode_{flag}": True}))
    assert build_encoder(name, pretrained=True).pooling == pooling


def test_text_length_is_at_most_the_models(tmp_path: Path) -> None:
    name = save_text_model(TEXT_MODELS["bert"][0](), tmp_path)
    preprocess = build_encoder(name, pretrained=True).preprocess
    assert isinstance(preprocess, TextPreprocess)
    assert preprocess.length == 20
    with pytest.raises(ModelError, match="at most 20 tokens, not 21"):
        build_encoder(name, pretrained=True, size=21)


@pytest.mark.parametrize("side", ["right", "left"])
def test_pooling_agrees_with_a_loop(side: str) -> None:
    torch.manual_seed(0)
    lengths, states = [1, 3, 5], torch.rand(3, 5, 4, dtype=torch.float64)
    mask = torch.zeros(3, 5, dtype=torch.int64)
    for row, length in enumerate(lengths):
        mask[row, slice(5 - length, 5) if side == "left" else slice(0, length)] = 1
    for row in range(3):
        real = [states[row, position] for position in range(5) if mask[row, position]]
        assert torch.equal(pool(states, mask, "cls")[row], real[0])
        assert torch.equal(pool(states, mask, "last")[row], real[-1])
        torch.testing.assert_close(pool(states, mask, "mean")[row], sum(real) / len(real))


def test_models_of_images_and_text_whose_towers_are_one_are_refused(tmp_path: Path) -> None:
    transformers.Siglip2Config().save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="siglip2 model of images and text"):
        build_encoder(f"hf:{tmp_path}", pretrained=False)


def test_a_model_of_sound_is_refused(tmp_path: Path) -> None:
    transformers.Wav2Vec2Config(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8, conv_dim=[8] * 7
    ).save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="neither images nor text"):
        build_encoder(f"hf:{tmp_path}", pretrained=False)


def test_a_folder_without_weights_is_refused_for_a_teacher(tmp_path: Path) -> None:
    transformers.BertConfig(**WORDS).save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="no weights"):
        build_encoder(f"hf:{tmp_path}", pretrained=True)
