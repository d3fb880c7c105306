"""Each named method as a short sequence of stages."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from tutelage.methods.adapt import adapt
from tutelage.methods.distill import distill
from tutelage.methods.finetune import finetune
from tutelage.methods.job import Job
from tutelage.methods.targets import targets
from tutelage.run import Stage

StageFunction = Callable[[Job, Mapping[str, Stage]], Stage]
"""Runs one stage, given the finished ones by name."""


@dataclass(frozen=True)
class Method:
    """A way to make the student.

    Attributes:
        summary: What it does, in one line.
        stages: In order, by name; the last one leaves the student.
        start: Where the student starts unless the recipe says otherwise.
    """

    summary: str
    stages: Mapping[str, StageFunction]
    start: Literal["random", "pretrained"]

    @property
    def needs_teacher(self) -> bool:
        """Whether a teacher must be named."""
        return "adapt" in self.stages

    @property
    def needs_transfer(self) -> bool:
        """Whether it learns from unlabeled data."""
        return "distill" in self.stages


METHODS: dict[str, Method] = {
    "scratch": Method("train the student on the labels alone", {"finetune": finetune}, "random"),
    "task-oriented": Method(
        "adapt the teacher, match its predictions on unlabeled data, finetune on the labels",
        {"adapt": adapt, "targets": targets, "distill": distill, "finetune": finetune},
        "random",
    ),
}

__all__ = ["METHODS", "Job", "Method", "StageFunction"]
