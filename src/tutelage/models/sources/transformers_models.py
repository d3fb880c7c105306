"""Image and text encoders from transformers: ``hf:REPO`` on the hub, or ``hf:./FOLDER``."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from tutelage.errors import ModelError
from tutelage.models.model import Encoder
from tutelage.models.preprocess import Modality, TextPreprocess
from tutelage.models.sources import hub, strides
from tutelage.models.sources.geometry import check_size
from tutelage.models.sources.image_processors import image_preprocess
from tutelage.models.sources.transformers_encoders import ImageTower, Pooling, TextEncoder, takes_segments, text_limit
from tutelage.models.tokenizers import tokenizer

PROJECTED: dict[str, str] = {
    "clip": "CLIPVisionModelWithProjection",
    "clip_vision_model": "CLIPVisionModelWithProjection",
    "metaclip_2": "MetaClip2VisionModelWithProjection",
    "metaclip_2_vision_model": "MetaClip2VisionModelWithProjection",
}
"""Image-text models, by their ``model_type``, whose image tower projects; loaded without the text tower."""

SHARED: dict[str, str] = {"siglip": "SiglipVisionModel", "siglip_vision_model": "SiglipVisionModel"}
"""Image-text models whose pooled image features already are the shared embedding."""

_READS: dict[str | None, Modality] = {"pixel_values": "image", "input_ids": "text"}

_LENGTH = 128


def names() -> list[str]:
    """Return nothing: any repository or folder will do."""
    return []


@lru_cache(maxsize=32)
def modality(identifier: str) -> Modality:
    """Return what a repository's or a folder's model reads, by the class of its configuration.

    Raises:
        ModelError: It cannot be had, or it reads neither images nor texts.
    """
    from transformers import MODEL_MAPPING

    check(identifier, pretrained=False, size=None)
    path, name = location(identifier), f"hf:{identifier}"
    with hub.failures(name, path):
        config, _ = _config(path, name)
        if config.model_type in {**PROJECTED, **SHARED} or hasattr(config, "vision_config"):
            return "image"
        kinds = MODEL_MAPPING.get(type(config), None)
    kind = kinds[0] if isinstance(kinds, tuple) else kinds
    found: Modality | None = _READS.get(getattr(kind, "main_input_name", None))
    if found is None:
        raise _neither(name, config)
    return found


def check(identifier: str, *, pretrained: bool, size: int | None, stride: int | None = None) -> None:
    """Check that a folder has a model in it, or that the name can be a repository's, and sizes as far as they show.

    Raises:
        ModelError: It cannot.
    """
    name = f"hf:{identifier}"
    folder = Path(identifier).expanduser()
    if identifier.startswith((".", "/", "~")) or folder.is_dir():
        if not (folder / "config.json").is_file():
            raise ModelError(f"{name}: {folder} is no folder with a config.json; save a model there first")
        if pretrained and not any(file.suffix in {".safetensors", ".bin"} for file in folder.iterdir()):
            raise ModelError(f"{name}: {folder} has a config.json but no weights (*.safetensors)")
    elif not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", identifier):
        raise ModelError(f"{name} names neither a repository (OWNER/NAME) nor a folder (./FOLDER)")
    if stride is not None:
        strides.check_stride(name, stride)
    if size is not None:
        check_size(name, size, None, stride)
        if folder.is_dir() and modality(identifier) == "text":
            check_length(location(identifier), name, size)


def check_length(path: str, name: str, length: int) -> None:
    """Check that a text model reads so many tokens, as far as its configuration tells.

    Args:
        path: A folder, or a repository's name.
        name: The model's name, for errors.
        length: In tokens.

    Raises:
        ModelError: It does not, or its configuration cannot be had.
    """
    with hub.failures(name, path):
        stated = getattr(_config(path, name)[0], "max_position_embeddings", None) or 0
    if 0 < stated < length:
        raise _too_long(name, stated, length)


def build(identifier: str, *, pretrained: bool, size: int | None, stride: int | None = None) -> Encoder:
    """Build the image or text encoder of a repository or folder.

    Raises:
        ModelError: It cannot be had, is no image or text encoder, or cannot be given the stride.
    """
    check(identifier, pretrained=pretrained, size=size, stride=stride)
    source = {
        "source": "hf",
        "identifier": identifier,
        "pretrained": identifier if pretrained else None,
        "license": None,
    }
    name = f"hf:{identifier}"
    return build_from(location(identifier), name, pretrained=pretrained, size=size, stride=stride, source=source)


def build_from(
    path: str,
    name: str,
    *,
    pretrained: bool,
    size: int | None,
    stride: int | None = None,
    source: dict[str, Any],
    tokens: str | None = None,
) -> Encoder:
    """Build the image or text encoder of a repository or folder, under a given name.

    Args:
        path: A repository's name or a folder.
        name: The encoder's name, for errors and results.
        pretrained: Whether to load its weights, or only its configuration.
        size: Side of the images in pixels, or length of the texts in tokens.
        stride: Pixels from one patch to the next; the model's own if not given.
        source: Facts for the encoder's ``source``.
        tokens: What names its tokenizer; the path if not given.

    Raises:
        ModelError: It cannot be had, is no image or text encoder, or cannot be given the stride.
    """
    with hub.failures(name, path):
        config, local = _config(path, name)
        if hasattr(config, "vision_config") and config.model_type not in {**PROJECTED, **SHARED}:
            raise ModelError(f"{name} is a {config.model_type} model of images and text; its towers cannot be split")
        tower = _load(path, config, pretrained=pretrained, local=local)
        facts: dict[str, Any] = {"pretrained": pretrained, "source": source}
        if tower.main_input_name == "pixel_values":
            sizes = {"size": size, "stride": stride}
            preprocess = image_preprocess(path, name, tower.config, pretrained=pretrained, local=local, **sizes)
            projection = tower.visual_projection if config.model_type in PROJECTED else None
            images = tower if projection is None else tower.vision_model
            if stride is not None:
                strides.change_transformers(name, images, stride=stride)
            shared = config.model_type in SHARED
            return ImageTower(name, images, preprocess, projection=projection, shared=shared, stride=stride, **facts)
        if tower.main_input_name == "input_ids":
            if stride is not None:
                raise strides.refusal(name, stride)
            pooling = _pooling(path, config, local=local)
            return text_encoder(name, tower, tokens or path, pooling=pooling, size=size, **facts)
    raise _neither(name, config)


def text_encoder(
    name: str, tower: Any, tokens: str, *, pooling: Pooling, size: int | None, **facts: Any
) -> TextEncoder:
    """Return the encoder around one of transformers' text models.

    Args:
        name: The encoder's name, for errors and results.
        tower: The model.
        tokens: Name or folder of its tokenizer.
        pooling: How token states become features.
        size: Length of the texts in tokens; 128, or fewer where the model reads no more, if not given.
        facts: As of :class:`tutelage.models.Encoder`.

    Raises:
        ModelError: The tokenizer cannot be had, knows words that the model does not, or the texts are too long.
    """
    limit = text_limit(tower)
    if size is not None and limit is not None and size > limit:
        raise _too_long(name, limit, size)
    words, pad = tokenizer(tokens)
    rows = tower.get_input_embeddings().num_embeddings
    # Added tokens may lie behind those that a model knows, as long as nobody writes them.
    known = max(words.get_vocab_size(with_added_tokens=False), pad + 1)
    if known > rows:
        raise ModelError(f"{name}: its tokenizer has {known} tokens, and the model knows {rows}; save them together")
    length = size or min(_LENGTH, limit or _LENGTH)
    texts = TextPreprocess(tokens, length=length, segments=takes_segments(tower), limit=limit)
    return TextEncoder(name, tower, texts, pooling=pooling, **facts)


def layer_count(path: str, name: str) -> int | None:
    """Return how many layers a model's configuration states (of an encoder-decoder, in its encoder), if it does.

    Args:
        path: A repository's name or a folder.
        name: The model's name, for errors.

    Raises:
        ModelError: The configuration cannot be had.
    """
    with hub.failures(name, path):
        return getattr(_config(path, name)[0], "num_hidden_layers", None)


def location(identifier: str) -> str:
    """Return the folder that a name after ``hf:`` is, or the repository."""
    folder = Path(identifier).expanduser()
    return str(folder) if folder.is_dir() else identifier


def _config(path: str, name: str) -> tuple[Any, bool]:
    """Return a model's configuration, and whether nothing but local files is to be asked for."""
    from transformers import AutoConfig

    local = Path(path).is_dir() or hub.cache_only(name, path)
    return AutoConfig.from_pretrained(path, local_files_only=local), local


