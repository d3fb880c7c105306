"""Image and text towers of CLIP-like models from open_clip: ``openclip:NAME/TAG``."""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from typing import Any

import torch
from torch import Tensor, nn

from tutelage.errors import ModelError, UnknownNameError
from tutelage.models.model import Encoder
from tutelage.models.outputs import Outputs
from tutelage.models.preprocess import ClipTextPreprocess, ImagePreprocess, Modality
from tutelage.models.sources import hub, strides
from tutelage.models.sources.geometry import (
    RANDOM_START,
    check_size,
    default_size,
    measure_widths,
    resampling,
    tokens_to_map,
)
from tutelage.models.sources.timm_models import dense_map, last_maps, patch_size


class ViTTower(Encoder):
    """A CLIP vision transformer.

    ``features`` are pooled and normalized (after ``ln_post``) but not projected, ``embedding`` is projected,
    ``patches`` are the other tokens.

    Attributes:
        tower: The open_clip transformer, its projection taken out.
        projection: Projection matrix into the shared space, [D, E].
    """

    def __init__(self, name: str, visual: Any, preprocess: ImagePreprocess, **facts: Any) -> None:
        super().__init__(name, preprocess, {}, **facts)
        self.projection: nn.Parameter = visual.proj
        visual.proj = None
        visual.output_tokens = True
        self.tower = visual
        self.widths = measure_widths(self, preprocess)

    def encode(self, inputs: Any, needs: AbstractSet[str]) -> Outputs:
        """Run the tower on normalized images [B, 3, h, w]."""
        pooled, tokens = self.tower(inputs)
        embedding = pooled @ self.projection if "embedding" in needs else None
        # An attentional pooler (CoCa) returns its queries' answers, which have no place in the image.
        dense = "patches" in needs and self.tower.attn_pool is None
        return Outputs(features=pooled, embedding=embedding, patches=tokens_to_map(tokens, 0) if dense else None)


class TrunkTower(Encoder):
    """A CLIP image tower around a timm model (SigLIP, MobileCLIP, ConvNeXt …).

    ``features`` are the trunk's pooled output, ``embedding`` that after the trunk's and the tower's own heads. Where
    pooling and projection are one layer, and where there is no projection (SigLIP), the two are the same.

    Attributes:
        tower: The open_clip tower.
    """

    def __init__(self, name: str, visual: Any, preprocess: ImagePreprocess, **facts: Any) -> None:
        super().__init__(name, preprocess, {}, **facts)
        self.tower = visual
        self.widths = measure_widths(self, preprocess)

    def encode(self, inputs: Any, needs: AbstractSet[str]) -> Outputs:
        """Run the tower on normalized images [B, 3, h, w]."""
        trunk, head = self.tower.trunk, self.tower.head
        dense: Any
        patches: Tensor | None
        if self.stride is not None and not hasattr(trunk, "patch_embed"):
            dense, patches = last_maps(trunk, inputs, final=bool(needs & {"features", "embedding"}))
            if dense is None:
                return Outputs(patches=patches)
        else:
            dense = trunk.forward_features(inputs)
            patches = dense_map(trunk, dense) if "patches" in needs else None
        if hasattr(head, "pool"):
            embedding: Tensor = head(trunk.forward_head(dense))
            return Outputs(features=embedding, embedding=embedding, patches=patches)
        features = trunk.forward_head(dense, pre_logits=True) if "features" in needs else None
        embedding_or_none = head(trunk.forward_head(dense)) if "embedding" in needs else None
        return Outputs(features=features, embedding=embedding_or_none, patches=patches)


class ResNetTower(Encoder):
    """CLIP's modified ResNet. Its attention pooling ends in the projection, so ``features`` are the ``embedding``.

    Attributes:
        tower: The open_clip network.
    """

    def __init__(self, name: str, visual: Any, preprocess: ImagePreprocess, **facts: Any) -> None:
        super().__init__(name, preprocess, {}, **facts)
        self.tower = visual
        self.widths = measure_widths(self, preprocess)

    def encode(self, inputs: Any, needs: AbstractSet[str]) -> Outputs:
        """Run the tower on normalized images [B, 3, h, w]."""
        dense = self.tower.stem(inputs)
        for layer in (self.tower.layer1, self.tower.layer2, self.tower.layer3, self.tower.layer4):
            dense = layer(dense)
        pooled = self.tower.attnpool(dense) if needs & {"features", "embedding"} else None
        return Outputs(features=pooled, embedding=pooled, patches=dense)


