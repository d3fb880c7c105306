"""Encoders of image-text pairs, made of two: ``pair:IMAGE+TEXT``, or ``pair:openclip:NAME`` for a CLIP model's."""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from typing import Any

from torch import Tensor

from tutelage.errors import ModelError
from tutelage.models.model import Encoder
from tutelage.models.outputs import Outputs
from tutelage.models.preprocess import (
    ClipTextPreprocess,
    ImagePreprocess,
    Modality,
    PairPreprocess,
    TextPreprocess,
)
from tutelage.models.sources import open_clip_models

JOINS = "+"
_CLIP = "openclip:"


class PairEncoder(Encoder):
    """Two encoders side by side; ``features`` are the tensor product of theirs (Qiu et al., ICML 2024, section 4.3).

    The product of pooled features [B, D_I] and [B, D_T] is [B, D_I·D_T]: every product of an image's feature with a
    text's, so that a linear layer sees how they interact. ``image_features`` and ``text_features`` are the factors.

    Attributes:
        image: Reads the images.
        text: Reads the texts.
        reads: Which output of both is a factor: ``features``, or ``embedding`` for the towers of a CLIP model.
    """

    def __init__(self, name: str, image: Encoder, text: Encoder, *, reads: str = "features", **facts: Any) -> None:
        assert isinstance(image.preprocess, ImagePreprocess)
        assert isinstance(text.preprocess, TextPreprocess | ClipTextPreprocess)
        sees, understands = image.widths[reads], text.widths[reads]
        widths = {"features": sees * understands, "image_features": sees, "text_features": understands}
        super().__init__(name, PairPreprocess(image.preprocess, text.preprocess), widths, **facts)
        self.image = image
        self.text = text
        self.reads = reads

    def encode(self, inputs: Any, needs: AbstractSet[str]) -> Outputs:
        """Run both on normalized images [B, 3, h, w] and tokens by name, each [B, L]."""
        images, tokens = inputs
        asked = frozenset({self.reads})
        image: Tensor = self.image.encode(images, asked).require(self.reads)
        text: Tensor = self.text.encode(tokens, asked).require(self.reads)
        product = (image[:, :, None] * text[:, None]).flatten(1) if "features" in needs else None
        return Outputs(features=product, image_features=image, text_features=text)


def names() -> list[str]:
    """Return nothing: any two encoders will do."""
    return []


def modality(identifier: str) -> Modality:
    """Return what the models read: pairs."""
    return "pair"


def check(identifier: str, *, pretrained: bool, size: int | None, stride: int | None = None) -> None:
    """Check all about both encoders that needs no download; what they read is looked up.

    Raises:
        UnknownNameError: There is no such encoder.
        ModelError: It names no two encoders, they do not read what they should, cannot be had, or the size does not
            fit; or there is a stride.
    """
    from tutelage.models.sources import check_name
    from tutelage.models.sources import modality as modality_of_name

    if stride is not None:
        raise ModelError(f"pair:{identifier} has no patches; name an image model for a task that tells every pixel")
    image, text = _parts(identifier)
    if text is None:
        open_clip_models.check(image.removeprefix(_CLIP), pretrained=pretrained, size=size)
        return
    check_name(image, pretrained=pretrained, size=size)
    check_name(text, pretrained=pretrained)
    for part, wanted in ((image, "image"), (text, "text")):
        if modality_of_name(part) != wanted:
            raise ModelError(
                f"pair:{identifier}: {part} reads {modality_of_name(part)}s; the encoder of images comes first, that "
                "of texts after the +"
            )


def build(identifier: str, *, pretrained: bool, size: int | None, stride: int | None = None) -> Encoder:
    """Build both encoders, in eval mode.

    Args:
        identifier: ``IMAGE+TEXT``, both names of encoders; or ``openclip:NAME`` or ``openclip:NAME/TAG``, both towers
            of a CLIP model. The factors are pooled features; those of a CLIP model its embeddings, not normalized, as
            in the code of Qiu et al. (ICML 2024).
        pretrained: Whether to load the weights of both.
        size: Side of the images, in pixels.
        stride: None; pairs have no patches.

    Raises:
        UnknownNameError: There is no such encoder.
        ModelError: What :func:`check` refuses, or the weights cannot be had.
    """
    from tutelage.models.sources import build_encoder

    check(identifier, pretrained=pretrained, size=size, stride=stride)
    name, text = _parts(identifier)
    images = build_encoder(name, pretrained=pretrained, size=size)
    if text is None:
        reads = "embedding"
        texts: Encoder = open_clip_models.build_text(name.removeprefix(_CLIP), pretrained=pretrained, length=None)
    else:
        reads = "features"
        texts = build_encoder(text, pretrained=pretrained)
    licenses = [each.source.get("license") for each in (images, texts)]
    source = {
        "source": "pair",
        "identifier": identifier,
        "pretrained": identifier if pretrained else None,
        "license": " and ".join(dict.fromkeys(map(str, licenses))) if all(licenses) else None,
    }
    return PairEncoder(f"pair:{identifier}", images, texts, reads=reads, pretrained=pretrained, source=source).eval()


def _parts(identifier: str) -> tuple[str, str | None]:
    """Return the names of both encoders; a CLIP model alone has both."""
    image, joins, text = identifier.partition(JOINS)
    if joins and image and text:
        return image, text
    if not joins and image.startswith(_CLIP):
        return image, None
    raise ModelError(
        f"pair:{identifier} names no two encoders; write pair:IMAGE+TEXT, such as "
        "pair:timm:mobilenetv3_small_100+cut:2@bundled:minilm-l6, or pair:openclip:NAME/TAG for both towers of a "
        "CLIP model"
    )
