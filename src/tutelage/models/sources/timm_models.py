"""Image encoders from timm: ``timm:NAME`` or ``timm:NAME.TAG``."""

from __future__ import annotations

import re
from collections.abc import Set as AbstractSet
from typing import Any

from torch import Tensor, nn

from tutelage.errors import ModelError, UnknownNameError
from tutelage.models.model import Encoder
from tutelage.models.outputs import Outputs
from tutelage.models.preprocess import ImagePreprocess, Modality
from tutelage.models.sources import hub, strides
from tutelage.models.sources.geometry import (
    RANDOM_START,
    check_size,
    default_size,
    measure_widths,
    resampling,
    tokens_to_map,
)


class TimmEncoder(Encoder):
    """A timm model without its classifier.

    ``features`` are what the classifier would read; ``patches`` the final dense map, without class and register
    tokens; with an output stride, convolutional families give the map of their last stage.

    Attributes:
        backbone: The timm model.
    """

    def __init__(
        self,
        name: str,
        backbone: Any,
        preprocess: ImagePreprocess,
        *,
        pretrained: bool,
        source: dict[str, Any],
        stride: int | None = None,
    ) -> None:
        super().__init__(name, preprocess, {}, pretrained=pretrained, source=source, stride=stride)
        self.backbone = backbone
        self.widths = measure_widths(self, preprocess)

    def encode(self, inputs: Any, needs: AbstractSet[str]) -> Outputs:
        """Run the backbone on normalized images [B, 3, h, w]."""
        dense: Any
        patches: Tensor | None
        if self.stride is not None and not hasattr(self.backbone, "patch_embed"):
            dense, patches = last_maps(self.backbone, inputs, final="features" in needs)
        else:
            dense = self.backbone.forward_features(inputs)
            patches = dense_map(self.backbone, dense) if "patches" in needs else None
        features = self.backbone.forward_head(dense, pre_logits=True) if "features" in needs else None
        return Outputs(features=features, patches=patches)


def last_maps(backbone: Any, inputs: Tensor, *, final: bool) -> tuple[Tensor | None, Tensor]:
    """Return the final map of a convolutional timm model, where asked for, and that of its last stage.

    Some families widen the map once more before it is pooled.
    """
    if not final:
        (last,) = backbone.forward_intermediates(inputs, indices=1, intermediates_only=True)
        return None, last
    dense, (last,) = backbone.forward_intermediates(inputs, indices=1)
    return dense, last


def dense_map(backbone: nn.Module, dense: Any) -> Tensor | None:
    """Bring what a timm model's ``forward_features`` returns to [B, D, h, w]; ``None`` when it has no such form."""
    if not isinstance(dense, Tensor):
        return None
    if dense.ndim == 4:
        # Families that keep channels last say so; the others that do are seen by their square axes.
        last = getattr(backbone, "output_fmt", None) == "NHWC" or (dense.shape[1] == dense.shape[2] != dense.shape[3])
        return dense.permute(0, 3, 1, 2) if last else dense
    if dense.ndim == 3:
        has_class_token = isinstance(getattr(backbone, "cls_token", None), Tensor)
        return tokens_to_map(dense, getattr(backbone, "num_prefix_tokens", int(has_class_token)))
    return None


def names() -> list[str]:
    """Return all models, without and with the tags of their pretrained weights."""
    import timm

    return [*timm.list_models(), *(name for name in timm.list_pretrained() if "." in name)]


def modality(identifier: str) -> Modality:
    """Return what the models read: images."""
    return "image"


def check(identifier: str, *, pretrained: bool, size: int | None, stride: int | None = None) -> None:
    """Check everything about a name that needs no download.

    Raises:
        UnknownNameError: timm has no such model or tag.
        ModelError: It has no pretrained weights, cannot be given the stride, or the size does not fit.
    """
    import timm

    name = f"timm:{identifier}"
    architecture, _, tag = identifier.partition(".")
    if not timm.is_model(architecture) or (tag and identifier not in timm.list_pretrained(f"{architecture}.*")):
        raise UnknownNameError("model", name, (f"timm:{known}" for known in names()), "(`tutelage list models`)")
    if pretrained and not timm.is_model_pretrained(identifier):
        raise ModelError(f"{name}: timm has no pretrained weights for it; start from random weights, or take another")
    patch = patch_size(architecture)
    if stride is not None:
        strides.check_timm(name, architecture, stride)
        strides.check_stride(name, stride, patch=patch)
    if size is not None:
        check_size(name, size, patch, stride)


def build(identifier: str, *, pretrained: bool, size: int | None, stride: int | None = None) -> Encoder:
    """Build a timm model without its classifier, at ``size`` pixels or its own default.

    Raises:
        ModelError: The weights cannot be had, or the model does not run at this size or stride.
    """
    import timm

    check(identifier, pretrained=pretrained, size=size, stride=stride)
    name = f"timm:{identifier}"
    config: Any = timm.get_pretrained_cfg(identifier)
    size = size or default_size(config.input_size[-1], patch_size(config.architecture), stride)
    repo = config.hf_hub_id or config.url
    with hub.failures(name, repo):
        if pretrained and config.hf_hub_id:
            hub.cache_only(name, repo)
        backbone = create(identifier, pretrained=pretrained, size=size, stride=stride)
    return TimmEncoder(
        name,
        backbone,
        image_preprocess(config, pretrained=pretrained, size=size),
        pretrained=pretrained,
        source={
            "source": "timm",
            "identifier": config.architecture,
            "pretrained": config.tag if pretrained else None,
            "license": config.license if pretrained else None,
        },
        stride=stride,
    )


def create(architecture: str, *, pretrained: bool, size: int, stride: int | None = None) -> nn.Module:
    """Build the bare timm model at a size, whether or not its family takes one, and at a stride, if one is given."""
    import timm

    options: dict[str, Any] = {"img_size": size, "dynamic_img_size": True}
    if stride is not None:
        options = strides.timm_options(architecture, stride)
    while True:
        try:
            backbone: nn.Module = timm.create_model(architecture, pretrained=pretrained, num_classes=0, **options)
            if stride is not None:
                strides.change_timm(f"timm:{architecture}", architecture, backbone, size=size, stride=stride)
            return backbone
        except TypeError as error:
            # Families differ in which options they take, and only their constructors know.
            refused = [option for option in options if f"'{option}'" in str(error)]
            if not refused:
                raise
            options = {option: value for option, value in options.items() if option not in refused}


def image_preprocess(config: Any, *, pretrained: bool, size: int) -> ImagePreprocess:
    """Return the preprocess of a timm pretrained configuration."""
    return ImagePreprocess(
        size,
        mean=tuple(config.mean) if pretrained else RANDOM_START,
        std=tuple(config.std) if pretrained else RANDOM_START,
        interpolation=resampling(config.interpolation),
        crop=config.crop_pct,
    )


def patch_size(architecture: str) -> int | None:
    """Return the patch size that an architecture's name states, if it does."""
    stated = re.search(r"_patch(\d+)", architecture)
    return int(stated[1]) if stated else None
