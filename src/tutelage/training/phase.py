"""A phase: data, objectives with weights, what is trained, and the schedule."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

import torch
from torch import nn

from tutelage.data.batch import Batch
from tutelage.data.loader import Loader
from tutelage.errors import ModelError, RecipeError
from tutelage.models.outputs import Outputs
from tutelage.objectives import Objective
from tutelage.training.schedule import Schedule

Statistics = Literal["batch", "kept"]


class TargetSource(Protocol):
    """Where a teacher's outputs come from: the teacher itself, or a store."""

    def __call__(self, batch: Batch, groups: Sequence[str], needs: frozenset[str]) -> Mapping[str, Outputs]:
        """Return the outputs in ``needs`` for the given view groups of a batch."""
        ...


class LiveTeacher:
    """A teacher that runs on every batch: in eval mode, without gradients.

    Args:
        model: The teacher, on its device.
    """

    def __init__(self, model: nn.Module) -> None:
        self._model = model.eval().requires_grad_(False)

    def __call__(self, batch: Batch, groups: Sequence[str], needs: frozenset[str]) -> Mapping[str, Outputs]:
        """Run the teacher on the raw views that the student sees."""
        with torch.no_grad():
            return {group: self._model(batch.inputs[group], needs) for group in groups}


@dataclass(frozen=True)
class Phase:
    """One piece of training; a method is a few of them.

    Attributes:
        name: For progress and history.
        loader: The batches.
        objectives: By name, each with its weight.
        schedule: Length, batch size, rates.
        trained: ``all``, or ``head`` with the encoder frozen and in eval mode.
        statistics: Whether BatchNorm normalizes by each batch and follows it (``batch``), or keeps the statistics
            that it has (``kept``): with few images and steps it cannot follow, and a pretrained encoder is lost.
        teachers: Target sources by the names that objectives use.
        sizes: Side of the student's input, in pixels, for view groups that it sees at another one than its own.
    """

    name: str
    loader: Loader
    objectives: Mapping[str, tuple[Objective, float]]
    schedule: Schedule
    trained: Literal["all", "head"] = "all"
    statistics: Statistics = "batch"
    teachers: Mapping[str, TargetSource] = field(default_factory=dict)
    sizes: Mapping[str, int] = field(default_factory=dict)

    def check(self) -> None:
        """Raise if the objectives need what the phase does not have.

        Raises:
            RecipeError: There is no objective, or one lacks its view group, labels or texts.
            ModelError: One lacks its teacher.
        """
        if not self.objectives:
            raise RecipeError(f"{self.name}: no objective to train on")
        for name, (objective, _) in self.objectives.items():
            needs = objective.needs
            for group in (*needs.groups, *(needs.teacher_groups or ())):
                if group not in self.loader.groups:
                    have = ", ".join(self.loader.groups)
                    raise RecipeError(f"{self.name}: objective {name!r} needs view group {group!r}; there are {have}")
            for teacher in needs.teachers or ():
                if teacher not in self.teachers:
                    raise ModelError(f"{self.name}: objective {name!r} needs a teacher called {teacher!r}")
            samples = self.loader.samples
            if needs.labels and samples.targets is None and samples.masks is None:
                raise RecipeError(f"{self.name}: objective {name!r} needs labels, which the samples lack")
            if needs.texts and samples.texts is None:
                raise RecipeError(f"{self.name}: objective {name!r} needs texts, which the samples lack")

    def student_needs(self) -> dict[str, frozenset[str]]:
        """Return the student outputs needed of each view group."""
        needed: dict[str, frozenset[str]] = {}
        for objective, _ in self.objectives.values():
            for group in objective.needs.groups:
                needed[group] = needed.get(group, frozenset()) | objective.needs.student
        return needed

    def targets(self, batch: Batch) -> dict[str, dict[str, Outputs]]:
        """Return what the objectives need of every teacher for a batch."""
        wanted: dict[str, dict[str, frozenset[str]]] = {}
        for objective, _ in self.objectives.values():
            groups = objective.needs.teacher_groups or objective.needs.groups
            for teacher, outputs in (objective.needs.teachers or {}).items():
                of_teacher = wanted.setdefault(teacher, {})
                for group in groups:
                    of_teacher[group] = of_teacher.get(group, frozenset()) | outputs
        found: dict[str, dict[str, Outputs]] = {}
        for teacher, of_teacher in wanted.items():
            found[teacher] = {}
            for group, outputs in of_teacher.items():
                found[teacher].update(self.teachers[teacher](batch, (group,), outputs))
        return found