class TextTower(Encoder):
    """The text tower of a CLIP model; ``embedding`` is projected into the space that it shares with images.

    Attributes:
        tower: The open_clip transformer.
        scale: What its model multiplies cosines by, as it has learned to; ``None`` for a tower of no model.
    """

    def __init__(
        self, name: str, tower: Any, preprocess: ClipTextPreprocess, *, scale: float | None = None, **facts: Any
    ) -> None:
        super().__init__(name, preprocess, {}, **facts)
        self.tower = tower
        self.scale = scale
        ids = preprocess(["a word"])  # here a tokenizer is missed that has to be downloaded
        with torch.no_grad():
            self.widths = {"embedding": self.eval().encode(ids, frozenset()).require("embedding").shape[1]}

    def encode(self, inputs: Any, needs: AbstractSet[str]) -> Outputs:
        """Run the tower on ``input_ids`` [B, L]."""
        ids: Tensor = inputs["input_ids"].to(next(self.tower.parameters()).device)  # tokenized on the CPU
        found = self.tower(ids)
        return Outputs(embedding=found[0] if isinstance(found, tuple) else found)  # CoCa's gives its tokens too


def names() -> list[str]:
    """Return all architectures, without and with the tags of their pretrained weights."""
    import open_clip

    return [*open_clip.list_models(), *(f"{model}/{tag}" for model, tag in open_clip.list_pretrained())]


def modality(identifier: str) -> Modality:
    """Return what the models read: images."""
    return "image"


def check(identifier: str, *, pretrained: bool, size: int | None, stride: int | None = None) -> None:
    """Check everything about a name that needs no download.

    Raises:
        UnknownNameError: open_clip has no such model or tag.
        ModelError: Pretrained weights are asked for without a tag, or the size or stride does not fit.
    """
    import open_clip

    name = f"openclip:{identifier}"
    architecture, _, tag = identifier.partition("/")
    config = open_clip.get_model_config(architecture) if architecture in open_clip.list_models() else None
    if config is None or (tag and not open_clip.get_pretrained_cfg(architecture, tag)):
        raise UnknownNameError("model", name, (f"openclip:{known}" for known in names()), "(`tutelage list models`)")
    if pretrained and not tag:
        tags = open_clip.list_pretrained_tags_by_model(architecture)
        known = f"add one of its tags: {', '.join(f'{name}/{t}' for t in tags)}" if tags else "there are none for it"
        raise ModelError(f"{name} does not say which pretrained weights; {known}")
    vision = config["vision_cfg"]
    residual, trunk = isinstance(vision.get("layers"), list), vision.get("timm_model_name")
    patch = 32 if residual else patch_size(trunk) if trunk else vision.get("patch_size", 16)
    if stride is not None:
        if residual:
            raise strides.refusal(name, stride)
        if trunk:
            strides.check_timm(name, trunk, stride, built=True)
        strides.check_stride(name, stride, patch=patch)
    if size is None:
        return
    if residual and pretrained and size != vision["image_size"]:
        raise ModelError(f"{name}: its attention pooling only takes {vision['image_size']}-pixel images, not {size}")
    check_size(name, size, patch, stride)


