from __future__ import annotations

import subprocess
import sys

import pytest

from tutelage.errors import ModelError, UnknownNameError
from tutelage.models import SOURCES, build_encoder, check_name


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("fastvit_s12", "timm:fastvit_s12"),
        ("ViT-L-14/openai", "openclip:ViT-L-14/openai"),
        ("clip:ViT-B-32", "openclip:ViT-B-32"),
        ("minilm-l6", "bundled:minilm-l6"),
        ("timm:fastvit_s13", "timm:fastvit_s12"),
        ("timm:vit_small_patch14_dinov2.lvd142", "timm:vit_small_patch14_dinov2.lvd142m"),
        ("openclip:ViT-L-14/openia", "openclip:ViT-L-14/openai"),
        ("bundled:efficientnet-lite", "bundled:efficientnet-lite0"),
    ],
)
def test_an_unknown_name_is_answered_with_the_close_one(given: str, meant: str) -> None:
    with pytest.raises(UnknownNameError) as caught:
        check_name(given, pretrained=False)
    assert meant in caught.value.close


def test_a_lost_prefix_is_answered_with_nothing_else() -> None:
    with pytest.raises(UnknownNameError, match=r"did you mean 'timm:fastvit_s12'\? \(a name starts with") as caught:
        build_encoder("fastvit_s12", pretrained=False)
    assert caught.value.close == ["timm:fastvit_s12"]


@pytest.mark.parametrize("given", ["timm:", ":", "", "timm", "timm:fastvit_s12.", "openclip:ViT-B-32/", "hf:"])
def test_a_part_of_a_name_is_no_name(given: str) -> None:
    with pytest.raises((UnknownNameError, ModelError)):
        check_name(given, pretrained=True)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("timm:test_vit_relpos", "no pretrained weights"),
        ("openclip:ViT-L-14", "openclip:ViT-L-14/openai"),
        ("openclip:ViT-S-32", "there are none for it"),
        ("hf:two words", "neither a repository"),
        ("hf:./not-there", "no folder with a config.json"),
    ],
)
def test_what_cannot_be_pretrained_is_known_without_building(name: str, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        check_name(name, pretrained=True)


@pytest.mark.parametrize("name", ["timm:test_vit_relpos", "openclip:ViT-L-14", "hf:someone/something"])
def test_a_random_start_needs_no_weights(name: str) -> None:
    check_name(name, pretrained=False)


@pytest.mark.parametrize(
    "name",
    ["timm:vit_large_patch14_dinov2.lvd142m", "openclip:ViT-L-14/openai", "timm:vit_small_patch14_reg4_dinov2"],
)
def test_a_size_between_patches_is_answered_with_those_that_fit(name: str) -> None:
    check_name(name, pretrained=True, size=252)
    with pytest.raises(ModelError, match="252 or 266"):
        check_name(name, pretrained=True, size=256)


@pytest.mark.parametrize("name", ["timm:fastvit_s12", "openclip:ViT-B-32", "bundled:efficientnet-lite0"])
def test_a_size_is_positive(name: str) -> None:
    with pytest.raises(ModelError, match="positive"):
        check_name(name, pretrained=False, size=0)


def test_clip_resnets_take_their_own_size_only_when_pretrained() -> None:
    check_name("openclip:RN50/openai", pretrained=False, size=256)
    with pytest.raises(ModelError, match="only takes 224"):
        check_name("openclip:RN50/openai", pretrained=True, size=256)


@pytest.mark.parametrize("source", ["timm", "openclip"])
def test_every_listed_name_passes_its_own_check(source: str) -> None:
    for identifier in SOURCES[source].names()[::50]:
        SOURCES[source].check(identifier, pretrained=False, size=None)


def test_importing_the_sources_imports_no_model_library() -> None:
    heavy = {"timm", "open_clip", "transformers", "huggingface_hub"}
    code = f"import sys, tutelage.models; print({heavy} & set(sys.modules))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "set()"
