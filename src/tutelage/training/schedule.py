"""Optimizer and schedule: AdamW, warm-up then cosine, no decay on norms and biases."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from pydantic import Field, model_validator
from torch import nn

from tutelage.settings import Settings


class Schedule(Settings):
    """How long and how strongly a phase trains.

    Attributes:
        steps: Optimizer steps.
        batch_size: Samples a step, over all processes.
        learning_rate: Peak learning rate of AdamW.
        weight_decay: Decoupled weight decay of matrices and kernels.
        final_weight_decay: What it becomes by the last step, along a cosine; the same all along if not given.
        warmup: Share of the steps in which the rate rises linearly from 0.
        clip: Largest norm of the gradient; ``None`` does not clip it.
        average: Decay of the weights' moving average; 0 for none.
    """

    steps: int = Field(ge=1)
    batch_size: int = Field(ge=1)
    learning_rate: float = Field(gt=0)
    weight_decay: float = Field(default=0.05, ge=0)
    final_weight_decay: float | None = Field(default=None, ge=0)
    warmup: float = Field(default=0.1, ge=0, lt=1)
    clip: float | None = Field(default=1.0, gt=0)
    average: float = Field(default=0.9995, ge=0, lt=1)

    @model_validator(mode="after")
    def _something_decays(self) -> Schedule:
        # All decays, an objective's own as well, change in proportion.
        if self.final_weight_decay and not self.weight_decay:
            raise ValueError("final_weight_decay: with weight_decay 0 there is nothing to start from")
        return self

    def weight_decay_factor(self, step: int) -> float:
        """Return the share of the first weight decay at ``step`` (0-based)."""
        if self.final_weight_decay is None or not self.weight_decay:
            return 1.0
        return cosine(1.0, self.final_weight_decay / self.weight_decay, step / self.steps)


def cosine(first: float, last: float, progress: float) -> float:
    """Return what a value is on its way from the first to the last along half a cosine; ``progress`` is in 0..1."""
    return last + 0.5 * (first - last) * (1 + math.cos(math.pi * progress))


def few_label_batch(most: int, labels: int) -> int:
    """Return the batch size for training on few labels: half of them, 16 to ``most``, so that an epoch has steps."""
    return min(most, labels, max(16, labels // 2))


def learning_rate_factor(step: int, steps: int, warmup: float) -> float:
    """Return the share of the peak learning rate at ``step`` (0-based): linear warm-up, then cosine to 0."""
    rising = round(warmup * steps)
    if step < rising:
        return (step + 1) / (rising + 1)
    return 0.5 * (1 + math.cos(math.pi * (step - rising) / max(1, steps - rising)))


def decayed_groups(modules: Iterable[nn.Module], schedule: Schedule) -> list[dict[str, Any]]:
    """Return the trainable parameters as optimizer groups: what is a vector (norms, biases) is not decayed."""
    parameters = [p for module in modules for p in module.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": schedule.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return [{**group, "lr": schedule.learning_rate} for group in groups if group["params"]]
