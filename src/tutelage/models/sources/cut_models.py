"""Some layers of a text encoder: ``cut:N@NAME``, N of them, evenly spaced, or ``cut:0,5@NAME``, those alone."""

from __future__ import annotations

import re
from typing import Any

from torch import nn

from tutelage.errors import ModelError
from tutelage.models.model import Encoder
from tutelage.models.preprocess import Modality, TextPreprocess
from tutelage.models.sources import bundled_models, strides, transformers_models
from tutelage.models.sources.transformers_encoders import TextEncoder

_EXAMPLE = "cut:2@bundled:minilm-l6"


def names() -> list[str]:
    """Return nothing: any text encoder can be cut."""
    return []


def modality(identifier: str) -> Modality:
    """Return what the models read: texts."""
    return "text"


def check(identifier: str, *, pretrained: bool, size: int | None, stride: int | None = None) -> None:
    """Check the layers as far as a name shows them, and the encoder that they are of.

    Raises:
        UnknownNameError: There is no such encoder.
        ModelError: It names no layers, or too many; the encoder reads no texts or has no weights; or it has a
            stride.
    """
    from tutelage.models.sources import check_name
    from tutelage.models.sources import modality as reads

    wanted, whole = _parts(identifier)
    if stride is not None:
        strides.check_stride(f"cut:{identifier}", stride)
        raise strides.refusal(f"cut:{identifier}", stride)
    check_name(whole, pretrained=pretrained, size=size)
    if reads(whole) != "text":
        raise ModelError(f"cut:{identifier}: {whole} reads {reads(whole)}s; only text encoders are cut")
    source, _, named = whole.partition(":")
    if source in ("hf", "bundled"):
        where = transformers_models.location(named) if source == "hf" else str(bundled_models.text_folder(whole))
        count = transformers_models.layer_count(where, whole)
        if count is not None:
            chosen_layers(f"cut:{identifier}", wanted, count)


def build(identifier: str, *, pretrained: bool, size: int | None, stride: int | None = None) -> Encoder:
    """Build a text encoder of some layers of another; of an encoder-decoder, its encoder, pooled by the mean.

    Raises:
        UnknownNameError: There is no such encoder.
        ModelError: What :func:`check` refuses, or its layers are in no list.
    """
    from tutelage.models.sources import build_encoder

    check(identifier, pretrained=pretrained, size=size, stride=stride)
    name = f"cut:{identifier}"
    wanted, whole = _parts(identifier)
    encoder = build_encoder(whole, pretrained=pretrained, size=size)
    if not isinstance(encoder, TextEncoder):
        raise ModelError(f"{name}: {whole} is none of transformers' text encoders, which alone are cut")
    assert isinstance(encoder.preprocess, TextPreprocess)
    tower, pooling = encoder.tower, encoder.pooling
    if tower.config.is_encoder_decoder:
        tower, pooling = tower.get_encoder(), "mean"
    layers = _layers(tower)
    if layers is None:
        raise ModelError(
            f"{name}: a {tower.config.model_type} model keeps its layers in no list that can be cut; name another"
        )
    chosen = chosen_layers(name, wanted, len(layers))
    keep_layers(tower, layers, chosen)
    source = {**encoder.source, "source": "cut", "identifier": identifier, "layers": list(chosen)}
    facts: dict[str, Any] = {"pretrained": pretrained, "source": source}
    return TextEncoder(name, tower, encoder.preprocess, pooling=pooling, **facts)


def chosen_layers(name: str, wanted: int | tuple[int, ...], count: int) -> tuple[int, ...]:
    """Return which of a model's layers are kept, in order.

    Args:
        name: Of the model, for errors.
        wanted: How many, evenly spaced, the first and the last among them where there are two or more; or which.
        count: How many there are.

    Raises:
        ModelError: There are not so many.
    """
    most = wanted if isinstance(wanted, int) else max(wanted) + 1
    if most > count:
        raise ModelError(f"{name}: there are {count} layers, 0 to {count - 1}, to choose from")
    if not isinstance(wanted, int):
        return wanted
    return tuple(round(number * (count - 1) / max(wanted - 1, 1)) for number in range(wanted))


def keep_layers(tower: Any, layers: nn.ModuleList, chosen: tuple[int, ...]) -> None:
    """Keep some of a model's layers, renumbered, and let its configuration say so.

    Args:
        tower: The model; changed.
        layers: The list of its layers.
        chosen: Which to keep, in order.
    """
    count = len(layers)
    kept = [layers[row] for row in chosen]
    _carry_bias(layers[0], kept[0])
    for number, layer in enumerate(kept):
        for module in layer.modules():
            for each in ("layer_idx", "layer_id"):
                if isinstance(getattr(module, each, None), int):
                    setattr(module, each, number)
    for row in reversed(range(count)):
        del layers[row]
    layers.extend(kept)
    config = tower.config
    for key, value in vars(config).items():
        # Such as the kind of attention of each layer.
        if isinstance(value, list | tuple) and len(value) == count and key.startswith("layer"):
            setattr(config, key, type(value)(value[row] for row in chosen))
    config.num_hidden_layers = len(chosen)


def _layers(tower: Any) -> nn.ModuleList | None:
    """Return the outermost list with as many modules as the model has layers."""
    count = getattr(tower.config, "num_hidden_layers", None)
    found = (each for each in tower.modules() if isinstance(each, nn.ModuleList) and len(each) == count)
    return next(found, None)


def _carry_bias(first: nn.Module, kept: nn.Module) -> None:
    """Give T5's relative positions, which all layers read and the first one has, to the first one that is kept."""
    name = next((name for name, _ in first.named_modules() if name.endswith("relative_attention_bias")), None)
    if name is None or first is kept:
        return
    owner, _, key = name.rpartition(".")
    taker: Any = kept.get_submodule(owner)
    if not hasattr(taker, key):
        setattr(taker, key, getattr(first.get_submodule(owner), key))
        taker.has_relative_attention_bias = True


def _parts(identifier: str) -> tuple[int | tuple[int, ...], str]:
    """Return how many layers, or which, and of what."""
    layers, _, whole = identifier.partition("@")
    if not whole or not re.fullmatch(r"\d+(,\d+)*", layers):
        raise ModelError(f"cut:{identifier} names no layers of a text encoder; write {_EXAMPLE}, or cut:0,5@NAME")
    numbers = tuple(int(each) for each in layers.split(","))
    if len(numbers) > 1:
        if list(numbers) != sorted(set(numbers)):
            raise ModelError(f"cut:{identifier}: name each layer once, in ascending order")
        return numbers, whole
    if numbers[0] < 1:
        raise ModelError(f"cut:{identifier}: at least one layer must stay; write {_EXAMPLE}")
    return numbers[0], whole
