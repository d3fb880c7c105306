"""A moving average of a model's weights that warms up."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class WeightAverage:
    """Exponential moving average of parameters and floating-point buffers.

    After t updates the decay is min(decay, (1 + t) / (10 + t)): a fixed 0.9995 would keep the start for thousands
    of steps.

    Args:
        model: The model to follow.
        decay: The decay once warmed up.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.updates = 0
        self.state = {key: value.detach().clone() for key, value in model.state_dict().items()}

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Move the average towards the model's weights."""
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        self.updates += 1
        averages: list[Tensor] = []
        values: list[Tensor] = []
        for key, value in model.state_dict().items():
            if value.is_floating_point():
                averages.append(self.state[key])
                values.append(value.detach())
            else:
                self.state[key].copy_(value)
        torch._foreach_lerp_(averages, values, 1 - decay)
