"""A moving average of a model's weights that warms up."""

from __future__ import annotations

import torch
from torch import nn


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
        # Looked up once: they stay the model's own tensors, whatever is loaded into them.
        self._followed = {key: value.detach() for key, value in model.state_dict().items()}

    @torch.no_grad()
    def update(self) -> None:
        """Move the average towards the model's weights."""
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        self.updates += 1
        moving = [key for key, value in self._followed.items() if value.is_floating_point()]
        for key in self._followed.keys() - set(moving):
            self.state[key].copy_(self._followed[key])
        torch._foreach_lerp_([self.state[key] for key in moving], [self._followed[key] for key in moving], 1 - decay)