def build(identifier: str, *, pretrained: bool, size: int | None, stride: int | None = None) -> Encoder:
    """Build a CLIP model's image tower; its text tower is not kept.

    Raises:
        ModelError: The weights cannot be had, or the tower does not run at this size or stride.
    """
    import open_clip

    check(identifier, pretrained=pretrained, size=size, stride=stride)
    name = f"openclip:{identifier}"
    vision = open_clip.get_model_config(identifier.partition("/")[0])["vision_cfg"]
    native = vision.get("image_size", 224)
    native = native if isinstance(native, int) else native[0]
    cut = size
    if stride is not None:
        size = size or default_size(native, vision.get("patch_size", 16), stride)
        # Images of as many whole patches as there will be overlapping ones: open_clip resizes its positions to them.
        cut = None if "timm_model_name" in vision else size // stride * vision.get("patch_size", 16)
    _, model = _model(identifier, pretrained=pretrained, image_size=cut)
    visual = model.visual
    if stride is not None and cut is None:
        assert size is not None
        strides.change_timm(name, vision["timm_model_name"], visual.trunk, size=size, stride=stride)
    elif stride is not None:
        strides.change_open_clip(visual, stride=stride)
    preprocess = ImagePreprocess(
        size or native,
        mean=tuple(visual.preprocess_cfg["mean"]) if pretrained else RANDOM_START,
        std=tuple(visual.preprocess_cfg["std"]) if pretrained else RANDOM_START,
        interpolation=resampling(visual.preprocess_cfg["interpolation"]),
    )
    kind = TrunkTower if hasattr(visual, "trunk") else ResNetTower if hasattr(visual, "attnpool") else ViTTower
    facts: dict[str, Any] = {"pretrained": pretrained, "source": _source(identifier, pretrained), "stride": stride}
    return kind(name, visual, preprocess, **facts)


def build_text(identifier: str, *, pretrained: bool, length: int | None) -> TextTower:
    """Build a CLIP model's text tower, in eval mode; its image tower is not kept.

    Args:
        identifier: As for :func:`build`.
        pretrained: Whether to load its weights.
        length: Of the texts, in tokens; the model's own if not given. Positions are interpolated.

    Raises:
        ModelError: The weights or the tokenizer cannot be had.
    """
    check(identifier, pretrained=pretrained, size=None)
    name = f"openclip:{identifier}"
    config, model = _model(identifier, pretrained=pretrained, text=True, text_length=length)
    settings, architecture = config["text_cfg"], identifier.partition("/")[0]
    preprocess = ClipTextPreprocess(length or settings.get("context_length", 77), architecture)
    facts: dict[str, Any] = {"pretrained": pretrained, "source": _source(identifier, pretrained)}
    with hub.failures(name, settings.get("hf_tokenizer_name") or architecture):
        return TextTower(name, model.text, preprocess, scale=float(model.logit_scale.detach().exp()), **facts)


def embedding_width(identifier: str) -> int:
    """Return the width of the space that a model's towers share; nothing is built.

    Raises:
        UnknownNameError: open_clip has no such model or tag.
    """
    import open_clip

    check(identifier, pretrained=False, size=None)
    return int(open_clip.get_model_config(identifier.partition("/")[0])["embed_dim"])


def _model(
    identifier: str,
    *,
    pretrained: bool,
    image_size: int | None = None,
    text: bool = False,
    text_length: int | None = None,
) -> tuple[dict[str, Any], Any]:
    """Return an architecture's configuration, and its model; with ``text``, the text tower is one module of it."""
    import open_clip

    name = f"openclip:{identifier}"
    architecture, _, tag = identifier.partition("/")
    config = open_clip.get_model_config(architecture)
    weights = open_clip.get_pretrained_cfg(architecture, tag) if pretrained else {}
    repo = "/".join(weights.get("hf_hub", "").split("/")[:2])
    encoder = config["text_cfg"].get("hf_model_name", "")
    with hub.failures(name, repo or weights.get("url") or encoder):
        if repo:
            hub.cache_only(name, repo)
        return config, open_clip.create_model(
            architecture,
            pretrained=tag if pretrained else None,
            precision="fp32",
            # The weights know which activation they were trained with; the bare name may not.
            force_quick_gelu=bool(weights.get("quick_gelu")),
            force_custom_text=text,
            # Dropped patches would leave holes in the dense map.
            force_patch_dropout=0.0,
            force_image_size=image_size,
            force_context_length=text_length,
            pretrained_text=False,
        )


def _source(identifier: str, pretrained: bool) -> dict[str, Any]:
    architecture, _, tag = identifier.partition("/")
    return {
        "source": "openclip",
        "identifier": architecture,
        "pretrained": tag if pretrained else None,
        "license": None,
    }
