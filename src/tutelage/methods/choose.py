"""Choosing among candidates on held-out labels, never on the test set."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tutelage.ledger import Cost, measured
from tutelage.methods.job import Job, Split
from tutelage.run import write_json
from tutelage.tasks import Task


@dataclass(frozen=True)
class Candidate:
    """One way to fit a model.

    Attributes:
        name: For results and progress.
        group: Of which group it is (``probe``, ``finetune``).
        held_out: Fits on a split's first part and returns what it makes of its second (:meth:`Job.outcomes`), one
            tensor for each variant (raw weights, averaged weights), with what that cost. Is told a file that it may
            keep its state in meanwhile.
    """

    name: str
    group: str
    held_out: Callable[[Split, Path], tuple[Mapping[str, Tensor], Cost]]


@dataclass(frozen=True)
class Choice:
    """A candidate and variant with the metrics that it was judged by.

    Attributes:
        candidate: The candidate's name.
        group: Its group.
        variant: Which of its outcomes: ``raw`` or ``average``.
        metrics: On all held-out labels together.
    """

    candidate: str
    group: str
    variant: str
    metrics: Mapping[str, float]

    def as_dict(self) -> dict[str, Any]:
        """Return plain data."""
        return {
            "candidate": self.candidate,
            "group": self.group,
            "variant": self.variant,
            "metrics": dict(self.metrics),
        }


def judge(
    job: Job, candidates: Sequence[Candidate], folder: Path, cost: Cost, splits: Sequence[Split] | None = None
) -> list[Choice]:
    """Judge candidates by their predictions on held-out labels, pooled over the splits.

    Args:
        job: Says how labels are held out.
        candidates: What to judge.
        folder: Each judgment is kept here as it is made, so that an interrupted stage goes on from there.
        cost: Gets what it takes; what was found in the folder counts too.
        splits: To judge on; all of the job's if not given.

    Returns:
        A choice for each candidate and variant, the best first.
    """
    splits = job.splits() if splits is None else splits
    truth = torch.cat([job.truth(held) for _, held in splits])
    choices: list[Choice] = []
    with job.progress.track(f"choose the {candidates[0].group}", len(candidates) * len(splits)) as update:
        for number, candidate in enumerate(candidates):
            kept = folder / f"judged-{candidate.name}.json"
            found = kept.exists()
            job.world.barrier()  # before one process writes it, all have looked
            if not found:
                outcomes_of: dict[str, list[Tensor]] = {}
                with measured(Cost(), job.world.device) as spent:
                    for turn, split in enumerate(splits):
                        checkpoint = folder / f"judged-{candidate.name}-{turn}.checkpoint"
                        outcomes, part = candidate.held_out(split, checkpoint)
                        spent.add(part)
                        for variant, values in outcomes.items():
                            outcomes_of.setdefault(variant, []).append(values)
                        update(number * len(splits) + turn + 1, {})
                metrics = {
                    variant: job.task.metrics(torch.cat(parts), truth) for variant, parts in outcomes_of.items()
                }
                if job.world.first:
                    write_json(kept, {"metrics": metrics, "cost": spent.as_dict()})
                job.world.barrier()
            judged = json.loads(kept.read_text())
            earlier = judged["cost"]["seconds"] if found else judged["cost"]["earlier"]
            cost.add(Cost(**{**judged["cost"], "earlier": earlier}))
            choices += [
                Choice(candidate.name, candidate.group, variant, metrics)
                for variant, metrics in judged["metrics"].items()
            ]
            update((number + 1) * len(splits), {})
    return ranked(job.task, choices)


def ranked(task: Task, choices: Sequence[Choice]) -> list[Choice]:
    """Return choices by the task's primary metric, the best first.

    Few labels make coarse metrics; the likelihood tells candidates apart that classify equally well.
    """
    return sorted(choices, key=lambda choice: (-choice.metrics[task.primary], choice.metrics.get("nll", 0.0)))
