"""Image (or text) classification: one label a sample."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor
from torch.nn import functional as F
from torchmetrics.functional.classification import (
    multiclass_accuracy,
    multiclass_calibration_error,
    multiclass_f1_score,
)

from tutelage.models.model import Head, LinearHead
from tutelage.tasks.decoder import DecoderSettings


class Classification:
    """Classes that exclude each other. Targets are class numbers [B], or shares [B, C] of mixed views."""

    name = "classification"
    primary = "accuracy"
    stride: int | None = None

    def head(self, widths: Mapping[str, int], classes: int, decoder: DecoderSettings | None = None) -> Head:
        """Return a linear head on pooled features."""
        return LinearHead(widths["features"], classes)

    def loss(
        self, logits: Tensor, targets: Tensor, *, label_smoothing: float = 0.0, valid: Tensor | None = None
    ) -> Tensor:
        """Return the cross entropy, mean over the valid rows."""
        if valid is not None:
            logits, targets = logits[valid], targets[valid]
        return F.cross_entropy(logits, targets, label_smoothing=label_smoothing)

    def metrics(self, outcomes: Tensor, truth: Tensor) -> dict[str, float]:
        """Return accuracy, macro F1, negative log-likelihood and expected calibration error (15 bins).

        Args:
            outcomes: Logits [N, C].
            truth: Class numbers [N].
        """
        logits, targets, classes = outcomes, truth, outcomes.shape[1]
        probabilities = logits.softmax(1)
        values = {
            "accuracy": multiclass_accuracy(logits, targets, classes, average="micro"),
            "macro_f1": multiclass_f1_score(logits, targets, classes, average="macro"),
            "nll": F.cross_entropy(logits, targets),
            "calibration_error": multiclass_calibration_error(probabilities, targets, classes, n_bins=15),
        }
        return {name: float(value) for name, value in values.items()}
