"""What a comparison says: who is ahead and by how much, curves over compute and labels.

A contender is judged only inside its :class:`Group`: never across starts, nor at its best beside one on a budget.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tutelage.comparison.statistics import (
    Difference,
    Reached,
    mean_curve,
    mean_spent,
    mean_std,
    paired,
    reached,
    scores_by_seed,
)
from tutelage.comparison.table import Cell, Comparison, Outcome, Point, Spent

OURS = "task-oriented"
"""The method that is set against all others' compute, together with its ablations, which are named after it."""


@dataclass(frozen=True)
class Contender:
    """What is compared: a cell without its labels and seed; attributes as in :class:`Cell`."""

    method: str
    transfer: str | None
    start: str
    compute: str
    variant: str = ""

    @classmethod
    def of(cls, cell: Cell) -> Contender:
        """Return a cell's."""
        return cls(cell.method, cell.transfer, cell.start, cell.compute, cell.variant)


@dataclass(frozen=True)
class Group:
    """Within which contenders are comparable; attributes as in :class:`Cell`."""

    labels: str
    start: str
    compute: str


@dataclass(frozen=True)
class Summary:
    """A contender at one label count.

    Attributes:
        contender: Which.
        labels: As asked for.
        runs: How many seeds have a result.
        failed: How many failed.
        mean: Of the scores; ``None`` without a run.
        std: Sample standard deviation; ``None`` for fewer than two runs.
        scores: By seed.
        pretraining: Mean; ``None`` without a run.
        finetuning: Mean; ``None`` without a run.
        teacher: Mean score of the teachers that taught; ``None`` where none has a score.
        teacher_modes: How they were adapted, each way once, in order of seeds.
        against: Whom ``gain`` is over: for the best one of the group the best of another approach, for all others the
            best one.
        gain: ``None`` without such a one, or if the two have no seed in common.
    """

    contender: Contender
    labels: str
    runs: int
    failed: int
    mean: float | None
    std: float | None
    scores: Mapping[int, float]
    pretraining: Spent | None
    finetuning: Spent | None
    teacher: float | None
    teacher_modes: tuple[str, ...]
    against: Contender | None = None
    gain: Difference | None = None


@dataclass(frozen=True)
class Curve:
    """Score against what was spent on pretraining until then.

    Attributes:
        contender: Which.
        labels: As asked for.
        runs: How many seeds the means are over.
        score: Mean final score; the level of a contender without pretraining.
        points: Means over seeds at each share that all of them have; empty without pretraining.
    """

    contender: Contender
    labels: str
    runs: int
    score: float
    points: tuple[Point, ...]


@dataclass(frozen=True)
class ComputeRatio:
    """How much less a task-oriented contender spends to be as good as a rival, over the seeds that both have.

    Attributes:
        contender: The task-oriented one.
        rival: One that pretrains in another way, in the same group.
        labels: As asked for.
        runs: How many seeds both have.
        score: The rival's final mean score.
        flops: ``None`` where it is never reached.
        seconds: ``None`` where it is never reached.
    """

    contender: Contender
    rival: Contender
    labels: str
    runs: int
    score: float
    flops: Reached | None
    seconds: Reached | None


@dataclass(frozen=True)
class LabelCurve:
    """A contender's summaries over label counts, in the grid's order, where it has a run."""

    contender: Contender
    points: tuple[Summary, ...]


Place = tuple[Contender, str]
"""A contender and a label count."""


def outcomes_by_place(comparison: Comparison) -> dict[Place, list[Outcome]]:
    """Return the outcomes of each contender at each label count, over seeds, in the grid's order."""
    places: dict[Place, list[Outcome]] = {}
    for outcome in comparison.outcomes:
        places.setdefault((Contender.of(outcome.cell), outcome.cell.labels), []).append(outcome)
    return places


