"""Output strides: how encoders give a patch every 8 pixels, say, with the weights of their own stride."""

from __future__ import annotations

from math import isqrt, prod
from typing import Any

import torch
from torch import Tensor, nn

from tutelage.errors import ModelError

STRIDES = (8, 16, 32)
"""Pixels from one patch to the next that can be asked for."""

WHICH = (
    "of timm's models the convolutional families that take an output stride (resnet, convnext, regnet, efficientnet, "
    "mobilenetv3, mobilevitv2, ...), fastvit and vision transformers (vit, deit, beit, eva) can; of open_clip's the "
    "towers that are vision transformers or fastvit; of transformers' ViT, DINOv2, DINOv3, CLIP and SigLIP; and "
    "bundled:efficientnet-lite0, 1 and 2"
)
"""Which encoders can be given a stride, for messages."""

DILATED = (
    "byobnet",
    "convnext",
    "cspnet",
    "cspnext",
    "efficientnet",
    "inception_next",
    "mobilevit",
    "nfnet",
    "regnet",
    "res2net",
    "resnest",
    "resnet",
    "resnetv2",
    "rexnet",
    "sknet",
    "xception_aligned",
)
"""timm's modules whose models take an ``output_stride``: later strides become dilations."""

BLOCKS = ("mobilenetv3",)
"""timm's modules whose models take none, but share their blocks with a feature extractor that does."""

TOKENS = ("beit", "deit", "eva", "vision_transformer")
"""timm's modules of vision transformers whose patches can overlap."""

FASTVIT = ("fastvit",)

TRANSFORMERS = frozenset(
    {
        "clip_vision_model",
        "dinov2",
        "dinov2_with_registers",
        "dinov3_vit",
        "metaclip_2_vision_model",
        "siglip_vision_model",
        "vit",
    }
)
"""transformers' vision towers, by their ``model_type``, whose patches can overlap."""


def check_stride(name: str, stride: int, *, patch: int | None = None) -> None:
    """Refuse a stride that is none of :data:`STRIDES`, or that patches of a size cannot have.

    Raises:
        ModelError: The stride does not fit.
    """
    if stride not in STRIDES:
        raise ModelError(f"{name}: an output stride of {stride} makes no sense; one of {STRIDES} fits")
    if patch is not None and (patch < stride or (patch - stride) % 2):
        raise ModelError(f"{name}: its patches of {patch} pixels cannot be {stride} apart; {WHICH}")


def refusal(name: str, stride: int) -> ModelError:
    """Return the error for an encoder that cannot be given a stride."""
    return ModelError(f"{name} cannot give a patch every {stride} pixels; {WHICH}")


def check_timm(name: str, architecture: str, stride: int, *, built: bool = False) -> None:
    """Refuse a timm model that cannot be given a stride.

    Args:
        name: Of the encoder, for messages.
        architecture: timm's name for it.
        stride: Pixels from one patch to the next.
        built: Whether it has to be changed after it was built, as a part of another library's model.

    Raises:
        ModelError: It cannot.
    """
    from timm.models import is_model_in_modules

    check_stride(name, stride)
    known = FASTVIT + TOKENS if built else FASTVIT + TOKENS + BLOCKS + DILATED
    if not is_model_in_modules(architecture, known):
        raise refusal(name, stride)


def timm_options(architecture: str, stride: int) -> dict[str, Any]:
    """Return what a timm model has to be built with to have a stride, or to be given it by :func:`change_timm`."""
    from timm.models import is_model_in_modules

    return {"output_stride": stride} if is_model_in_modules(architecture, DILATED) else {"dynamic_img_size": True}


def change_timm(name: str, architecture: str, backbone: Any, *, size: int, stride: int) -> None:
    """Give a timm model that was built with :func:`timm_options` its stride, in place; its weights stay as they are.

    Of a transformer the position embeddings change: they are brought to the new grid, as timm resizes them.

    Args:
        name: Of the encoder, for messages.
        architecture: timm's name for it, of one that :func:`check_timm` accepts.
        backbone: The model.
        size: Side of the images in pixels, a multiple of the stride.
        stride: Pixels from one patch to the next.

    Raises:
        ModelError: It cannot be given the stride.
    """
    from timm.models import is_model_in_modules

    if is_model_in_modules(architecture, DILATED):
        return
    if is_model_in_modules(architecture, FASTVIT):
        _thin_downsampling(backbone, stride)
    elif is_model_in_modules(architecture, BLOCKS):
        _dilate_blocks(backbone, architecture, stride)
    else:
        _overlap_patches(name, backbone, size, stride)


