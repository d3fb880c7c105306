"""Small models of every source, with weights that the libraries saved, and the libraries' own answers."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import open_clip
import pytest
import timm
import torch
import transformers
from safetensors.torch import save_file
from torch import Tensor

from tutelage.models import Encoder, build_encoder


@dataclass
class Case:
    """An encoder and what its library says on normalized images: the output's name and how to get it."""

    encoder: Encoder
    output: str
    reference: Callable[[Tensor], Tensor]


TIMM = {
    "timm:vit_small_patch14_reg4_dinov2": 28,
    "timm:test_vit": 32,
    "timm:swin_tiny_patch4_window7_224": 64,
    "timm:mobilenetv3_small_050": 64,
    "timm:fastvit_t8": 128,
    "timm:test_mambaout": 64,
}

# Models whose position embeddings or windows belong to one size.
FIXED_SIZE = {"timm:vit_small_patch14_reg4_dinov2", "timm:test_vit", "timm:swin_tiny_patch4_window7_224"}

_TEXT = {"context_length": 8, "vocab_size": 64, "width": 16, "heads": 2, "layers": 1}
OPEN_CLIP: dict[str, dict[str, Any]] = {
    "tiny-vit": {"image_size": 32, "layers": 2, "width": 32, "head_width": 16, "patch_size": 8},
    "tiny-resnet": {"image_size": 64, "layers": [1, 1, 1, 1], "width": 8, "head_width": 64},
    "tiny-trunk": {"image_size": 160, "timm_model_name": "test_vit", "timm_pool": "token", "timm_proj": "linear"},
    "tiny-unprojected": {"image_size": 160, "timm_model_name": "test_vit", "timm_pool": "avg", "timm_proj": "none"},
}

_TOWER = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
_VISION = {**_TOWER, "image_size": 32, "patch_size": 8}
_WORDS = {**_TOWER, "vocab_size": 99, "max_position_embeddings": 40}
_DINO = {key: value for key, value in _VISION.items() if key != "intermediate_size"}


def _pooled(model: Any) -> Callable[[Tensor], Tensor]:
    return lambda images: model(pixel_values=images).pooler_output.flatten(1)


def _first(model: Any) -> Callable[[Tensor], Tensor]:
    return lambda images: model(pixel_values=images).last_hidden_state[:, 0]


def _image_features(model: Any) -> Callable[[Tensor], Tensor]:
    return lambda images: model.get_image_features(pixel_values=images).pooler_output


HF: dict[str, tuple[Callable[[], Any], str, Callable[[Any], Callable[[Tensor], Tensor]]]] = {
    "dinov2": (lambda: transformers.Dinov2Model(transformers.Dinov2Config(**_DINO)), "features", _pooled),
    "dinov3": (
        lambda: transformers.DINOv3ViTModel(transformers.DINOv3ViTConfig(**_VISION, num_register_tokens=4)),
        "features",
        _pooled,
    ),
    "clip": (
        lambda: transformers.CLIPModel(
            transformers.CLIPConfig(
                text_config=_WORDS, vision_config={**_VISION, "projection_dim": 16}, projection_dim=16
            )
        ),
        "embedding",
        _image_features,
    ),
    "siglip": (
        lambda: transformers.SiglipModel(transformers.SiglipConfig(text_config=_WORDS, vision_config=_VISION)),
        "embedding",
        _image_features,
    ),
    "vit": (lambda: transformers.ViTModel(transformers.ViTConfig(**_VISION)), "features", _first),
    "convnext": (
        lambda: transformers.ConvNextModel(
            transformers.ConvNextConfig(image_size=64, hidden_sizes=[8, 8, 16, 24], depths=[1, 1, 1, 1])
        ),
        "features",
        _pooled,
    ),
}

PROCESSOR = {
    "image_mean": [0.4, 0.5, 0.6],
    "image_std": [0.2, 0.25, 0.3],
    "resample": 3,
    "do_center_crop": True,
    "size": {"shortest_edge": 40},
    "crop_size": {"height": 32, "width": 32},
}

BUNDLED = ("bundled:efficientnet-lite0",)
IMAGE_CASES = [*TIMM, *(f"openclip:{n}/mine" for n in OPEN_CLIP), *(f"hf:{n}" for n in HF), *BUNDLED]


@pytest.fixture(scope="session", autouse=True)
def _threads() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tiny_clips(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """Make the tiny CLIP models known to open_clip, with saved weights under the tag ``mine``."""
    folder = tmp_path_factory.mktemp("clips")
    for name, vision in OPEN_CLIP.items():
        config = {"embed_dim": 24, "vision_cfg": vision, "text_cfg": _TEXT}
        if "timm_model_name" in vision:
            config["custom_text"] = True
        (folder / f"{name}.json").write_text(json.dumps(config))
    open_clip.add_model_config(folder)
    models = {}
    for name in OPEN_CLIP:
        torch.manual_seed(0)
        model = models[name] = open_clip.create_model(name).eval()
        save_file(model.state_dict(), folder / f"{name}.safetensors")
        open_clip.pretrained._PRETRAINED[name] = {
            "mine": {
                "file": str(folder / f"{name}.safetensors"),
                "mean": (0.1, 0.2, 0.3),
                "std": (0.4, 0.5, 0.6),
                "interpolation": "bilinear",
            }
        }
    yield models
    for name in OPEN_CLIP:
        del open_clip.pretrained._PRETRAINED[name]


@pytest.fixture(scope="session")
def hf_folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, Any]]:
    """Save tiny transformers image models to folders."""
    folder, saved = tmp_path_factory.mktemp("hf"), {}
    for name, (make, _, _) in HF.items():
        torch.manual_seed(0)
        model = make().eval()
        model.save_pretrained(folder / name)
        saved[name] = (folder / name, model)
    (folder / "clip" / "preprocessor_config.json").write_text(json.dumps(PROCESSOR))
    return saved


@pytest.fixture(scope="session")
def cases(tiny_clips: dict[str, Any], hf_folders: dict[str, tuple[Path, Any]]) -> Callable[[str], Case]:
    """Return a function from a case's name to its encoder, built once, and its library's own answer."""
    built: dict[str, Case] = {}

    def build(name: str) -> Case:
        torch.manual_seed(0)
        source, _, identifier = name.partition(":")
        if source == "openclip":
            library = tiny_clips[identifier.removesuffix("/mine")]
            return Case(build_encoder(name, pretrained=True), "embedding", library.encode_image)
        if source == "hf":
            folder, library = hf_folders[identifier]
            _, output, answer = HF[identifier]
            return Case(build_encoder(f"hf:{folder}", pretrained=True), output, answer(library))
        if source == "bundled":
            encoder = build_encoder(name, pretrained=True)
            library = timm.create_model("tf_efficientnet_lite0", num_classes=0).eval()
            library.load_state_dict(encoder.backbone.state_dict())
            return Case(encoder, "features", library)
        encoder = build_encoder(name, pretrained=False, size=TIMM[name])
        library = timm.create_model(
            identifier, num_classes=0, **({"img_size": TIMM[name]} if name in FIXED_SIZE else {})
        ).eval()
        library.load_state_dict(encoder.backbone.state_dict())
        return Case(encoder, "features", library)

    def get(name: str) -> Case:
        if name not in built:
            built[name] = build(name)
        return built[name]

    return get


@pytest.fixture(params=IMAGE_CASES)
def case(request: pytest.FixtureRequest, cases: Callable[[str], Case]) -> Case:
    """Each image encoder in turn, in eval mode."""
    case = cases(request.param)
    case.encoder.eval()
    return case
