"""One training step's forward: the student, and all that it learns from."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from tutelage.data.batch import Batch
from tutelage.models.model import Model
from tutelage.models.outputs import Outputs
from tutelage.objectives import Targets
from tutelage.training.phase import Phase


class Step(nn.Module):
    """Student and objectives in one forward, so that DDP sees every trained parameter."""

    def __init__(self, phase: Phase, model: Model) -> None:
        super().__init__()
        self.model = model
        self.objectives = nn.ModuleDict({name: objective for name, (objective, _) in phase.objectives.items()})
        self._weighted = dict(phase.objectives)
        self._needs = phase.student_needs()
        self._train_encoder = phase.trained == "all"
        self._keep_statistics = phase.statistics == "kept"

    def train(self, mode: bool = True) -> Step:
        """Set the mode of all that is trained; what is frozen or keeps its statistics stays in eval mode."""
        super().train(mode)
        if not self._train_encoder:
            self.model.encoder.eval()
        if self._keep_statistics:
            for module in self.model.modules():
                if isinstance(module, _BatchNorm):
                    module.eval()
        return self

    def forward(self, batch: Batch, targets: Targets) -> dict[str, Tensor]:
        """Return ``loss``, the weighted sum of all losses, and each of them by its name."""
        student: dict[str, Outputs] = {
            group: self.model(batch.inputs[group], needs) for group, needs in self._needs.items()
        }
        fixed = {group: outputs.detach() for group, outputs in student.items()}
        parts: dict[str, Tensor] = {}
        total = torch.zeros((), device=batch.indices.device)
        for objective, weight in self._weighted.values():
            objective.inner_step(batch, fixed, targets)
            losses: dict[str, Tensor] = objective(batch, student, targets)
            total = total + weight * torch.stack(list(losses.values())).sum()
            parts.update(losses)
        return {"loss": total, **{name: loss.detach() for name, loss in parts.items()}}
