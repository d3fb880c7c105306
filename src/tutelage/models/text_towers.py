"""Text towers: what reads captions beside an image encoder while both learn; never a part of a finished model."""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any

from torch import nn

from tutelage.errors import ModelError, UnknownNameError
from tutelage.models.model import Encoder
from tutelage.models.outputs import Outputs
from tutelage.models.preprocess import ClipTextPreprocess, TextPreprocess
from tutelage.models.sources import SOURCES, build_encoder, check_name, open_clip_models
from tutelage.models.sources.open_clip_models import TextTower

EXAMPLE = "openclip:ViT-B-16/datacomp_xl_s13b_b90k"
"""A CLIP model with both towers, for messages."""


@dataclass(frozen=True)
class Preset:
    """A text transformer that starts from random weights.

    Attributes:
        width: Of its tokens.
        heads: Of its attention.
        layers: How many.
        length: Of its texts, in tokens.
    """

    width: int
    heads: int
    layers: int
    length: int


PRESETS: dict[str, Preset] = {
    "tiny": Preset(128, 2, 2, 32),
    "small": Preset(256, 4, 4, 32),
    "base": Preset(512, 8, 12, 77),
}
"""``base`` is the text tower of CLIP's ViT-B models. For a text ``small`` takes a thirtieth of its compute, and
``tiny`` an eighth of that."""


class ProjectedText(Encoder):
    """A text encoder with a linear projection of its pooled features: ``embedding``.

    Attributes:
        encoder: The text encoder.
        projection: The projection, without a bias.
    """

    def __init__(self, encoder: Encoder, width: int) -> None:
        widths = {"embedding": width}
        super().__init__(
            encoder.name, encoder.preprocess, widths, pretrained=encoder.pretrained, source=encoder.source
        )
        self.encoder = encoder
        self.projection = nn.Linear(encoder.widths["features"], width, bias=False)

    def encode(self, inputs: Any, needs: AbstractSet[str]) -> Outputs:
        """Run the encoder on ``input_ids`` and ``attention_mask``, both [B, L]."""
        outputs = self.encoder.encode(inputs, frozenset({"features"}))
        return Outputs(embedding=self.projection(outputs.require("features")), mask=outputs.mask)


def build_text_tower(name: str, *, width: int = 512, length: int | None = None) -> Encoder:
    """Build the text tower that a name stands for, in eval mode, on the CPU; it gives an ``embedding``.

    Args:
        name: One of :data:`PRESETS`, with CLIP's tokenizer; ``openclip:NAME``, a CLIP model's text tower from random
            weights, or ``openclip:NAME/TAG``, with its pretrained ones; ``hf:NAME`` or ``bundled:NAME``, a pretrained
            text encoder with a new linear projection.
        width: Of the embedding; the towers of CLIP models have a width of their own.
        length: Of the texts, in tokens; the tower's own if not given.

    Raises:
        UnknownNameError: There is no such tower or model; names the close ones.
        ModelError: It reads no texts, or cannot be had.
    """
    check_text_tower(name, length=length)
    if name in PRESETS:
        return _preset(name, PRESETS[name], width, length)
    source, _, identifier = name.partition(":")
    if source == "openclip":
        return open_clip_models.build_text(identifier, pretrained="/" in identifier, length=length)
    encoder = build_encoder(name, pretrained=True, size=length)
    if not isinstance(encoder.preprocess, TextPreprocess):
        raise ModelError(f"{name} reads images, and a text tower is wanted; name a text encoder")
    return ProjectedText(encoder, width).eval()


def check_text_tower(name: str, *, length: int | None = None) -> None:
    """Check all that :func:`build_text_tower` would refuse and that needs neither building nor downloading.

    Raises:
        UnknownNameError: There is no such tower or model; names the close ones.
        ModelError: It reads no texts, or its package is not installed.
    """
    source, colon, identifier = name.partition(":")
    if name in PRESETS:
        return
    if not colon:
        raise UnknownNameError("text tower", name, PRESETS, "(or openclip:NAME, openclip:NAME/TAG, hf:NAME)")
    if source == "openclip":
        open_clip_models.check(identifier, pretrained="/" in identifier, size=None)
        return
    if source in SOURCES and source not in ("hf", "bundled"):
        raise ModelError(
            f"{name} has no text tower; name one of {', '.join(PRESETS)}, openclip:NAME, openclip:NAME/TAG or hf:NAME"
        )
    check_name(name, pretrained=True, size=length)


def check_both_towers(name: str) -> None:
    """Check that a teacher is a CLIP model whose text tower can be had, too.

    Raises:
        UnknownNameError: There is no such model; names the close ones.
        ModelError: It is a model of images alone, or one whose text tower is not read.
    """
    source, _, identifier = name.partition(":")
    if source != "openclip":
        raise ModelError(
            f"{name}: has no text tower here, and affinity mimicking compares images with texts; name a CLIP model "
            f"of open_clip, such as {EXAMPLE}"
        )
    open_clip_models.check(identifier, pretrained=True, size=None)


def shared_width(name: str) -> int:
    """Return the width of the space that a CLIP model's towers share, before it is loaded.

    Raises:
        ModelError: It is none of open_clip's.
    """
    check_both_towers(name)
    return open_clip_models.embedding_width(name.partition(":")[2])


def build_teachers_text(name: str) -> TextTower:
    """Build the pretrained text tower of a CLIP model, in eval mode, on the CPU.

    Raises:
        ModelError: The model has none, or its weights cannot be had.
    """
    check_both_towers(name)
    return open_clip_models.build_text(name.partition(":")[2], pretrained=True, length=None)


def _preset(name: str, preset: Preset, width: int, length: int | None) -> TextTower:
    from open_clip.transformer import TextTransformer

    preprocess = ClipTextPreprocess(length or preset.length)
    tower = TextTransformer(
        context_length=preprocess.length,
        width=preset.width,
        heads=preset.heads,
        layers=preset.layers,
        output_dim=width,
    )
    return TextTower(name, tower, preprocess, pretrained=False, source={"source": "openclip"})
