from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import open_clip
import pytest
import torch

from tutelage.models import build_encoder

if TYPE_CHECKING:
    from conftest import Case


def test_features_are_the_embedding_before_projection(cases: Callable[[str], Case]) -> None:
    encoder = cases("openclip:tiny-vit/mine").encoder
    with torch.no_grad():
        outputs = encoder(torch.rand(2, 3, 32, 32), frozenset({"features", "embedding"}))
    assert encoder.widths == {"features": 32, "embedding": 24, "patches": 32}
    torch.testing.assert_close(outputs.features @ encoder.projection, outputs.embedding)


def test_vit_patches_are_its_normalized_tokens(cases: Callable[[str], Case], tiny_clips: dict[str, Any]) -> None:
    encoder, visual = cases("openclip:tiny-vit/mine").encoder, tiny_clips["tiny-vit"].visual
    images = torch.rand(1, 3, 32, 32)
    with torch.no_grad():
        patches = encoder.encode(images, frozenset({"patches"})).patches
        tokens = visual.ln_post(visual.transformer(visual._embeds(images)))
    torch.testing.assert_close(patches[0, :, 2, 1], tokens[0, 1 + 2 * 4 + 1])


def test_trunk_features_are_the_trunks(cases: Callable[[str], Case], tiny_clips: dict[str, Any]) -> None:
    encoder, trunk = cases("openclip:tiny-trunk/mine").encoder, tiny_clips["tiny-trunk"].visual.trunk
    images = torch.rand(1, 3, 160, 160)
    with torch.no_grad():
        torch.testing.assert_close(encoder.encode(images, frozenset({"features"})).features, trunk(images))


def test_tag_brings_mean_std_and_interpolation(cases: Callable[[str], Case]) -> None:
    preprocess = cases("openclip:tiny-vit/mine").encoder.preprocess
    assert (preprocess.mean, preprocess.std) == ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    assert preprocess.interpolation == "bilinear"


def test_position_embeddings_are_resized_to_the_size(tiny_clips: dict[str, Any]) -> None:
    encoder = build_encoder("openclip:tiny-vit/mine", pretrained=True, size=64)
    with torch.no_grad():
        outputs = encoder(torch.rand(1, 3, 64, 64), frozenset({"patches"}))
    assert outputs.patches.shape == (1, 32, 8, 8)
    expected = torch.nn.functional.interpolate(
        tiny_clips["tiny-vit"].visual.positional_embedding[1:].T.view(1, 32, 4, 4),
        size=(8, 8),
        mode="bicubic",
        antialias=True,
    )
    torch.testing.assert_close(encoder.tower.positional_embedding[1:].T.view(1, 32, 8, 8), expected)


def test_a_random_start_needs_no_tag(tiny_clips: dict[str, Any]) -> None:
    encoder = build_encoder("openclip:tiny-vit", pretrained=False)
    assert encoder.preprocess.mean == (0.5, 0.5, 0.5)
    assert not encoder.pretrained


def test_the_text_tower_is_not_kept(cases: Callable[[str], Case], tiny_clips: dict[str, Any]) -> None:
    kept = sum(p.numel() for p in cases("openclip:tiny-vit/mine").encoder.parameters())
    assert kept == sum(p.numel() for p in tiny_clips["tiny-vit"].visual.parameters())


def test_weights_bring_their_own_activation(tiny_clips: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenAI's weights were trained with QuickGELU, under a name that open_clip builds with GELU."""
    tag = open_clip.pretrained._PRETRAINED["tiny-vit"]["mine"]
    monkeypatch.setitem(open_clip.pretrained._PRETRAINED["tiny-vit"], "mine", {**tag, "quick_gelu": True})
    encoder = build_encoder("openclip:tiny-vit/mine", pretrained=True)
    assert isinstance(encoder.tower.transformer.resblocks[0].mlp.gelu, open_clip.transformer.QuickGELU)


def test_attentional_pooling_leaves_no_map(tiny_clips: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    config = open_clip.get_model_config("tiny-vit")
    config["vision_cfg"] |= {"attentional_pool": True, "attn_pooler_queries": 17, "attn_pooler_heads": 2}
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, "tiny-coca", config)
    encoder = build_encoder("openclip:tiny-coca", pretrained=False)
    assert encoder.widths == {"features": 24, "embedding": 24}
