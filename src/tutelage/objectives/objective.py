"""The contract of an objective: what it needs, and the hooks it may use."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor, nn

from tutelage.data.batch import DEFAULT_GROUP, Batch
from tutelage.data.samples import Samples
from tutelage.models.outputs import Outputs

StudentOutputs = Mapping[str, Outputs]
"""The student's outputs of each view group."""

Targets = Mapping[str, Mapping[str, Outputs]]
"""Each teacher's outputs of each view group: ``targets["teacher"]["view"].logits``."""


@dataclass(frozen=True)
class Needs:
    """What an objective reads; checked before training, and all that is computed.

    Attributes:
        student: Outputs of the student, such as ``{"logits"}``.
        teachers: Outputs of each teacher by its name in the phase.
        groups: View groups that the student sees.
        teacher_groups: View groups that the teachers see; the student's where not given.
        labels: Whether batches must bring targets.
        texts: Whether samples must have texts.
    """

    student: frozenset[str] = frozenset()
    teachers: Mapping[str, frozenset[str]] | None = None
    groups: tuple[str, ...] = (DEFAULT_GROUP,)
    teacher_groups: tuple[str, ...] | None = None
    labels: bool = False
    texts: bool = False


class Objective(nn.Module):
    """Something that a student can learn from.

    Most are one pure function and override ``forward`` alone. Projectors are parameters; what else a training must
    find again is a buffer, or extra state (``get_extra_state``) where DDP must not send it round at every step, as
    memory banks. All of it is checkpointed with the training state and never exported.
    """

    needs: Needs = Needs()

    watched: ClassVar[frozenset[str]] = frozenset()
    """Names among what ``forward`` returns that are kept in the history and not minimized."""

    def prepare(self, samples: Samples, examples: Iterable[tuple[Batch, StudentOutputs, Targets]]) -> None:
        """Look at the training samples before the first step.

        Args:
            samples: All of them.
            examples: Each of them once, in batches, with the student's outputs at its start (eval mode, no gradient)
                and the teachers' targets. Nothing is computed before it is asked for: a batch when it is its turn,
                the student's outputs of a view group when they are looked up, so that it runs for nobody else.
        """

    def forward(self, batch: Batch, student: StudentOutputs, targets: Targets) -> dict[str, Tensor]:
        """Return named scalars; the sum of those not ``watched``, times the objective's weight, is minimized."""
        raise NotImplementedError

    def param_groups(self, learning_rate: float) -> list[dict[str, Any]]:
        """Return the optimizer groups of this objective's own parameters; not decayed unless they say so."""
        parameters = [parameter for parameter in self.parameters() if parameter.requires_grad]
        return [{"params": parameters, "lr": learning_rate}] if parameters else []

    def inner_step(self, batch: Batch, student: StudentOutputs, targets: Targets) -> None:
        """Update this objective's own state on a batch, the student's outputs held fixed, before its losses."""

    def before_step(self, progress: float) -> None:
        """Change this objective's gradients before the optimizer's step; ``progress`` is the share done before it."""

    def after_step(self, model: nn.Module, progress: float) -> None:
        """Update state after the optimizer's step; ``progress`` runs from 0 to 1 over training."""

    def after_checkpoint(self) -> None:
        """Hear that a checkpoint of the state as it is now is safe: the next resume will not go back past it."""
