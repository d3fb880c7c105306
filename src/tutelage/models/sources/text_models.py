"""Text encoders that start at random: ``text:PRESET``, or ``text:PRESET@MODEL`` with the vocabulary of a model."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import torch

from tutelage.errors import ModelError, UnknownNameError
from tutelage.models.model import Encoder
from tutelage.models.preprocess import Modality
from tutelage.models.sources import bundled_models, strides, transformers_models
from tutelage.models.tokenizers import tokenizer

POSITIONS = 512
"""Most tokens that the presets read."""

_BUNDLED, _HUB = "bundled:minilm-l6", "hf:google-bert/bert-base-uncased"


def _bert(width: int, layers: int) -> dict[str, Any]:
    return {
        "model_type": "bert",
        "hidden_size": width,
        "num_hidden_layers": layers,
        "num_attention_heads": width // 64,
        "intermediate_size": 4 * width,
        "max_position_embeddings": POSITIONS,
    }


PRESETS: dict[str, dict[str, Any]] = {
    "tiny": _bert(128, 2),
    "bert-small": _bert(512, 4),
    "distilbert": {
        "model_type": "distilbert",
        "dim": 768,
        "n_layers": 6,
        "n_heads": 12,
        "hidden_dim": 3072,
        "max_position_embeddings": POSITIONS,
    },
}
"""Configurations of transformers, but for the vocabulary: BERT-Tiny, BERT-Small and DistilBERT."""


def names() -> list[str]:
    """Return all presets."""
    return list(PRESETS)


def modality(identifier: str) -> Modality:
    """Return what the models read: texts."""
    return "text"


def check(identifier: str, *, pretrained: bool, size: int | None, stride: int | None = None) -> None:
    """Check a preset, and that nothing is asked of it that it has not.

    Raises:
        UnknownNameError: There is no such preset.
        ModelError: Pretrained weights are wanted, its vocabulary is no text model's, or the length or stride does not
            fit.
    """
    name = f"text:{identifier}"
    preset, _ = _parts(identifier)
    if preset not in PRESETS:
        raise UnknownNameError("model", name, (f"text:{known}" for known in PRESETS))
    if pretrained:
        raise ModelError(
            f"{name} has no pretrained weights; let it start at random, or name an encoder that has some: hf:NAME, "
            f"or layers of one: cut:2@{_BUNDLED}"
        )
    if stride is not None:
        strides.check_stride(name, stride)
        raise strides.refusal(name, stride)
    if size is not None and not 1 <= size <= POSITIONS:
        raise ModelError(f"{name} reads 1 to {POSITIONS} tokens, not {size}")
    vocabulary(identifier)


def build(identifier: str, *, pretrained: bool, size: int | None, stride: int | None = None) -> Encoder:
    """Build a text encoder with random weights.

    Raises:
        UnknownNameError: There is no such preset.
        ModelError: What :func:`check` refuses, or the vocabulary cannot be had.
    """
    from transformers import AutoConfig, AutoModel

    check(identifier, pretrained=pretrained, size=size, stride=stride)
    preset, _ = _parts(identifier)
    where = vocabulary(identifier)
    words, pad = tokenizer(where)
    options = {**PRESETS[preset], "vocab_size": words.get_vocab_size(), "pad_token_id": pad}
    config = AutoConfig.for_model(**options)
    source = {"source": "text", "identifier": identifier, "pretrained": None, "license": None}
    facts: dict[str, Any] = {"pretrained": False, "source": source}
    auto: Any = AutoModel
    tower = auto.from_config(config, dtype=torch.float32)
    return transformers_models.text_encoder(f"text:{identifier}", tower, where, pooling="cls", size=size, **facts)


def vocabulary(identifier: str) -> str:
    """Return the name or folder of the tokenizer that ``text:IDENTIFIER`` reads with.

    Raises:
        ModelError: The model that it names lends none, or is not installed.
    """
    _, model = _parts(identifier)
    installed = find_spec(bundled_models.PACKAGES[_BUNDLED.removeprefix("bundled:")]) is not None
    model = model or (_BUNDLED if installed else _HUB)
    source, _, named = model.partition(":")
    if source == "hf" and named:
        return transformers_models.location(named)
    if model != _BUNDLED:
        raise ModelError(
            f"text:{identifier}: {model!r} lends no vocabulary; name {_BUNDLED}, hf:OWNER/NAME or hf:./FOLDER"
        )
    bundled_models.check(named, pretrained=False, size=None)
    return model


def _parts(identifier: str) -> tuple[str, str]:
    preset, _, model = identifier.partition("@")
    return preset, model
