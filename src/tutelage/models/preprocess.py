"""From raw views to what a model's first layer wants. A preprocess belongs to a model and travels with it.

A raw image view is float [B, 3, h, w] in 0..1, RGB; a raw text is a string; a pair is one of each. Student and
teacher see the same raw view, and each normalizes it for itself. Of pairs, an image's preprocess reads the images and
a text's the texts.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any, Literal

import torch
from pydantic import TypeAdapter, ValidationError
from torch import Tensor
from torch.nn import functional as F

from tutelage.errors import ModelError
from tutelage.models.tokenizers import tokenizer
from tutelage.runtime.texts import TEXT, Side, TextTokens, TokenRows, check_template, cleaned, parts

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

Interpolation = Literal["bilinear", "bicubic"]

Fit = Literal["center", "letterbox"]

Modality = Literal["image", "text", "pair"]
"""What a model reads: images, texts, or an image and a text together."""

TEXTUAL: dict[Modality, str] = {"image": "images", "text": "texts", "pair": "pairs"}
"""The same in words for people."""


@dataclass(frozen=True)
class ImagePreprocess:
    """Resize (antialiased) to a square and normalize.

    Attributes:
        size: Side of the model's input, in pixels.
        interpolation: How views of another size are resized.
        mean: Per-channel mean, on the 0..1 scale.
        std: Per-channel standard deviation, on the 0..1 scale.
        crop: Share of an image's short side that evaluation keeps (its center square); 256/288 for "resize
            288, center crop 256". Training views bring their own crops and do not read it.
        fit: What evaluation sees of an image that is no square: its center, or, as tasks want that tell every pixel,
            all of it at the top left of a square, the rest black (raw 0). ``crop`` is not read then.
    """

    size: int
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    interpolation: Interpolation = "bilinear"
    crop: float = 1.0
    fit: Fit = "center"

    def __call__(self, views: Tensor | PairInputs) -> Tensor:
        """Normalize raw views, float [B, 3, h, w] in 0..1, to [B, 3, size, size]."""
        if isinstance(views, PairInputs):
            views = views.image
        if views.shape[-2:] != (self.size, self.size):
            views = F.interpolate(
                views,
                size=(self.size, self.size),
                mode=self.interpolation,
                antialias=True,
                align_corners=False,
            )
            # Bicubic overshoots; an 8-bit image could not.
            views = views.clamp(0.0, 1.0) if self.interpolation == "bicubic" else views
        mean = torch.tensor(self.mean, dtype=views.dtype, device=views.device).view(3, 1, 1)
        std = torch.tensor(self.std, dtype=views.dtype, device=views.device).view(3, 1, 1)
        return torch.addcmul(-mean / std, views, 1 / std)  # (views - mean) / std in one pass over them


class TokenizedTexts(Sequence[str], ABC):
    """Texts whose tokens were made before: see :class:`tutelage.models.tokens.TextInputs`."""

    @abstractmethod
    def inputs(self, preprocess: TextPreprocess | ClipTextPreprocess) -> dict[str, Tensor]:
        """Return what the preprocess would make of the texts."""


@dataclass(frozen=True)
class TextPreprocess:
    """Fill a template, tokenize, pad and cut; of what is too long the texts are cut, never the template's words.

    Attributes:
        tokenizer: Name or folder of a transformers tokenizer.
        length: Longest sequence, in tokens.
        template: Text with ``{text}`` where the input goes, and ``{text_pair}`` where a pair's second part does. If
            a template has no place for that, pairs are tokenized as pairs.
        padding: Side on which short texts are padded.
        truncation: Side on which long texts are cut.
        segments: Whether the model reads which part of a pair a token belongs to.
        limit: Most tokens that the model reads; ``None`` if it reads any number.

    Raises:
        ModelError: The template has no place for the text, or too many.
    """

    tokenizer: str
    length: int = 128
    template: str = TEXT
    padding: Side = "right"
    truncation: Side = "right"
    segments: bool = False
    limit: int | None = None

    def __post_init__(self) -> None:
        check_template(self.template)

    def __call__(self, texts: Sequence[str] | PairInputs) -> dict[str, Tensor]:
        """Tokenize texts to ``input_ids``, ``attention_mask`` and perhaps ``token_type_ids``, each int64 [B, L].

        Raises:
            ModelError: There is no such tokenizer, or the template fills all of the length.
            DataError: The template asks for pairs, and a text is none.
        """
        if isinstance(texts, PairInputs):
            texts = texts.text
        if isinstance(texts, TokenizedTexts):
            return texts.inputs(self)
        found = _text_tokens(self)(texts)
        return {name: torch.from_numpy(values) for name, values in found.items()}

    def rows(self, texts: Sequence[str]) -> TokenRows:
        """Tokenize texts without padding; the errors are the same."""
        return _text_tokens(self).rows(texts)

    def check(self) -> None:
        """Check that the tokenizer is there and that the template leaves room for a text.

        Raises:
            ModelError: It is not, or does not.
        """
        _text_tokens(self).check()


@dataclass(frozen=True)
class ClipTextPreprocess:
    """Clean, tokenize, pad and cut texts as a model of open_clip does.

    Attributes:
        length: Of every text, in tokens, its start and end among them.
        model: open_clip's name of a model whose tokenizer it is; if empty, CLIP's own, which comes with open_clip.
    """

    length: int = 77
    model: str = ""

    def __call__(self, texts: Sequence[str] | PairInputs) -> dict[str, Tensor]:
        """Tokenize texts to ``input_ids``, int64 [B, length]; the two parts of a pair become one text."""
        if isinstance(texts, PairInputs):
            texts = texts.text
        if isinstance(texts, TokenizedTexts):
            return texts.inputs(self)
        plain = [" ".join(part for part in parts(cleaned(text)) if part is not None) for text in texts]
        return {"input_ids": clip_tokenizer(self.model)(plain, self.length)}


@dataclass(frozen=True)
class PairInputs:
    """Raw image views, float [B, 3, h, w] in 0..1, and the text that belongs to each."""

    image: Tensor
    text: Sequence[str]


@dataclass(frozen=True)
class PairPreprocess:
    """An image's and a text's preprocess side by side."""

    image: ImagePreprocess
    text: TextPreprocess | ClipTextPreprocess

    def __call__(self, pairs: PairInputs) -> tuple[Tensor, dict[str, Tensor]]:
        """Normalize the images and tokenize the texts."""
        return self.image(pairs.image), self.text(pairs.text)


Preprocess = ImagePreprocess | TextPreprocess | ClipTextPreprocess | PairPreprocess
RawInputs = Tensor | Sequence[str] | PairInputs

_KINDS: dict[str, type[Preprocess]] = {
    "image": ImagePreprocess,
    "text": TextPreprocess,
    "clip-text": ClipTextPreprocess,
    "pair": PairPreprocess,
}


def modality_of(preprocess: Preprocess) -> Modality:
    """Return what a preprocess, and so its model, reads."""
    if isinstance(preprocess, PairPreprocess):
        return "pair"
    return "image" if isinstance(preprocess, ImagePreprocess) else "text"


def image_size_of(preprocess: Preprocess) -> int | None:
    """Return the side of the images that a preprocess makes, in pixels, or ``None`` if it reads texts alone."""
    if isinstance(preprocess, PairPreprocess):
        return preprocess.image.size
    return preprocess.size if isinstance(preprocess, ImagePreprocess) else None


def preprocess_to_dict(preprocess: Preprocess) -> dict[str, Any]:
    """Return a preprocess as plain data, for ``model.json``."""
    if isinstance(preprocess, PairPreprocess):
        parts = {"image": preprocess_to_dict(preprocess.image), "text": preprocess_to_dict(preprocess.text)}
        return {"kind": "pair", **parts}
    kind = next(name for name, each in _KINDS.items() if type(preprocess) is each)
    values = asdict(preprocess)
    if values.get("fit") == "center":
        # Older than the other: what was fingerprinted or written without it stays the same.
        del values["fit"]
    return {"kind": kind, **values}


def preprocess_from_dict(data: Mapping[str, Any]) -> Preprocess:
    """Rebuild a preprocess from :func:`preprocess_to_dict`'s data.

    Raises:
        ModelError: The data is not a preprocess.
    """
    values = {key: value for key, value in data.items() if key != "kind"}
    try:
        if data["kind"] == "pair":
            values = {key: preprocess_from_dict(value) for key, value in values.items()}
        return TypeAdapter(_KINDS[data["kind"]]).validate_python(values)
    except (KeyError, TypeError, ValidationError) as error:
        raise ModelError(f"not a preprocess: {dict(data)!r} ({error}); was model.json edited?") from error


@lru_cache(maxsize=8)
def clip_tokenizer(model: str) -> Any:
    """Return open_clip's tokenizer of a model, or CLIP's own for an empty name."""
    import open_clip

    return open_clip.get_tokenizer(model) if model else open_clip.SimpleTokenizer()


@lru_cache(maxsize=16)
def _text_tokens(preprocess: TextPreprocess) -> TextTokens:
    values = {key: value for key, value in vars(preprocess).items() if key not in ("tokenizer", "limit")}
    return TextTokens(*tokenizer(preprocess.tokenizer), **values)
