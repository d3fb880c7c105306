"""A step of contrast against memory banks, against the same student's step of contrast within the batch.

    python benchmarks/bank_step.py                # the table
    python benchmarks/bank_step.py --json         # one JSON object on stdout

The student is that of `case.py`, the teacher's features are 768 random numbers an image, which cost nothing, and
both sides are projected to 768. Banks have 100,000 rows, and every image 16,384 negatives. Each step is the training
loop's own, with a student, projections and an optimizer of its own, on the same images every time, their views at
hand; negatives are drawn anew, so that other rows are read. Banks are kept in memory in full and in half precision,
and on disk; all are taken in turns with the step within the batch.

Keys of the JSON: ``ratio`` (of seconds a step, ours over the reference), ``reference``, ``runs`` (pairs), ``spread``,
``bound`` and ``confidence`` are those of the first of ``comparisons``; ``comparisons`` has the same keys for each,
and ``ours``; ``rows`` has for each kind of ``step`` its ``milliseconds`` (median) and ``std``; ``batch_size``,
``banks`` (rows), ``machine``, ``command``.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import get_args

import torch
from case import AUGMENTATIONS, BATCH, IMAGES, SEED, new_loader, new_student, pictures, stepper
from side_by_side import command, compare, in_turns, machine, seconds, show

from tutelage.data.batch import Batch
from tutelage.models.outputs import Outputs
from tutelage.objectives import BankContrast, ImageFeatures, Objective
from tutelage.objectives.banks import Form, remove_banks
from tutelage.training.distributed import World, world
from tutelage.training.phase import Phase
from tutelage.training.schedule import Schedule

WIDTH = 768
ROWS = 100_000


class RandomFeatures:
    """A teacher that costs nothing: random features of each image, the same in every view.

    Args:
        images: How many.
        device: Where they are.
    """

    def __init__(self, images: int, device: torch.device) -> None:
        self._values = torch.randn(images, WIDTH, generator=torch.Generator().manual_seed(SEED)).to(device)

    def __call__(self, batch: Batch, groups: Sequence[str], needs: frozenset[str]) -> Mapping[str, Outputs]:
        """Return ``features`` [B, 768]."""
        return {group: Outputs(features=self._values[batch.indices]) for group in groups}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--pairs", type=int, default=30)
    parser.add_argument("--batch", type=int, default=BATCH)
    parser.add_argument("--banks", type=int, default=ROWS, help="rows of each")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--data", type=Path, default=Path("runs/peers/jpegs"))
    parser.add_argument("--work", type=Path, default=Path("runs/distill"))
    parser.add_argument("--json", action="store_true")
    told = parser.parse_args()
    samples = pictures(told.data, min(IMAGES, told.banks))
    told.work.mkdir(parents=True, exist_ok=True)
    with world(told.device) as here, tempfile.TemporaryDirectory(dir=told.work) as folder:
        loader = new_loader(samples, AUGMENTATIONS["plain"], told.work / "store", batch_size=told.batch)
        batch = next(loader.batches(0, 1)).to(here.device)
        teacher = RandomFeatures(len(samples), here.device)
        cases: dict[str, Callable[[], object]] = {}
        for name, objective in objectives(told.banks, Path(folder)).items():
            schedule = Schedule(steps=2 * told.pairs + 100, batch_size=told.batch, learning_rate=1e-4)
            phase = Phase("image", loader, {"image": (objective, 1.0)}, schedule, teachers={"teacher": teacher})
            cases[name] = fresh_step(phase, batch, here)
        found = in_turns(cases, told.pairs, seconds)
        remove_banks(Path(folder))
        device = str(here.device)
    reference = found["in the batch"]
    comparisons = [
        {"ours": name, **compare(times, reference, reference="the step within the batch", side="at_most")}
        for name, times in found.items()
        if name != "in the batch"
    ]
    result = {
        **{key: value for key, value in comparisons[0].items() if key != "ours"},
        "comparisons": comparisons,
        "rows": [
            {"step": name, "milliseconds": 1e3 * statistics.median(times), "std": 1e3 * statistics.stdev(times)}
            for name, times in found.items()
        ],
        "batch_size": told.batch,
        "banks": told.banks,
        "machine": machine(device),
        "command": command(),
    }
    show(result, told.json)


def objectives(size: int, folder: Path) -> dict[str, Objective]:
    """Return what is compared, by name: the same projections each time."""
    width, widths = new_student().encoder.widths["features"], {"features": WIDTH}
    forms: tuple[Form, ...] = get_args(Form)

    def made(make: Callable[[], Objective]) -> Objective:
        torch.manual_seed(SEED)
        return make()

    return {
        "in the batch": made(partial(ImageFeatures, width, widths)),
        **{
            f"banks, {form}": made(partial(BankContrast, width, widths, size=size, form=form, folder=folder))
            for form in forms
        },
    }


def fresh_step(phase: Phase, batch: Batch, here: World) -> Callable[[], object]:
    """Return a training step on a batch, as if of another view each time, so that it draws other negatives."""
    step, views = stepper(phase, new_student(), here), itertools.count()
    return lambda: step(replace(batch, view=next(views)))


if __name__ == "__main__":
    main()
