"""The contract of a task."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from torch import Tensor

from tutelage.models.model import Head
from tutelage.tasks.decoder import DecoderSettings


class Task(Protocol):
    """A kind of problem: its head, supervised loss, metrics and target format.

    Attributes:
        name: As recipes and results write it.
        primary: The metric that models are chosen by; higher is better.
        stride: Side, in pixels, of what a cell of the encoder's dense map stands for, where the task is told for
            every pixel; ``None`` where it is told for the whole sample.
    """

    name: str
    primary: str
    stride: int | None

    def head(self, widths: Mapping[str, int], classes: int, decoder: DecoderSettings | None = None) -> Head:
        """Return a new head for an encoder that gives outputs of these widths.

        Args:
            widths: By output.
            classes: How many are told apart.
            decoder: How it is built, where the task is told for every pixel.
        """
        ...

    def loss(
        self, logits: Tensor, targets: Tensor, *, label_smoothing: float = 0.0, valid: Tensor | None = None
    ) -> Tensor:
        """Return the mean supervised loss, a scalar."""
        ...

    def metrics(self, outcomes: Tensor, truth: Tensor) -> dict[str, float]:
        """Return every metric of what a model makes of labeled samples.

        Args:
            outcomes: One row a sample, [N, ...]: its logits, or what was counted of its pixels.
            truth: What they are judged against, [N, ...]; empty rows where the outcomes hold all there is to know.
        """
        ...
