"""What every encoder and model gives back."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from tutelage.errors import ModelError


@dataclass(frozen=True)
class Outputs:
    """The outputs of one forward pass; what a model has not is ``None``.

    Attributes:
        logits: Task predictions before softmax, [B, C], or [B, C, h, w] for a dense task.
        features: Pooled features, [B, D]; a linear head reads these.
        embedding: Features projected into a shared space where the model has one (CLIP), [B, E].
        patches: Dense features, [B, D', h, w]. Pooled and dense widths may differ.
        mask: Which tokens of a text are real, bool [B, L].
        image_features: Of a model of pairs, whose ``features`` are the tensor product of both: pooled features of the
            image, [B, D_I].
        text_features: And of the text, [B, D_T].
    """

    logits: Tensor | None = None
    features: Tensor | None = None
    embedding: Tensor | None = None
    patches: Tensor | None = None
    mask: Tensor | None = None
    image_features: Tensor | None = None
    text_features: Tensor | None = None

    def require(self, name: str) -> Tensor:
        """Return the output called ``name``.

        Raises:
            ModelError: The model did not give that output.
        """
        value: Tensor | None = getattr(self, name)
        if value is None:
            raise ModelError(f"this model gives no {name!r}; an objective or head here needs it")
        return value

    def detach(self) -> Outputs:
        """Return the same values cut from the autograd graph."""
        return Outputs(**{k: None if v is None else v.detach() for k, v in vars(self).items()})
