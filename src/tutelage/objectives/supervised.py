"""Learning from labels."""

from __future__ import annotations

from torch import Tensor

from tutelage.data.batch import DEFAULT_GROUP, Batch
from tutelage.objectives.objective import Needs, Objective, StudentOutputs, Targets
from tutelage.tasks import Task


class Supervised(Objective):
    """The task's own loss on labeled samples."""

    needs = Needs(student=frozenset({"logits"}), labels=True)

    def __init__(self, task: Task, *, label_smoothing: float = 0.0) -> None:
        super().__init__()
        self._task = task
        self._label_smoothing = label_smoothing

    def forward(self, batch: Batch, student: StudentOutputs, targets: Targets) -> dict[str, Tensor]:
        """Return ``supervised``."""
        assert batch.targets is not None
        logits = student[DEFAULT_GROUP].require("logits")
        loss = self._task.loss(logits, batch.targets, label_smoothing=self._label_smoothing, valid=batch.valid)
        return {"supervised": loss}
