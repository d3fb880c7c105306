"""The encoders of the source's segmentation experiments, at 512 pixels and stride 8."""

from __future__ import annotations

import open_clip
import pytest
import torch

from tutelage.models import build_encoder, check_name
from tutelage.models.sources import strides

PATCHES = frozenset({"patches"})


def test_the_sources_dinov2_sees_64_by_64_patches_of_512_pixels() -> None:
    with torch.device("meta"):  # nothing is allocated or computed
        encoder = build_encoder("timm:vit_large_patch14_dinov2.lvd142m", pretrained=False, size=512, stride=8)
        patches = encoder(torch.rand(1, 3, 512, 512), PATCHES).require("patches")
    assert patches.shape == (1, 1024, 64, 64)


def test_the_sources_clip_sees_64_by_64_patches_of_512_pixels() -> None:
    check_name("openclip:ViT-L-14/datacomp_xl_s13b_b90k", pretrained=True, size=512, stride=8)
    config = open_clip.get_model_config("ViT-L-14")
    vision = open_clip.CLIPVisionCfg(**config["vision_cfg"] | {"image_size": 64 * 14})
    with torch.device("meta"):  # open_clip builds whole models nowhere but on a real device
        tower = open_clip.model._build_vision_tower(config["embed_dim"], vision)
        strides.change_open_clip(tower, stride=8)
        tower.output_tokens = True
        _, tokens = tower(torch.rand(1, 3, 512, 512))
    assert tokens.shape == (1, 64 * 64, 1024)


@pytest.mark.parametrize(("name", "width"), [("timm:fastvit_s12", 512), ("timm:mobilevitv2_100", 512)])
def test_the_sources_students_see_64_by_64_patches_of_512_pixels(name: str, width: int) -> None:
    with torch.device("meta"):
        encoder = build_encoder(name, pretrained=False, size=512, stride=8)
        patches = encoder(torch.rand(1, 3, 512, 512), PATCHES).require("patches")
    assert patches.shape == (1, width, 64, 64)
