"""The stages of a comparison: each in a folder named by its fingerprint, so that cells share what is the same."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from tutelage.errors import RunError
from tutelage.run import MANIFEST, Outputs, Run, Stage, Work, read_manifest, stage_fingerprint

DIGITS = 16
"""Of a fingerprint, in the name of a folder."""


@dataclass
class SharedStages(Run):
    """Stages that any cell finds which asks for the same.

    Attributes:
        failed: Why a stage failed, by its fingerprint: another cell that needs it is not made to wait for that again.
    """

    shared: ClassVar[bool] = True
    failed: dict[str, str] = field(default_factory=dict)
    _place: str = ""

    def place(self, name: str, fingerprint: str) -> Path:
        """Return a stage's folder.

        Raises:
            RunError: It has failed for another cell.
        """
        if fingerprint in self.failed:
            raise RunError(f"{name}: failed before, for another cell: {self.failed[fingerprint]}")
        self._place = fingerprint
        return shared_place(self.folder, name, fingerprint)

    def stage(self, name: str, inputs: Mapping[str, Any], work: Work, *, outputs: Outputs = ()) -> Stage:
        """Run a stage, unless it is finished; remember when it fails."""
        try:
            return super().stage(name, inputs, work, outputs=outputs)
        except Exception as error:
            self.failed.setdefault(self._place, str(error))
            raise


@dataclass
class PlannedStages(Run):
    """Stages that are only looked for; what is not finished is noted and made up.

    Attributes:
        results: What a stage that is not finished would find, as far as those after it read it.
        missing: Names of the stages that would have to run, by their fingerprints.
        asked: How many were asked for that are not finished.
        made_up: Called with the name and inputs of each, the first time that it is asked for.
    """

    results: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    asked: int = 0
    made_up: Callable[[str, Mapping[str, Any]], None] = lambda name, inputs: None

    def stage(self, name: str, inputs: Mapping[str, Any], work: Work, *, outputs: Outputs = ()) -> Stage:
        """Return a stage as if it had run."""
        fingerprint = stage_fingerprint(name, inputs)
        folder = shared_place(self.folder, name, fingerprint)
        finished = read_manifest(folder / MANIFEST)
        if finished and finished["fingerprint"] == fingerprint:
            return Stage(name, folder, fingerprint, finished["results"], finished["cost"], reused=True)
        self.asked += 1
        if fingerprint not in self.missing:
            self.missing[fingerprint] = name
            self.made_up(name, inputs)
        return Stage(name, folder, fingerprint, self.results.get(name, {}), {}, reused=False)


def shared_place(folder: Path, name: str, fingerprint: str) -> Path:
    """Return where a shared stage is in a comparison's folder."""
    return folder / "stages" / f"{name}-{fingerprint[:DIGITS]}"
