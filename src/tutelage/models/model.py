"""Encoders, heads, and the models they make together."""

from __future__ import annotations

import hashlib
from collections.abc import Set as AbstractSet
from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from tutelage.models.outputs import Outputs
from tutelage.models.preprocess import ImagePreprocess, Preprocess, RawInputs


class Encoder(nn.Module):
    """A backbone with its preprocess: raw inputs in, :class:`Outputs` out.

    Subclasses, one a source, implement :meth:`encode` on normalized inputs.

    Attributes:
        name: The model's name as a user writes it, such as ``timm:fastvit_s12``.
        preprocess: How raw views become this encoder's inputs.
        widths: Width of each output that it can give: ``features``, ``embedding``, ``patches``.
        pretrained: Whether it holds pretrained weights.
        source: Where the weights come from, and their license where known; for results and model cards.
        stride: Pixels from one patch to the next, where that was asked for; ``None`` for the model as it is.
    """

    def __init__(
        self,
        name: str,
        preprocess: Preprocess,
        widths: dict[str, int],
        *,
        pretrained: bool,
        source: dict[str, Any] | None = None,
        stride: int | None = None,
    ) -> None:
        super().__init__()
        self.name = name
        self.preprocess = preprocess
        self.widths = widths
        self.pretrained = pretrained
        self.source = source or {}
        self.stride = stride

    def encode(self, inputs: Any, needs: AbstractSet[str]) -> Outputs:
        """Run the backbone on normalized inputs; give at least the outputs in ``needs``."""
        raise NotImplementedError

    def forward(
        self, raw: RawInputs, needs: AbstractSet[str] = frozenset({"features"}), *, size: int | None = None
    ) -> Outputs:
        """Normalize raw inputs and encode them, images at another size than the encoder's own if one is given."""
        preprocess = self.preprocess
        if size is not None and isinstance(preprocess, ImagePreprocess):
            preprocess = replace(preprocess, size=size)
        return self.encode(preprocess(raw), needs)  # type: ignore[arg-type]


class Model(nn.Module):
    """An encoder and a task head.

    Attributes:
        encoder: The backbone.
        head: Reads the encoder's Outputs and gives logits.
    """

    def __init__(self, encoder: Encoder, head: Head) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = head

    def forward(
        self, raw: RawInputs, needs: AbstractSet[str] = frozenset({"logits"}), *, size: int | None = None
    ) -> Outputs:
        """Return the outputs in ``needs`` for raw views; logits are left out when nobody asks for them.

        Args:
            raw: The views.
            needs: Outputs by name.
            size: Side of the encoder's input, in pixels; its own if not given.
        """
        asked = needs - {"logits"} | ({self.head.reads} if "logits" in needs else set())
        outputs = self.encoder(raw, asked, size=size)
        if "logits" not in needs:
            return outputs  # type: ignore[no-any-return]
        return Outputs(**{**vars(outputs), "logits": self.head(outputs.require(self.head.reads))})


class Head(nn.Module):
    """A task head; ``reads`` names the encoder output that it takes."""

    reads: str = "features"


class LinearHead(Head):
    """One linear layer on the pooled features, [B, D] → [B, C]; starts at zero logits.

    A zero start gives every class the same probability, so the first steps on few labels do not first have to
    unlearn a random preference.
    """

    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, classes)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, features: Tensor) -> Tensor:
        """Return logits [B, C]."""
        logits: Tensor = self.linear(features)
        return logits


def weight_hash(module: nn.Module) -> str:
    """Return a SHA-256 over names, types, shapes and values of all parameters and buffers."""
    digest = hashlib.sha256()
    for key, value in sorted(module.state_dict().items()):
        digest.update(f"{key}|{value.dtype}|{tuple(value.shape)}|".encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(-1).numpy().tobytes())
    return digest.hexdigest()


def parameter_count(module: nn.Module) -> int:
    """Return the number of parameters."""
    return sum(parameter.numel() for parameter in module.parameters())
