"""Where encoders come from: timm, open_clip, transformers, packages that bundle weights, and pairs of these."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tutelage.errors import UnknownNameError
from tutelage.models.model import Encoder
from tutelage.models.preprocess import Modality
from tutelage.models.sources import (
    bundled_models,
    cut_models,
    open_clip_models,
    pair_models,
    saved_models,
    text_models,
    timm_models,
    transformers_models,
)


class _Build(Protocol):
    def __call__(
        self, identifier: str, *, pretrained: bool, size: int | None, stride: int | None = None
    ) -> Encoder: ...


class _Check(Protocol):
    def __call__(self, identifier: str, *, pretrained: bool, size: int | None, stride: int | None = None) -> None: ...


@dataclass(frozen=True)
class Source:
    """A place that encoders come from.

    Attributes:
        summary: What it offers, in one line, and how its models are named.
        build: Builds the encoder that an identifier (the name after the colon) names, in eval mode.
        check: Checks all about an identifier that needs neither building nor downloading.
        names: Lists the identifiers that exist, for suggestions and listings; empty where anybody can add some.
        modality: Tells what an identifier's model reads, without building it.
    """

    summary: str
    build: _Build
    check: _Check
    names: Callable[[], list[str]]
    modality: Callable[[str], Modality]


SOURCES: dict[str, Source] = {
    "timm": Source(
        "image models from timm: timm:NAME, or timm:NAME.TAG for particular weights",
        timm_models.build,
        timm_models.check,
        timm_models.names,
        timm_models.modality,
    ),
    "openclip": Source(
        "image towers of CLIP-like models from open_clip: openclip:NAME/TAG",
        open_clip_models.build,
        open_clip_models.check,
        open_clip_models.names,
        open_clip_models.modality,
    ),
    "hf": Source(
        "image and text encoders from transformers: hf:OWNER/NAME on the hub, or hf:./FOLDER",
        transformers_models.build,
        transformers_models.check,
        transformers_models.names,
        transformers_models.modality,
    ),
    "bundled": Source(
        "weights inside Python packages, no hub needed: bundled:NAME",
        bundled_models.build,
        bundled_models.check,
        bundled_models.names,
        bundled_models.modality,
    ),
    "text": Source(
        "text encoders that start at random: text:PRESET, or text:PRESET@MODEL with the vocabulary of a model",
        text_models.build,
        text_models.check,
        text_models.names,
        text_models.modality,
    ),
    "cut": Source(
        "some layers of a text encoder: cut:2@NAME for two, evenly spaced, or cut:0,5@NAME for those alone",
        cut_models.build,
        cut_models.check,
        cut_models.names,
        cut_models.modality,
    ),
    "pair": Source(
        "encoders of image-text pairs: pair:IMAGE+TEXT, or pair:openclip:NAME/TAG for both towers of a CLIP model",
        pair_models.build,
        pair_models.check,
        pair_models.names,
        pair_models.modality,
    ),
    "run": Source(
        "models made here: the path of a run, of its model/ folder, or of the weights in it",
        saved_models.build,
        saved_models.check,
        saved_models.names,
        saved_models.modality,
    ),
}


def build_encoder(name: str, *, pretrained: bool, size: int | None = None, stride: int | None = None) -> Encoder:
    """Build the encoder that a name such as ``timm:fastvit_s12`` stands for, float32, on the CPU, in eval mode.

    Args:
        name: A source and its own name for a model, with a colon between.
        pretrained: Whether to load its pretrained weights; otherwise it starts at random, with mean and standard
            deviation 0.5.
        size: Side of the input in pixels (length in tokens for a text encoder); by default the model's own, or 252
            for large patch-14 models.
        stride: Pixels from one patch to the next, for tasks that are told apart in every pixel: the ``patches`` of
            stride 8 are [B, D, size / 8, size / 8]. The weights are those of the model as it is, and load into it;
            sizes are multiples of the stride, no longer of patches. Where a convolutional family widens its map
            before it is pooled, ``patches`` are the map before that. By default the model's own, or that which a
            model made here was made with.

    Raises:
        UnknownNameError: There is no such source or model; names the close ones.
        ModelError: The weights cannot be had, the size does not fit, or it cannot be given the stride.
    """
    source, identifier = _parse(name)
    return source.build(identifier, pretrained=pretrained, size=size, stride=stride)


def check_name(name: str, *, pretrained: bool, size: int | None = None, stride: int | None = None) -> None:
    """Check all that :func:`build_encoder` would refuse and that needs neither building nor downloading.

    Raises:
        UnknownNameError: There is no such source or model; names the close ones.
        ModelError: It has no pretrained weights, its package is not installed, or the size or stride does not fit.
    """
    source, identifier = _parse(name)
    source.check(identifier, pretrained=pretrained, size=size, stride=stride)


def modality(name: str) -> Modality:
    """Return what the model that a name stands for reads, without building it.

    Raises:
        UnknownNameError: There is no such source or model; names the close ones.
        ModelError: It is of the hub, which cannot be reached, or it reads neither images nor texts.
        RunError: It is the path of no finished model.
    """
    source, identifier = _parse(name)
    return source.modality(identifier)


def is_path(name: str) -> bool:
    """Return whether a model's name is the path of a model made here."""
    return bool(name) and Path(name).expanduser().exists()


def _parse(name: str) -> tuple[Source, str]:
    prefix, _, identifier = name.partition(":")
    if identifier and prefix in SOURCES:
        return SOURCES[prefix], identifier
    if is_path(name):
        return SOURCES["run"], name
    known = [f"{key}:{each}" for key, source in SOURCES.items() for each in source.names()]
    exact = [each for each in known if each.partition(":")[2] == (identifier or name)]
    hint = f"(a name starts with one of {', '.join(f'{key}:' for key in SOURCES)})"
    raise UnknownNameError("model", name, exact or known, hint)


__all__ = ["SOURCES", "Source", "build_encoder", "check_name", "is_path", "modality"]
