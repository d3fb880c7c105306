"""A finished run, opened to be looked at: none of its stages runs again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tutelage.checks import check
from tutelage.data.prepare import PreparedData
from tutelage.errors import RunError
from tutelage.methods.job import Job
from tutelage.pipeline import make_job, run_method
from tutelage.progress import Progress
from tutelage.recipe_reading import load_recipe
from tutelage.report.finished import read_run
from tutelage.run import MANIFEST, Outputs, Run, Stage, Work, read_manifest, stage_fingerprint
from tutelage.training.distributed import world


@dataclass
class FinishedStages(Run):
    """Stages that are found, or missed.

    Attributes:
        folders: Of each stage, by its name.
    """

    folders: Mapping[str, str] = field(default_factory=dict)

    def stage(self, name: str, inputs: Mapping[str, Any], work: Work, *, outputs: Outputs = ()) -> Stage:
        """Return a finished stage.

        Raises:
            RunError: It is not there, or was made from something else than the run's recipe and data are now.
        """
        fingerprint = stage_fingerprint(name, inputs)
        folder = self.folder / self.folders.get(name, name)
        finished = read_manifest(folder / MANIFEST)
        if finished is None or finished["fingerprint"] != fingerprint:
            raise RunError(
                f"{self.folder}: its stage {name!r} is not what its recipe and data would make now (data have "
                "changed, or another version made it); run the recipe again"
            )
        self.stages.append(
            Stage(name, folder, fingerprint, finished["results"], finished["cost"], reused=True),
        )
        return self.stages[-1]


@dataclass(frozen=True)
class Opened:
    """A finished run.

    Attributes:
        job: What its stages worked with.
        stages: Of its method, by name.
        data: Its samples.
        results: The content of ``results.json``.
    """

    job: Job
    stages: Mapping[str, Stage]
    data: PreparedData
    results: Mapping[str, Any]


@contextmanager
def open_finished(folder: Path, progress: Progress) -> Iterator[Opened]:
    """Open a finished run.

    Raises:
        RunError: It is not finished, damaged, or its data have changed since.
        TutelageError: Its data or models cannot be had any more.
    """
    results = read_run(folder).data
    recipe = load_recipe(folder / "recipe.yaml")
    with world(recipe.device) as here:
        data, resolved = check(recipe)
        job = make_job(resolved, data, FinishedStages(folder, folders=results["folders"]), here, progress)
        yield Opened(job, run_method(job), data, results)
