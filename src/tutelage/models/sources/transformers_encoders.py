"""Encoders around transformers models: image towers and text encoders."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from typing import Any, Literal

import torch
from torch import Tensor, nn

from tutelage.models.model import Encoder
from tutelage.models.outputs import Outputs
from tutelage.models.preprocess import ImagePreprocess, TextPreprocess
from tutelage.models.sources.geometry import measure_widths, tokens_to_map

Pooling = Literal["cls", "mean", "last"]


class ImageTower(Encoder):
    """A transformers vision model.

    ``features`` are the model's own pooled output where it has one, otherwise the normalized [CLS] token;
    ``patches`` the tokens of the image without [CLS] and registers, or the last map.

    Attributes:
        tower: The vision model.
        projection: Layer that takes features into a space shared with text (CLIP), or ``None``.
        shared: Whether the features themselves live in such a space (SigLIP).
    """

    def __init__(
        self,
        name: str,
        tower: Any,
        preprocess: ImagePreprocess,
        *,
        projection: nn.Module | None,
        shared: bool,
        **facts: Any,
    ) -> None:
        super().__init__(name, preprocess, {}, **facts)
        drop_tanh_pooler(tower)
        self.tower = tower
        self.projection = projection
        self.shared = shared
        takes = inspect.signature(tower.forward).parameters
        self._options = {"interpolate_pos_encoding": True} if "interpolate_pos_encoding" in takes else {}
        # CLIP returns its tokens before the last norm; other sources, and other families here, after it.
        self._norm_tokens = tower.config.model_type in {"clip_vision_model", "metaclip_2_vision_model"}
        self.widths = measure_widths(self, preprocess)

    def encode(self, inputs: Any, needs: AbstractSet[str]) -> Outputs:
        """Run the tower on normalized images [B, 3, h, w]."""
        result = self.tower(pixel_values=inputs, **self._options)
        tokens: Tensor = result.last_hidden_state
        pooled = result.get("pooler_output")
        features = tokens[:, 0] if pooled is None else pooled.flatten(1)
        embedding = None
        if "embedding" in needs:
            embedding = self.projection(features) if self.projection else features if self.shared else None
        patches = self._dense(tokens, inputs.shape[-1]) if "patches" in needs else None
        return Outputs(features=features, embedding=embedding, patches=patches)

    def _dense(self, tokens: Tensor, size: int) -> Tensor | None:
        if tokens.ndim == 4:
            return tokens
        if self._norm_tokens:
            tokens = self.tower.post_layernorm(tokens)
        patch = getattr(self.tower.config, "patch_size", None)
        grid = (size // patch) ** 2 if isinstance(patch, int) else 0
        # Hierarchical models (Swin) state the patch size of their first stage, and have fewer tokens at the end.
        prefix = tokens.shape[1] - grid if 0 < grid <= tokens.shape[1] else 0
        return tokens_to_map(tokens, prefix)


class TextEncoder(Encoder):
    """A transformers text model; ``features`` are pooled from its last hidden states.

    Pooling is the first token ([CLS]) for BERT and its kin, the mean over real tokens for sentence encoders, and the
    last real token for decoders. An encoder-decoder reads the text in its encoder, and its features are the decoder's
    state at its start token.

    Attributes:
        tower: The text model.
        pooling: How token states become one vector.
    """

    def __init__(self, name: str, tower: Any, preprocess: TextPreprocess, *, pooling: Pooling, **facts: Any) -> None:
        super().__init__(name, preprocess, {"features": tower.config.hidden_size}, **facts)
        drop_tanh_pooler(tower)
        if getattr(tower.config, "use_cache", False):
            tower.config.use_cache = False  # nothing is ever written on
        self.tower = tower.eval()
        self.pooling = pooling
        self.eval()

    def encode(self, inputs: Any, needs: AbstractSet[str]) -> Outputs:
        """Run the tower on what its preprocess gives, each [B, L]."""
        inputs = {key: value.to(self.tower.device) for key, value in inputs.items()}  # tokenized on the CPU
        assert isinstance(self.preprocess, TextPreprocess)
        if self.preprocess.padding == "left":
            inputs = turned(inputs)
        mask: Tensor = inputs["attention_mask"]
        config = self.tower.config
        if config.is_encoder_decoder:
            start = torch.full_like(inputs["input_ids"][:, :1], config.decoder_start_token_id)
            states = self.tower(**inputs, decoder_input_ids=start).last_hidden_state
            return Outputs(features=states[:, -1], mask=mask.bool())
        states = self.tower(**inputs).last_hidden_state
        return Outputs(features=pool(states, mask, self.pooling), mask=mask.bool())


def takes_segments(tower: Any) -> bool:
    """Return whether a text model reads which part of a pair a token belongs to."""
    # Models with one type have nothing to tell apart, and GPT-2, which states none, takes the number for a word.
    several = getattr(tower.config, "type_vocab_size", None) or 0
    return several > 1 and "token_type_ids" in inspect.signature(tower.forward).parameters


def text_limit(tower: Any) -> int | None:
    """Return how many tokens a text model reads at most, or ``None`` where nothing limits it but memory."""
    stated = max(0, getattr(tower.config, "max_position_embeddings", None) or 0)  # XLNet says -1 for any number
    positions = getattr(getattr(tower, "embeddings", None), "position_embeddings", None)
    # RoBERTa and its kin count positions from behind the one of padding.
    padding = getattr(positions, "padding_idx", None)
    return stated - padding - 1 if stated and padding is not None else stated or None


def turned(inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Move the padding of each row from its left to its right.

    Every family counts positions then as for the text alone, whatever it does about padding.

    Args:
        inputs: By name, each [B, L], with an ``attention_mask``.
    """
    mask = inputs["attention_mask"]
    positions = torch.arange(mask.shape[1], device=mask.device)
    source = positions + mask.argmax(1, keepdim=True)
    # Not the remainder, which ONNX's exporter cannot write for a length that is free.
    source = torch.where(source < mask.shape[1], source, source - mask.shape[1])
    return {name: values.gather(1, source) for name, values in inputs.items()}


def pool(states: Tensor, mask: Tensor, pooling: Pooling) -> Tensor:
    """Pool token states [B, L, D] to [B, D]; ``mask`` [B, L] is 1 for real tokens, on whichever side they are."""
    if pooling == "mean":
        weights = mask.unsqueeze(-1).to(states.dtype)
        return (states * weights).sum(1) / weights.sum(1).clamp(min=1)
    positions = torch.arange(mask.shape[1], device=mask.device)
    chosen = (mask * positions).argmax(1) if pooling == "last" else mask.argmax(1)
    # Not len(), which a trace would take for a number that never changes.
    return states[torch.arange(states.shape[0], device=mask.device), chosen]


def drop_tanh_pooler(tower: Any) -> None:
    """Take out a BERT-style pooler (dense layer and tanh over [CLS]).

    Many checkpoints come without its weights, classifiers here read the token itself, and a layer that gets no
    gradient stops distributed training.
    """
    if hasattr(getattr(tower, "pooler", None), "dense"):
        tower.pooler = None