def _too_long(name: str, limit: int, length: int) -> ModelError:
    return ModelError(f"{name} reads at most {limit} tokens, not {length}")


def _neither(name: str, config: Any) -> ModelError:
    return ModelError(f"{name} is a {config.model_type} model, which encodes neither images nor text alone")


def _load(path: str, config: Any, *, pretrained: bool, local: bool) -> Any:
    import transformers

    special = PROJECTED.get(config.model_type) or SHARED.get(config.model_type)
    kind = getattr(transformers, special) if special else transformers.AutoModel
    if pretrained:
        with _quiet() if local else nullcontext():  # the bar of a download stays
            return kind.from_pretrained(path, dtype=torch.float32, local_files_only=local)
    config = getattr(config, "vision_config", config) if special else config
    return kind(config) if special else kind.from_config(config, dtype=torch.float32)


@contextmanager
def _quiet() -> Iterator[None]:
    """Leave out transformers' bar over weights that it puts in place, which takes no time worth one."""
    from transformers.utils import logging

    theirs: Any = logging
    shown = theirs.is_progress_bar_enabled()
    theirs.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            theirs.enable_progress_bar()


def _pooling(path: str, config: Any, *, local: bool) -> Pooling:
    from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, MODEL_FOR_MASKED_LM_MAPPING, PretrainedConfig

    try:
        # Sentence encoders state how they were trained to be pooled.
        stated = PretrainedConfig.get_config_dict(path, subfolder="1_Pooling", local_files_only=local)[0]
    except OSError:
        stated = {}
    if stated:
        flags: dict[str, Pooling] = {"pooling_mode_cls_token": "cls", "pooling_mode_lasttoken": "last"}
        return next((pooling for flag, pooling in flags.items() if stated.get(flag)), "mean")
    decoder = type(config) in MODEL_FOR_CAUSAL_LM_MAPPING and type(config) not in MODEL_FOR_MASKED_LM_MAPPING
    return "last" if decoder else "cls"