def change_open_clip(visual: Any, *, stride: int) -> None:
    """Let the patches of an open_clip vision transformer overlap, in place; it has positions for all of them."""
    overlap(visual.conv1, stride)
    visual.register_load_state_dict_pre_hook(_fit_open_clip_positions)


def change_transformers(name: str, tower: Any, *, stride: int) -> None:
    """Let the patches of a transformers vision tower overlap, in place; it resizes its positions as it runs.

    Raises:
        ModelError: It cannot be given the stride.
    """
    patch = getattr(tower.config, "patch_size", None)
    if tower.config.model_type not in TRANSFORMERS or not isinstance(patch, int):
        raise refusal(name, stride)
    check_stride(name, stride, patch=patch)
    for module in tower.modules():
        if isinstance(module, nn.Conv2d):  # there is no other than that of the patches
            overlap(module, stride)
        own = getattr(module, "patch_size", None)
        if own in (patch, (patch, patch)):  # what the library divides sizes of images by
            module.patch_size = stride if isinstance(own, int) else (stride, stride)
    tower.config.patch_size = stride


def overlap(convolution: nn.Conv2d, stride: int) -> None:
    """Set the stride of a convolution that cuts patches; the padding centers each patch on its square of pixels."""
    convolution.stride = (stride, stride)
    convolution.padding = ((convolution.kernel_size[0] - stride) // 2,) * 2


def _thin_downsampling(backbone: Any, stride: int) -> None:
    """Set the last strides of a FastViT to 1, in all branches of a downsampling that is reparameterized to one."""
    reached = 4  # by the stem
    for stage in backbone.stages:
        if isinstance(stage.downsample, nn.Identity):
            continue
        if reached < stride:
            reached *= 2
            continue
        large = stage.downsample.proj[0]
        large.stride = 1
        for module in large.modules():
            if isinstance(module, nn.Conv2d):
                module.stride = (1, 1)


def _dilate_blocks(backbone: Any, architecture: str, stride: int) -> None:
    import timm

    # On the meta device nothing is allocated; the weights of the plain blocks, whose names are the same, move over.
    with torch.device("meta"):
        dense: Any = timm.create_model(architecture.partition(".")[0], features_only=True, output_stride=stride)
    dense.blocks.load_state_dict(backbone.blocks.state_dict(), assign=True)
    backbone.blocks = dense.blocks


def _overlap_patches(name: str, backbone: Any, size: int, stride: int) -> None:
    from timm.layers.patch_embed import PatchEmbed

    embed = getattr(backbone, "patch_embed", None)
    if not isinstance(embed, PatchEmbed) or not isinstance(embed.proj, nn.Conv2d):
        raise refusal(name, stride)
    patch = embed.proj.kernel_size[0]
    check_stride(name, stride, patch=patch)
    # As many whole patches as there will be overlapping ones: timm then resizes what depends on their number.
    backbone.set_input_size(img_size=(size // stride * patch,) * 2)
    overlap(embed.proj, stride)
    # From here on the library's "patch size" is only what it divides sizes of images by.
    embed.patch_size, embed.img_size = (stride, stride), (size, size)
    backbone.register_load_state_dict_pre_hook(_fit_timm_positions)


def _fit_timm_positions(backbone: Any, state: dict[str, Any], prefix: str, *_: Any) -> None:
    if backbone.pos_embed is not None:
        _fit_positions(state, f"{prefix}pos_embed", backbone.pos_embed, backbone.patch_embed.grid_size)


def _fit_open_clip_positions(visual: Any, state: dict[str, Any], prefix: str, *_: Any) -> None:
    _fit_positions(state, f"{prefix}positional_embedding", visual.positional_embedding, visual.grid_size)


def _fit_positions(state: dict[str, Any], key: str, wanted: Tensor, grid: tuple[int, int]) -> None:
    """Resize position embeddings of another square grid, as of the plain stride, that are about to be loaded."""
    from timm.layers.pos_embed import resample_abs_pos_embed

    given = state.get(key)
    if given is None or given.shape == wanted.shape:
        return
    prefix = wanted.shape[-2] - prod(grid)
    side = isqrt(max(given.shape[-2] - prefix, 0))
    if given.ndim == wanted.ndim and side > 0 and prefix + side * side == given.shape[-2]:
        sizes = {"new_size": list(grid), "old_size": [side, side]}
        state[key] = resample_abs_pos_embed(
            given.reshape(1, *given.shape[-2:]), num_prefix_tokens=prefix, **sizes
        ).reshape(wanted.shape)
