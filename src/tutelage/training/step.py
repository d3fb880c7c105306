"""One training step's forward: the student, and all that it learns from."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

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
        self._needs, self._sizes = phase.student_needs(), phase.sizes
        self._train_encoder = phase.trained == "all"
        self._keep_statistics = phase.statistics == "kept"

    def train(self, mode: bool = True) -> Step:
        """Set the mode of all that is trained; what is frozen or keeps its statistics stays in eval mode."""
        super().train(mode)
        if not self._train_encoder:
            self.model.encoder.eval()
        if self._keep_statistics:
            # A head is new where there is something to keep: it has no statistics of its own yet.
            for module in self.model.encoder.modules():
                if isinstance(module, _BatchNorm):
                    module.eval()
        return self

    def forward(self, batch: Batch, targets: Targets) -> dict[str, Tensor]:
        """Return ``loss``, the weighted sum of all losses, and by their names each of them and what is watched."""
        student: dict[str, Outputs] = {group: self._student(batch, group) for group in self._needs}
        fixed = {group: outputs.detach() for group, outputs in student.items()}
        parts: dict[str, Tensor] = {}
        total = torch.zeros((), device=batch.indices.device)
        for objective, weight in self._weighted.values():
            objective.inner_step(batch, fixed, targets)
            losses: dict[str, Tensor] = objective(batch, student, targets)
            minimized = [loss for name, loss in losses.items() if name not in objective.watched]
            total = total + weight * torch.stack(minimized).sum()
            parts.update(losses)
        return {"loss": total, **{name: loss.detach() for name, loss in parts.items()}}

    def _student(self, batch: Batch, group: str) -> Outputs:
        """Return what the student gives of a view group.

        One that it sees at another size is normalized by its own statistics, as any, and leaves the running ones
        alone: those are what the student meets at its own size once it is trained.
        """
        size = self._sizes.get(group)
        with unfollowed(self.model) if size is not None else nullcontext():
            outputs: Outputs = self.model(batch.inputs[group], self._needs[group], size=size)
        return outputs


@contextmanager
def unfollowed(model: nn.Module) -> Iterator[None]:
    """Keep BatchNorm's running statistics as they are, also where it is in train mode."""
    norms = [(module, module.momentum) for module in model.modules() if isinstance(module, _BatchNorm)]
    for module, _ in norms:
        module.momentum = 0.0
    try:
        yield
    finally:
        for module, momentum in norms:
            module.momentum = momentum
