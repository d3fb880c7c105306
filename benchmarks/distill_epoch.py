"""An epoch of cached distillation, against the rates of its parts and against a live teacher.

    python benchmarks/distill_epoch.py            # the table in docs/performance.md
    python benchmarks/distill_epoch.py --json     # one JSON object on stdout

The case is that of `case.py`. In turns, each for ``--steps`` batches and per batch: ``views`` makes views from
packed images and throws them away; ``student`` takes steps from cached targets on a batch at hand; ``teacher`` is its
forward pass on a batch at hand; ``cached`` and ``live`` are the training loop with either source of targets. All has
run before, so packs and targets are there: these are epochs after the first.

On a CPU, making views and training share the cores, so at best an image takes the time of its views and of its
step: the loop's images a second are to be at least 0.9 of 1 / (1 / views' + 1 / student's), on a GPU of the student's
alone.
The speed-up over the live teacher is to be at least 0.9 of 1 + teacher's / student's seconds.

Keys of the JSON: ``ratio`` (of images a second, ours over the reference), ``reference``, ``runs`` (rounds),
``spread``, ``bound``, ``confidence`` and ``goal`` are those of the first of ``comparisons``, ``met`` is for both;
``comparisons`` has the same keys for each, and ``ours``; ``rows`` has for each ``part`` its ``milliseconds`` a batch
(median), ``std`` and ``images_per_second``; ``machine``, ``command``.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import torch
from case import (
    AUGMENTATIONS,
    BATCH,
    VIEWS,
    cached_phase,
    live_phase,
    new_loader,
    new_student,
    new_teacher,
    pictures,
    stepper,
)
from side_by_side import command, compare, in_turns, machine, seconds, show

from tutelage.data.batch import DEFAULT_GROUP, Batch
from tutelage.data.loader import Loader
from tutelage.training.distributed import World, world


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--steps", type=int, default=31, help="batches of each part in a round; 31 are an epoch")
    parser.add_argument("--views", type=int, default=VIEWS, help="cached views of each sample")
    parser.add_argument("--augment", choices=tuple(AUGMENTATIONS), default="full")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--data", type=Path, default=Path("runs/peers/jpegs"))
    parser.add_argument("--work", type=Path, default=Path("runs/distill"))
    parser.add_argument("--json", action="store_true")
    told = parser.parse_args()
    samples, policy = pictures(told.data), AUGMENTATIONS[told.augment]
    store, total = told.work / "store", told.steps * (2 * told.rounds + 4)
    cached = cached_phase(samples, policy, total, store, views=told.views)
    teacher = new_teacher()
    live = live_phase(new_loader(samples, policy, store), teacher, total)
    with world(told.device) as here:
        teacher.to(here.device)
        example = next(cached.loader.batches(0, 1)).to(here.device)
        train = stepper(cached, new_student(), here)
        cases: dict[str, Callable[[], object]] = {
            "views": partial(make_views, Turns(new_loader(samples, policy, store, views=told.views), told.steps)),
            "student": partial(repeat, told.steps, partial(train, example)),
            "teacher": partial(repeat, told.steps, partial(predict, teacher, example)),
            "cached": partial(epoch, Turns(cached.loader, told.steps), train, here),
            "live": partial(epoch, Turns(live.loader, told.steps), stepper(live, new_student(), here), here),
        }
        found = {
            name: [each / told.steps for each in times]
            for name, times in in_turns(cases, told.rounds, seconds).items()
        }
        device = str(here.device)
    rounds = list(zip(*(found[name] for name in ("views", "student", "teacher", "cached", "live")), strict=True))
    parts = [student if device != "cpu" else views + student for views, student, *_ in rounds]
    comparisons = [
        {
            "ours": "images a second, cached",
            **compare(
                [1 / each for each in found["cached"]],
                [1 / each for each in parts],
                reference="the student's" if device != "cpu" else "1 / (1 / views' + 1 / student's)",
                side="at_least",
                goal=0.9,
            ),
        },
        {
            "ours": "speed-up over live",
            **compare(
                [live / cached for *_, cached, live in rounds],
                [1 + teacher / student for _, student, teacher, *_ in rounds],
                reference="1 + teacher's / student's seconds",
                side="at_least",
                goal=0.9,
            ),
        },
    ]
    result = {
        **{key: value for key, value in comparisons[0].items() if key != "ours"},
        "met": all(comparison["met"] for comparison in comparisons),
        "comparisons": comparisons,
        "rows": [
            {
                "part": name,
                "milliseconds": 1e3 * statistics.median(times),
                "std": 1e3 * statistics.stdev(times),
                "images_per_second": round(BATCH / statistics.median(times)),
            }
            for name, times in found.items()
        ],
        "machine": machine(device),
        "command": command(),
    }
    show(result, told.json)


class Turns:
    """A loader's batches, some more at each call.

    Args:
        loader: The loader.
        steps: Batches a call.
    """

    def __init__(self, loader: Loader, steps: int) -> None:
        self._loader = loader
        self._starts = itertools.count(0, steps)
        self._steps = steps

    def __call__(self) -> Iterator[Batch]:
        """Return an iterator over the next ones, as the training loop gets them."""
        start = next(self._starts)
        return self._loader.ready(self._loader.batches(start, start + self._steps))


def make_views(turns: Turns) -> None:
    for _ in turns():
        pass


def epoch(turns: Turns, step: Callable[[Batch], object], here: World) -> None:
    """Train on the next batches."""
    for batch in turns():
        step(batch.to(here.device))


def predict(teacher: torch.nn.Module, batch: Batch) -> None:
    with torch.no_grad():
        teacher(batch.inputs[DEFAULT_GROUP])


def repeat(times: int, work: Callable[[], object]) -> None:
    for _ in range(times):
        work()


if __name__ == "__main__":
    main()
