from __future__ import annotations

from pathlib import Path

import open_clip
import pytest
import torch
import transformers
from tests.models.tiny_clips import CLIP, LENGTH, RANDOM, WIDTH, save_tokenizer, tiny_clip

from tutelage.errors import ModelError, UnknownNameError
from tutelage.models import Encoder, TextPreprocess, build_encoder, parameter_count
from tutelage.models import text_towers as module
from tutelage.models.preprocess import ClipTextPreprocess, ImagePreprocess, PairInputs
from tutelage.models.text_towers import (
    PRESETS,
    build_teachers_text,
    build_text_tower,
    check_both_towers,
    check_text_tower,
    shared_width,
)

SAID = ["a red square", "nothing at all"]
EMBEDDING = frozenset({"embedding"})


@pytest.fixture(autouse=True)
def _known() -> None:
    tiny_clip()


def embedding(tower: Encoder, texts: list[str]) -> torch.Tensor:
    with torch.no_grad():
        return tower(texts, EMBEDDING).require("embedding")


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A folder with a tiny text encoder and a tokenizer of its kind that knows a few words."""
    folder = tmp_path_factory.mktemp("bert")
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    config = transformers.BertConfig(vocab_size=8, max_position_embeddings=20, **sizes)
    transformers.BertModel(config).save_pretrained(folder)
    save_tokenizer(folder, ("red", "square", "nothing", "all"))
    return f"hf:{folder}"


@pytest.mark.parametrize("name", [*PRESETS, RANDOM, CLIP])
def test_a_tower_embeds_texts(name: str) -> None:
    tower = build_text_tower(name, width=10)
    width = WIDTH if name in (RANDOM, CLIP) else 10
    assert tower.widths == {"embedding": width}
    assert embedding(tower, SAID).shape == (2, width)


def test_the_base_tower_is_as_large_as_clip_s() -> None:
    config = open_clip.get_model_config("ViT-B-16")
    # On the meta device nothing is allocated.
    with torch.device("meta"):
        expected = open_clip.model._build_text_tower(config["embed_dim"], config["text_cfg"])
        tower = build_text_tower("base")
    assert parameter_count(tower) == parameter_count(expected)


def test_a_pretrained_tower_says_what_its_model_does() -> None:
    model = open_clip.create_model("tiny-clip", pretrained="mine").eval()
    with torch.no_grad():
        expected = model.encode_text(ClipTextPreprocess(LENGTH)(SAID)["input_ids"])
    torch.testing.assert_close(embedding(build_text_tower(CLIP), SAID), expected)
    torch.testing.assert_close(embedding(build_teachers_text(CLIP), SAID), expected)


def test_without_a_tag_a_tower_starts_at_random() -> None:
    one, other = build_text_tower(RANDOM), build_text_tower(CLIP)
    assert not torch.allclose(embedding(one, SAID), embedding(other, SAID))
    assert (one.pretrained, other.pretrained) == (False, True)


def test_a_teacher_s_text_tower_knows_its_scale() -> None:
    assert build_teachers_text(CLIP).scale == pytest.approx(20.0)


@pytest.mark.parametrize("name", ["small", RANDOM, CLIP])
def test_texts_may_have_another_length(name: str) -> None:
    tower = build_text_tower(name, length=5)
    assert isinstance(tower.preprocess, ClipTextPreprocess)
    assert tower.preprocess.length == 5
    assert embedding(tower, [*SAID, "word " * 9]).shape[0] == 3


def test_a_text_encoder_gets_a_projection(bert: str) -> None:
    tower = build_text_tower(bert, width=3)
    inner = build_encoder(bert, pretrained=True)
    assert isinstance(tower.preprocess, TextPreprocess)
    with torch.no_grad():
        expected = tower.projection(inner(SAID).require("features"))
    torch.testing.assert_close(embedding(tower, SAID), expected)
    assert tower.widths == {"embedding": 3}


def test_of_pairs_a_tower_reads_the_texts() -> None:
    tower = build_text_tower(CLIP)
    with torch.no_grad():
        found = tower(PairInputs(torch.zeros(2, 3, 8, 8), SAID), EMBEDDING).require("embedding")
    assert torch.equal(found, embedding(tower, SAID))


def test_of_pairs_an_image_s_preprocess_reads_the_images() -> None:
    views = torch.rand(2, 3, 8, 8)
    preprocess = ImagePreprocess(8)
    assert torch.equal(preprocess(PairInputs(views, SAID)), preprocess(views))


@pytest.mark.parametrize("name", [*PRESETS, RANDOM, CLIP, "openclip:ViT-B-16/openai", "hf:owner/name"])
def test_what_can_be_had_passes_the_check(name: str) -> None:
    check_text_tower(name)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("smal", "unknown text tower 'smal'; did you mean 'small'"),
        ("openclip:ViT-B-16/openia", "openclip:ViT-B-16/openai"),
        ("bert:base", "a name starts with one of"),
        ("hf:./nowhere", "no folder with a config.json"),
        ("timm:vit_tiny_patch16_224", "has no text tower; name one of tiny, small, base"),
    ],
)
def test_what_cannot_be_had_is_told_before_it_is_built(name: str, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "build_encoder", None)
    with pytest.raises((UnknownNameError, ModelError), match=said):
        build_text_tower(name)


def test_a_model_of_images_is_no_text_tower(tmp_path: Path) -> None:
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    transformers.ViTModel(transformers.ViTConfig(image_size=32, patch_size=8, **sizes)).save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="reads images, and a text tower is wanted"):
        build_text_tower(f"hf:{tmp_path}")


@pytest.mark.parametrize("name", ["timm:test_vit", "bundled:efficientnet-lite0", "hf:openai/clip-vit-base-patch32"])
def test_a_teacher_without_a_text_tower_is_told(name: str) -> None:
    for ask in (check_both_towers, shared_width, build_teachers_text):
        with pytest.raises(ModelError, match=r"has no text tower here.*such as openclip:ViT-B-16/"):
            ask(name)


def test_a_teacher_is_pretrained() -> None:
    with pytest.raises(ModelError, match="does not say which pretrained weights"):
        check_both_towers(RANDOM)


@pytest.mark.parametrize(("name", "width"), [(CLIP, WIDTH), ("openclip:ViT-L-14/openai", 768)])
def test_the_shared_width_is_known_before_a_model_is_built(name: str, width: int) -> None:
    assert shared_width(name) == width
