"""Semantic segmentation: one class a pixel."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

from tutelage.data.masks import IGNORED
from tutelage.models.model import Head
from tutelage.models.segmentation_head import SegmentationHead
from tutelage.tasks.decoder import RATES, DecoderSettings


class Segmentation:
    """Classes that exclude each other, in every pixel. Targets are class numbers [B, H, W], IGNORED where none is."""

    name = "segmentation"
    primary = "miou"
    stride: int | None = 8

    def head(self, widths: Mapping[str, int], classes: int, decoder: DecoderSettings | None = None) -> Head:
        """Return DeepLabV3's head on the dense map; that of the source where nothing is said about it."""
        settings = decoder or DecoderSettings()
        rates = settings.rates or RATES
        return SegmentationHead(
            widths["patches"], classes, channels=settings.channels, rates=rates, dropout=settings.dropout
        )

    def loss(
        self, logits: Tensor, targets: Tensor, *, label_smoothing: float = 0.0, valid: Tensor | None = None
    ) -> Tensor:
        """Return the cross entropy at the targets' resolution, mean over the pixels that count; 0 where none does.

        Args:
            logits: [B, C, h, w], at any resolution; brought to that of the targets (bilinear).
            targets: Class numbers, int64 [B, H, W], or ``IGNORED``.
            label_smoothing: Share of the target that is spread over all classes.
            valid: Bool [B, H, W]; what is False does not count.
        """
        counted = targets if valid is None else torch.where(valid, targets, IGNORED)
        full = F.interpolate(logits, targets.shape[-2:], mode="bilinear", align_corners=False)
        total = F.cross_entropy(full, counted, ignore_index=IGNORED, label_smoothing=label_smoothing, reduction="sum")
        return total / (counted != IGNORED).sum().clamp(min=1)

    def metrics(self, outcomes: Tensor, truth: Tensor) -> dict[str, float]:
        """Return mean intersection over union, pixel accuracy and mean class accuracy.

        A class counts in the mean IoU if it is somewhere in truth or predictions, in the mean accuracy if it is
        somewhere in truth.

        Args:
            outcomes: Pixels in intersection, prediction and truth of each class, int64 [N, C, 3].
            truth: Not read.
        """
        hit, predicted, true = outcomes.sum(0).double().unbind(-1)
        union = predicted + true - hit
        return {
            "miou": float((hit / union)[union > 0].mean()) if bool((union > 0).any()) else 0.0,
            "pixel_accuracy": float(hit.sum() / true.sum().clamp(min=1)),
            "class_accuracy": float((hit / true)[true > 0].mean()) if bool((true > 0).any()) else 0.0,
        }


def pixel_counts(predicted: Tensor, truth: Tensor, classes: int) -> Tensor:
    """Return how many pixels of an image are in intersection, prediction and truth of each class.

    Args:
        predicted: Class numbers, integers [H, W].
        truth: Class numbers, integers [H, W], or ``IGNORED``: there nothing is counted.
        classes: How many there are.

    Returns:
        int64 [C, 3].
    """
    from torchmetrics.functional.classification import multiclass_confusion_matrix

    matrix = multiclass_confusion_matrix(
        predicted.long(), truth.long(), classes, ignore_index=IGNORED, validate_args=False
    )
    return torch.stack([matrix.diagonal(), matrix.sum(0), matrix.sum(1)], dim=1)


def class_iou(counts: Tensor) -> list[float | None]:
    """Return each class's intersection over union from [N, C, 3]; ``None`` for one that is nowhere."""
    hit, predicted, true = counts.sum(0).double().unbind(-1)
    union = predicted + true - hit
    return [float(h / u) if u > 0 else None for h, u in zip(hit.tolist(), union.tolist(), strict=True)]
