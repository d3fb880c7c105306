"""Which encoders can be given an output stride, and at which sizes."""

from __future__ import annotations

from typing import Any

import pytest

from tutelage.errors import ModelError
from tutelage.models import build_encoder, check_name
from tutelage.models.sizes import grid, native_size
from tutelage.models.sources import strides
from tutelage.models.sources.geometry import default_size


@pytest.mark.parametrize(
    "name",
    [
        "timm:swin_tiny_patch4_window7_224",
        "timm:vgg11",
        "openclip:tiny-resnet",
        "bundled:minilm-l6",
    ],
)
def test_families_that_cannot_have_a_stride_are_refused_by_name(name: str, tiny_clips: dict[str, Any]) -> None:
    with pytest.raises(ModelError, match=r"cannot give a patch every 8 pixels; .*fastvit and vision transformers"):
        check_name(name, pretrained=False, stride=8)


def test_patches_cannot_be_further_apart_than_they_are_wide() -> None:
    with pytest.raises(ModelError, match=r"patches of 16 pixels cannot be 32 apart"):
        check_name("timm:vit_tiny_patch16_224", pretrained=False, stride=32)


def test_a_patch_size_that_the_name_does_not_state_is_checked_once_it_is_built() -> None:
    with pytest.raises(ModelError, match=r"timm:test_vit: its patches of 16 pixels cannot be 32 apart"):
        build_encoder("timm:test_vit", pretrained=False, size=64, stride=32)


def test_a_model_that_turns_out_to_have_another_stride_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(strides, "DILATED", (*strides.DILATED, "edgenext"))  # it takes no output stride
    with pytest.raises(ModelError, match=r"edgenext_xx_small.* has a dense map of \(2, 2\) instead of 8 x 8"):
        build_encoder("timm:edgenext_xx_small", pretrained=False, size=64, stride=8)


def test_other_families_of_transformers_are_refused(hf_folders: dict[str, Any]) -> None:
    with pytest.raises(ModelError, match="cannot give a patch every 8 pixels"):
        build_encoder(f"hf:{hf_folders['convnext'][0]}", pretrained=False, stride=8)


@pytest.mark.parametrize("stride", [7, 0, 64])
def test_only_powers_of_two_from_8_to_32_make_a_stride(stride: int) -> None:
    with pytest.raises(ModelError, match=r"one of \(8, 16, 32\) fits"):
        check_name("timm:fastvit_t8", pretrained=False, stride=stride)


def test_sizes_are_multiples_of_the_stride_and_not_of_the_patch() -> None:
    check_name("timm:vit_small_patch14_dinov2", pretrained=False, size=512, stride=8)
    with pytest.raises(ModelError, match=r"gives a patch every 8 pixels, and 252 is no multiple; 248 or 256 fits"):
        check_name("timm:vit_small_patch14_dinov2", pretrained=False, size=252, stride=8)


@pytest.mark.parametrize(
    ("native", "patch", "size"), [(518, 14, 256), (224, 14, 224), (260, None, 256), (378, 16, 376)]
)
def test_default_sizes_are_multiples_of_the_stride(native: int, patch: int | None, size: int) -> None:
    assert default_size(native, patch, 8) == size


def test_native_sizes_and_steps_follow_the_stride() -> None:
    assert native_size("bundled:efficientnet-lite2") == 260
    assert native_size("bundled:efficientnet-lite2", stride=8) == 256
    assert (grid("timm:vit_small_patch14_dinov2"), grid("timm:vit_small_patch14_dinov2", stride=8)) == (14, 8)
