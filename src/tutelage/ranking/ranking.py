"""What a ranking found: candidates by probe accuracy, how sure the first one's lead is, and what failed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tutelage.comparison.statistics import Difference, MeanStd, bootstrap_interval, mean_std, t_interval
from tutelage.models.preprocess import Modality
from tutelage.ranking.scores import Scores
from tutelage.report.intervals import Interval
from tutelage.report.numbers import percent, plural, signed

JOIN = "+"
"""Between the names of encoders whose features are put side by side."""


@dataclass(frozen=True)
class Ranked:
    """A candidate: what its features are worth, and what they cost.

    Attributes:
        name: As it was asked for.
        scores: Of each draw of labels.
        width: Of its features.
        params: Of its encoders.
        flops: Of one image's features.
        feature_seconds: Of one image's features, decoding included.
        seconds: All that ranking it took, loading included.
        behind: Its probe accuracy minus the best one's, paired by draw; ``None`` for the best. ``bootstrap`` is over
            held-out images, and there for a single draw alone.
    """

    name: str
    scores: tuple[Scores, ...]
    width: int
    params: int
    flops: float
    feature_seconds: float
    seconds: float
    behind: Difference | None = None

    @property
    def probe(self) -> MeanStd:
        """Accuracy of a linear probe on held-out labels, over draws."""
        return mean_std(self._probes)

    @property
    def neighbors(self) -> MeanStd:
        """Accuracy of the nearest neighbors on held-out labels, over draws."""
        return mean_std([float(each.neighbors.mean()) for each in self.scores])

    @property
    def evidence(self) -> MeanStd:
        """LogME, over draws."""
        return mean_std([each.evidence for each in self.scores])

    @property
    def interval(self) -> Interval | None:
        """95 % of ``behind``: over draws of labels, or over held-out images where there is one draw."""
        return None if self.behind is None else self.behind.t_interval or self.behind.bootstrap

    @property
    def _probes(self) -> list[float]:
        return [float(each.probe.mean()) for each in self.scores]

    def against(self, best: Ranked) -> Ranked:
        """Return the same candidate with its difference to the best one."""
        pairs = zip(self._probes, best._probes, strict=True)
        differences = [ours - theirs for ours, theirs in pairs]
        items = None
        if len(differences) == 1:
            items = bootstrap_interval(*(np.stack([each.scores[0].probe]) for each in (self, best)))
        behind = Difference(mean_std(differences).mean, len(differences), t_interval(differences), items)
        return replace(self, behind=behind)


@dataclass(frozen=True)
class Ranking:
    """Candidates in order, and how they were judged.

    Attributes:
        candidates: Those that could be judged, the best one first; at least one.
        failed: Why the others could not, by name.
        seeds: Of the draws of labels.
        labels: How many labels each draw has.
        classes: How many classes they are of.
        held_out: How many images each draw was judged by.
        validation: Whether those are given validation data, and not labels that took turns.
        seconds: All that it took, reading the data included.
        modality: What candidates were judged on: images, texts or pairs.
    """

    candidates: tuple[Ranked, ...]
    failed: Mapping[str, str]
    seeds: tuple[int, ...]
    labels: int
    classes: int
    held_out: int
    validation: bool
    seconds: float
    modality: Modality = "image"

    @property
    def best(self) -> Ranked:
        """The candidate with the best probe."""
        return self.candidates[0]

    @property
    def verdict(self) -> str:
        """Whether the best one is better than the next, in a sentence."""
        return verdict(self.candidates, self.modality)

    def as_data(self) -> dict[str, Any]:
        """Return plain data."""
        return {
            "best": self.best.name,
            "verdict": self.verdict,
            "metric": "accuracy",
            "labels": self.labels,
            "classes": self.classes,
            "held_out": self.held_out,
            "held_out_from": "validation" if self.validation else "labels",
            "seeds": list(self.seeds),
            "candidates": [_as_data(each) for each in self.candidates],
            "failed": [{"name": name, "error": why} for name, why in self.failed.items()],
            "seconds": self.seconds,
        }


def in_order(candidates: Sequence[Ranked]) -> tuple[Ranked, ...]:
    """Return candidates by probe accuracy (LogME breaks ties), the best one first, the others with what they lack."""
    first, *others = sorted(candidates, key=lambda each: (-each.probe.mean, -each.evidence.mean))
    return (first, *(each.against(first) for each in others))


def verdict(candidates: Sequence[Ranked], one: Modality = "image") -> str:
    """Return whether the best of ranked candidates is better than the next, in a sentence.

    Args:
        candidates: In order.
        one: What they were judged on.
    """
    first, *others = candidates
    if not others:
        return f"{first.name} reaches {percent(first.probe.mean)}, and there is nothing to compare it with."
    second = others[0]
    assert second.behind is not None
    lead, draws = -second.behind.mean, second.behind.runs
    interval = second.interval
    assert interval is not None
    what = f"the {plural(draws, 'draw')} of labels" if draws > 1 else f"the held-out {one}s"
    points = f"{signed(lead)} points"
    known = f"(95% interval {signed(-interval.high)} to {signed(-interval.low)})"
    if interval.low <= 0 <= interval.high:
        cheaper = min(first, second, key=lambda each: each.flops)
        costs = "" if first.flops == second.flops else f"; {cheaper.name} is the cheaper one"
        return f"{what.capitalize()} cannot tell {first.name} and {second.name} apart: {points} {known}{costs}."
    return f"{first.name} is the best one: {points} against {second.name} over {what} {known}."


def _as_data(candidate: Ranked) -> dict[str, Any]:
    behind, interval = candidate.behind, candidate.interval
    over = None if behind is None else "draws" if behind.t_interval else "images"
    return {
        "name": candidate.name,
        "probe": _spread(candidate.probe, [float(each.probe.mean()) for each in candidate.scores]),
        "neighbors": _spread(candidate.neighbors, [float(each.neighbors.mean()) for each in candidate.scores]),
        "logme": _spread(candidate.evidence, [each.evidence for each in candidate.scores]),
        "behind": None
        if behind is None
        else {"mean": behind.mean, "interval": None if interval is None else list(interval), "over": over},
        "params": candidate.params,
        "width": candidate.width,
        "per_1000_images": {"seconds": 1000 * candidate.feature_seconds, "flops": 1000 * candidate.flops},
        "seconds": candidate.seconds,
    }


def _spread(summary: MeanStd, draws: Sequence[float]) -> dict[str, Any]:
    return {"mean": summary.mean, "std": summary.std, "draws": list(draws)}
