"""A distillation step from cached targets, against the same student's supervised step on identical views.

    python benchmarks/distill_step.py             # the table in docs/performance.md
    python benchmarks/distill_step.py --json      # one JSON object on stdout

The case is that of `case.py`. Both steps are the training loop's own, each with a student, an optimizer and a loader
of its own that start alike and see the same views in the same order; they are taken in turns. A step is: make the
next batch's views from packed images, read its targets (the teacher's stored predictions, or the labels), forward,
loss, backward, optimizer, moving average. Nothing is prepared ahead, so all of it counts. The second comparison
leaves out making the views, which both do in the same way, and so is the stricter one.

The upper 95 % bound of the ratio of seconds is to be at most 1.03, for both.

Keys of the JSON: ``ratio`` (of seconds a step, ours over the reference), ``reference``, ``runs`` (pairs), ``spread``,
``bound``, ``confidence`` and ``goal`` are those of the first of ``comparisons``, ``met`` is for all of them;
``comparisons`` has the same keys for each, and ``ours``; ``rows`` has for each kind of ``step`` its ``milliseconds``
(median) and ``std``; ``machine``, ``command``.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from case import AUGMENTATIONS, VIEWS, cached_phase, new_loader, new_student, pictures, stepper, supervised_phase
from side_by_side import command, compare, in_turns, machine, seconds, show

from tutelage.data.batch import Batch
from tutelage.training.distributed import World, world


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--pairs", type=int, default=100)
    parser.add_argument("--views", type=int, default=VIEWS, help="cached views of each sample")
    parser.add_argument("--augment", choices=tuple(AUGMENTATIONS), default="full")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--data", type=Path, default=Path("runs/peers/jpegs"))
    parser.add_argument("--work", type=Path, default=Path("runs/distill"))
    parser.add_argument("--json", action="store_true")
    told = parser.parse_args()
    samples, policy = pictures(told.data), AUGMENTATIONS[told.augment]
    store = told.work / "store"
    steps = 2 * told.pairs + 4
    phases = {
        "supervised": supervised_phase(new_loader(samples, policy, store, views=told.views), steps),
        "cached": cached_phase(samples, policy, steps, store, views=told.views),
    }
    with world(told.device) as here:
        cases: dict[str, Callable[[], object]] = {}
        for name, phase in phases.items():
            step = stepper(phase, new_student(), here)
            views = phase.loader.batches(0, steps)
            cases[name] = partial(whole_step, step, views, here)
            # The same batch every time: what it holds costs the same.
            cases[f"{name}, views at hand"] = partial(step, next(phase.loader.batches(0, 1)).to(here.device))
        found = in_turns(cases, told.pairs, seconds)
        device = str(here.device)
    comparisons = [
        {
            "ours": ours,
            **compare(found[ours], found[theirs], reference=f"the step {theirs}", side="at_most", goal=1.03),
        }
        for ours, theirs in (
            ("cached", "supervised"),
            ("cached, views at hand", "supervised, views at hand"),
        )
    ]
    result = {
        **{key: value for key, value in comparisons[0].items() if key != "ours"},
        "met": all(comparison["met"] for comparison in comparisons),
        "comparisons": comparisons,
        "rows": [
            {"step": name, "milliseconds": 1e3 * statistics.median(times), "std": 1e3 * statistics.stdev(times)}
            for name, times in found.items()
        ],
        "machine": machine(device),
        "command": command(),
    }
    show(result, told.json)


def whole_step(step: Callable[[Batch], object], views: Iterator[Batch], here: World) -> None:
    """Make the next batch and train on it."""
    step(next(views).to(here.device))


if __name__ == "__main__":
    main()
