from __future__ import annotations

from pathlib import Path

import huggingface_hub
import pytest
import timm
import torch
from safetensors.torch import save_file

from tutelage.errors import ModelError
from tutelage.models import build_encoder
from tutelage.models.preprocess import IMAGENET_MEAN, IMAGENET_STD
from tutelage.models.sources.timm_models import dense_map, image_preprocess


def test_dinov2_features_are_its_normalized_class_token() -> None:
    encoder = build_encoder("timm:vit_small_patch14_dinov2", pretrained=False)
    raw = torch.rand(1, 3, 252, 252)
    with torch.no_grad():
        outputs = encoder(raw, frozenset({"features", "patches"}))
        tokens = encoder.backbone.forward_features((raw - 0.5) / 0.5)
    assert encoder.preprocess.size == 252
    assert torch.equal(outputs.features, tokens[:, 0])
    assert outputs.patches.shape == (1, 384, 18, 18)


def test_registers_are_no_patches() -> None:
    encoder = build_encoder("timm:vit_small_patch14_reg4_dinov2", pretrained=False, size=42)
    raw = torch.rand(1, 3, 42, 42)
    with torch.no_grad():
        patches = encoder(raw, frozenset({"patches"})).patches
        tokens = encoder.backbone.forward_features((raw - 0.5) / 0.5)
    assert tokens.shape[1] == 1 + 4 + 9
    assert torch.equal(patches[0, :, 1, 2], tokens[0, 5 + 1 * 3 + 2])


def test_features_are_as_wide_as_the_classifier_reads() -> None:
    encoder = build_encoder("timm:mobilenetv3_small_050", pretrained=False, size=64)
    assert encoder.widths == {
        "features": timm.create_model("mobilenetv3_small_050").classifier.in_features,
        "patches": 288,
    }


def test_a_vit_takes_smaller_images_on_the_fly() -> None:
    encoder = build_encoder("timm:test_vit", pretrained=False)
    with torch.no_grad():
        outputs = encoder.encode(torch.rand(1, 3, 96, 96), frozenset({"patches"}))
    assert outputs.patches.shape[2:] == (6, 6)


def test_channels_last_maps_are_permuted() -> None:
    assert dense_map(torch.nn.Identity(), torch.zeros(1, 4, 4, 7)).shape == (1, 7, 4, 4)
    assert dense_map(torch.nn.Identity(), torch.zeros(1, 7, 4, 4)).shape == (1, 7, 4, 4)


def test_a_map_as_wide_as_it_is_high_goes_by_the_family() -> None:
    cube = torch.rand(1, 4, 4, 4)
    family = torch.nn.Identity()
    assert torch.equal(dense_map(family, cube), cube)
    family.output_fmt = "NHWC"
    assert torch.equal(dense_map(family, cube), cube.permute(0, 3, 1, 2))


def test_several_maps_are_none() -> None:
    encoder = build_encoder("timm:coat_tiny", pretrained=False, size=64)
    assert set(encoder.widths) == {"features"}


def test_a_random_start_expects_no_mean_in_particular() -> None:
    preprocess = build_encoder("timm:fastvit_t8", pretrained=False, size=64).preprocess
    assert (preprocess.mean, preprocess.std) == ((0.5,) * 3, (0.5,) * 3)


def test_pretrained_weights_bring_their_own_preprocess() -> None:
    config = timm.get_pretrained_cfg("vit_small_patch14_dinov2.lvd142m")
    preprocess = image_preprocess(config, pretrained=True, size=252)
    assert (preprocess.mean, preprocess.std) == (IMAGENET_MEAN, IMAGENET_STD)
    assert (preprocess.interpolation, preprocess.crop) == ("bicubic", 1.0)


def test_a_size_that_a_model_cannot_run_at_is_refused() -> None:
    with pytest.raises(ModelError, match=r"timm:vgg11 does not run on 8-pixel images"):
        build_encoder("timm:vgg11", pretrained=False, size=8)


def test_weights_in_the_cache_need_no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(1)
    weights = timm.create_model("test_vit").state_dict()
    snapshot = tmp_path / "models--timm--test_vit.r160_in1k" / "snapshots" / "0123"
    snapshot.mkdir(parents=True)
    (snapshot.parents[1] / "refs").mkdir()
    (snapshot.parents[1] / "refs" / "main").write_text("0123")
    save_file(weights, snapshot / "model.safetensors")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)

    encoder = build_encoder("timm:test_vit", pretrained=True)

    assert torch.equal(encoder.backbone.patch_embed.proj.weight, weights["patch_embed.proj.weight"])
    assert encoder.source == {
        "source": "timm",
        "identifier": "test_vit",
        "pretrained": "r160_in1k",
        "license": timm.get_pretrained_cfg("test_vit").license,
    }
    assert encoder.preprocess.mean == tuple(timm.get_pretrained_cfg("test_vit").mean)