def ranked(comparison: Comparison) -> dict[Group, list[Summary]]:
    """Return each group's summaries, highest mean first and those without a run last."""
    places = outcomes_by_place(comparison)
    groups: dict[Group, list[Summary]] = {}
    for labels in dict.fromkeys(outcome.cell.labels for outcome in comparison.outcomes):
        for (contender, at), runs in places.items():
            if at == labels:
                summary = _summary(contender, labels, runs)
                groups.setdefault(Group(labels, contender.start, contender.compute), []).append(summary)
    for group, members in groups.items():
        members.sort(key=lambda member: -math.inf if member.mean is None else member.mean, reverse=True)
        # Everyone's rival is the best one, but its own is the best of another approach: kin of it, which may even
        # be the same student, say nothing about whether it is worth it. One alone has none.
        rivals = [*_rival(members), *members[:1] * (len(members) - 1)]
        contested = [_against(places, member, rival) for member, rival in zip(members, rivals, strict=False)]
        groups[group] = contested or members
    return groups


def _rival(members: Sequence[Summary]) -> list[Summary]:
    """Return the first one's rival, if it has any."""
    best, *others = members
    own = approach(best.contender.method)
    return ([other for other in others if approach(other.contender.method) != own] or others)[:1]


def approach(method: str) -> str:
    """Return what a method is a form of: itself, or ``task-oriented``."""
    return OURS if method.startswith(OURS) else method


def summaries(comparison: Comparison) -> list[Summary]:
    """Return every contender at every label count, group by group as :func:`ranked` has them."""
    return [summary for members in ranked(comparison).values() for summary in members]


def curves(comparison: Comparison) -> list[Curve]:
    """Return score against pretraining compute, for each contender and label count with a run."""
    found = []
    for (contender, labels), runs in outcomes_by_place(comparison).items():
        scores = scores_by_seed(runs)
        if scores:
            points = mean_curve(runs, scores)
            found.append(Curve(contender, labels, len(scores), mean_std([*scores.values()]).mean, points))
    return found


def compute_ratios(comparison: Comparison) -> list[ComputeRatio]:
    """Return each task-oriented contender beside each rival of its group that pretrains in another way.

    A rival that there is in the same variant is no rival in another one.
    """
    found = []
    places = outcomes_by_place(comparison)
    for ((ours, labels), runs), ((rival, at), others) in itertools.permutations(places.items(), 2):
        if (labels, ours.start, ours.compute) != (at, rival.start, rival.compute):
            continue
        if approach(ours.method) != OURS or approach(rival.method) == OURS:
            continue
        if rival.variant != ours.variant and (dataclasses.replace(rival, variant=ours.variant), at) in places:
            continue
        seeds = scores_by_seed(runs).keys() & scores_by_seed(others).keys()
        curve, theirs = mean_curve(runs, seeds), mean_curve(others, seeds)
        if curve and theirs:
            flops = reached(curve, theirs, lambda spent: spent.flops)
            seconds = reached(curve, theirs, lambda spent: spent.seconds)
            found.append(ComputeRatio(ours, rival, labels, len(seeds), theirs[-1].score, flops, seconds))
    return found


def label_curves(comparison: Comparison) -> list[LabelCurve]:
    """Return score against label count for each contender."""
    points: dict[Contender, list[Summary]] = {contender: [] for contender, _ in outcomes_by_place(comparison)}
    for summary in summaries(comparison):
        if summary.runs:
            points[summary.contender].append(summary)
    return [LabelCurve(contender, tuple(found)) for contender, found in points.items() if found]


def _summary(contender: Contender, labels: str, outcomes: Sequence[Outcome]) -> Summary:
    runs = [outcome for outcome in outcomes if outcome.score is not None]
    scores = scores_by_seed(runs)
    mean, std = mean_std([*scores.values()]) if scores else (None, None)
    taught = [run.teacher_score for run in runs if run.teacher_score is not None]
    return Summary(
        contender,
        labels,
        runs=len(runs),
        failed=sum(outcome.error is not None for outcome in outcomes),
        mean=mean,
        std=std,
        scores=scores,
        pretraining=mean_spent([run.pretraining for run in runs]) if runs else None,
        finetuning=mean_spent([run.finetuning for run in runs]) if runs else None,
        teacher=mean_std(taught).mean if taught else None,
        teacher_modes=tuple(dict.fromkeys(run.teacher_mode for run in runs if run.teacher_mode is not None)),
    )


def _against(places: Mapping[Place, Sequence[Outcome]], member: Summary, rival: Summary) -> Summary:
    if member.mean is None or rival.mean is None:
        return member
    gain = paired(places[member.contender, member.labels], places[rival.contender, rival.labels])
    return dataclasses.replace(member, against=rival.contender, gain=gain)
