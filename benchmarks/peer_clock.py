"""The one stopwatch of `peers.py`'s drivers; runs in every system's own environment, so torch is all it imports.

A step lasts from the end of one optimizer step to the end of the next, whoever's loop it is. Of that, what passes
until a model sees the next batch is waiting: for data, and for the loop's own bookkeeping.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import statistics
import time
from pathlib import Path
from typing import Any

import torch
from torch.optim.optimizer import register_optimizer_step_post_hook


def arguments(description: str | None) -> argparse.Namespace:
    """Read what every driver is told: where the pictures are, and how long to run."""
    parser = argparse.ArgumentParser(description=(description or "").partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with one folder of JPEGs a class")
    parser.add_argument("--steps", type=int, default=48, help="optimizer steps to run")
    parser.add_argument("--warm-up", type=int, default=12, help="steps at the start that are not counted")
    parser.add_argument("--workers", type=int, default=2, help="processes that load data")
    parser.add_argument("--augment", choices=("plain", "full"), default="plain")
    parser.add_argument("--teacher", choices=("live", "cached"), default="live")
    parser.add_argument("--out", type=Path, required=True, help="a folder to write to")
    return parser.parse_args()


class Clock:
    """Counts optimizer steps and the time between them, from its making on.

    Args:
        told: The driver's :func:`arguments`.
    """

    def __init__(self, told: argparse.Namespace) -> None:
        self._told = told
        self._ends: list[float] = []
        self._begins: list[float] = []
        # Progress and notices go to stderr, so that stdout has the report alone.
        self._report_to = os.dup(1)
        os.dup2(2, 1)
        register_optimizer_step_post_hook(self._stepped)

    def started(self, *_: object) -> None:
        """Note that a model got its batch; called, or hooked, before the first forward of a step."""
        if len(self._begins) == len(self._ends):
            self._begins.append(time.perf_counter())

    def _stepped(self, *_: object) -> None:
        self._ends.append(time.perf_counter())

    def report(self, batch: int, **more: Any) -> None:
        """Print one JSON line: seconds a step (median and mean), images a second, share of the time spent waiting."""
        first = self._told.warm_up
        ends, begins = self._ends[first - 1 : self._told.steps], self._begins[first : self._told.steps]
        steps = [end - start for start, end in itertools.pairwise(ends)]
        waits = [begin - start for start, begin in zip(ends, begins, strict=False)]
        if len(steps) < 2:
            raise SystemExit(
                f"only {len(self._ends)} optimizer steps were seen, {self._told.warm_up} of them warm-up"
            )
        found = {
            "seconds": statistics.median(steps),
            "mean_seconds": statistics.mean(steps),
            "images_per_second": batch / statistics.median(steps),
            "waiting": sum(waits) / sum(steps),
            "steps": len(steps),
            "torch": torch.__version__,
            "threads": torch.get_num_threads(),
            **more,
        }
        with os.fdopen(self._report_to, "w") as report:
            print(json.dumps(found), file=report)
