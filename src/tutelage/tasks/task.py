"""The contract of a task."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from tutelage.models.model import Head


class Task(Protocol):
    """A kind of problem: its head, supervised loss, metrics and target format.

    Attributes:
        name: As recipes and results write it.
        primary: The metric that models are chosen by; higher is better.
    """

    name: str
    primary: str

    def head(self, width: int, classes: int) -> Head:
        """Return a new head for features of this width."""
        ...

    def loss(
        self, logits: Tensor, targets: Tensor, *, label_smoothing: float = 0.0, valid: Tensor | None = None
    ) -> Tensor:
        """Return the mean supervised loss, a scalar."""
        ...

    def metrics(self, logits: Tensor, targets: Tensor) -> dict[str, float]:
        """Return every metric of predictions on labeled samples."""
        ...
