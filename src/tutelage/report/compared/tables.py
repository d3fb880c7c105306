"""What the tables of a comparison show, as plain data with formatted numbers; page and terminal lay it out."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tutelage.comparison.effects import Effect, finetuning_effects, teacher_effects, transfer_effects, variant_effects
from tutelage.comparison.findings import OURS, ComputeRatio, Contender, Group, Summary, compute_ratios, ranked
from tutelage.comparison.statistics import Difference, Reached
from tutelage.comparison.table import BEST, Comparison
from tutelage.comparison.verdict import contender_words, group_words
from tutelage.report.intervals import Interval
from tutelage.report.numbers import MISSING, duration, flops, percent, plural, signed, times, whole
from tutelage.report.tasks import Metric, named_metric, noun
from tutelage.report.words import GROUPS, short_name


def metric(comparison: Comparison) -> Metric:
    """Return how the score is written."""
    return named_metric(str(comparison.about.get("metric", "score")))


def results(comparison: Comparison) -> list[dict[str, Any]]:
    """Return a table for each group of comparable contenders, the best one first."""
    return [
        {"title": title(comparison, group), "rows": [_result(member) for member in members]}
        for group, members in ranked(comparison).items()
    ]


def title(comparison: Comparison, group: Group) -> str:
    """Return what a group's contenders share, as a title."""
    words = group_words(group, comparison.task)
    return words[:1].upper() + words[1:]


def ratios(comparison: Comparison) -> list[dict[str, Any]]:
    """Return for each group how much less compute task-oriented contenders need than rivals, ablations apart."""
    groups: dict[Group, list[ComputeRatio]] = {}
    for ratio in compute_ratios(comparison):
        group = Group(ratio.labels, ratio.contender.start, ratio.contender.compute)
        groups.setdefault(group, []).append(ratio)
    found = []
    for group, members in groups.items():
        main = [ratio for ratio in members if ratio.contender.method == OURS]
        others = [ratio for ratio in members if ratio.contender.method != OURS]
        # Ablations alone are what was asked about.
        shown, folded = (main, others) if main else (others, [])
        tables = {"rows": [_ratio(each) for each in shown], "others": [_ratio(each) for each in folded]}
        found.append({"title": title(comparison, group), **tables})
    return found


def effects(comparison: Comparison) -> dict[str, dict[str, Any] | None]:
    """Return a table of differences for each single choice; ``None`` for one that was not varied."""
    several = len({(outcome.cell.start, outcome.cell.compute) for outcome in comparison.outcomes}) > 1
    taught = teacher_effects(comparison)
    found = {
        "transfer": transfer_effects(comparison),
        "variants": variant_effects(comparison),
        "finetuning": finetuning_effects(comparison),
        "modes": [effect for effect in taught if effect.second is not None],
        "teachers": [effect for effect in taught if effect.second is None],
    }
    return {
        choice: {"several": several, "rows": [_effect(effect) for effect in each]} if each else None
        for choice, each in found.items()
    }


def failures(comparison: Comparison) -> list[dict[str, str]]:
    """Return the failed cells with their errors."""
    return [
        {
            "contender": contender_words(Contender.of(cell)),
            "place": title(comparison, Group(cell.labels, cell.start, cell.compute)),
            "seed": str(cell.seed),
            "error": outcome.error,
        }
        for outcome in comparison.outcomes
        for cell in [outcome.cell]
        if outcome.error is not None
    ]


def unfinished(comparison: Comparison) -> str:
    """Return how many of the planned cells are there; empty if all are, or if nobody knows how many were planned."""
    planned, done = comparison.about.get("planned") or 0, len(comparison.outcomes)
    return f"{whole(done)} of {plural(planned, 'planned run')}" if done < planned else ""


def measured(comparison: Comparison) -> list[tuple[str, str]]:
    """Return what was compared and on what, as far as it is known."""
    about = comparison.about
    seeds = sorted({outcome.cell.seed for outcome in comparison.outcomes})
    rows = [
        ("student", short_name(about["student"]) if about.get("student") else None),
        ("teacher", _teachers(about.get("teacher"))),
        *((f"variant {name}", _settings(changes)) for name, changes in (about.get("variants") or {}).items()),
        ("classes", _count(about.get("classes"))),
        (f"test {noun(about)}s", _count(about.get("test_images"))),
        *((f"transfer set {name}", _settings(how)) for name, how in (about.get("curated") or {}).items()),
        *(
            (f"{noun(about)}s of transfer set {name}", _count(images))
            for name, images in (about.get("transfer") or {}).items()
        ),
        ("seeds", ", ".join(map(str, seeds)) or None),
        ("device", _device(about.get("device"))),
        ("wall time", duration(about["seconds"]) if about.get("seconds") else None),
    ]
    return [(label, value) for label, value in rows if value is not None]


def mean_std(summary: Summary) -> str:
    """Return a mean with its deviation, which one run has not: ``62.0% ± 1.7``."""
    return percent(summary.mean) + (f" ± {100 * summary.std:.1f}" if summary.std is not None else "")


def interval(found: Interval | None) -> str:
    """Return an interval of a difference in points; empty where there is none."""
    return "" if found is None else f"{signed(found.low)} to {signed(found.high)}"


def runs(summary: Summary) -> str:
    """Return how many runs a mean is over, and how many there could be."""
    return f"{summary.runs}/{summary.runs + summary.failed}" if summary.failed else str(summary.runs)


def _result(summary: Summary) -> dict[str, Any]:
    spent, tuned = summary.pretraining, summary.finetuning
    modes = " or ".join(GROUPS.get(mode, (mode, ""))[0].lower() for mode in summary.teacher_modes)
    return {
        "method": summary.contender.method,
        "transfer": summary.contender.transfer,
        "variant": summary.contender.variant,
        "score": mean_std(summary),
        "seeds": [f"{100 * score:.1f}" for score in summary.scores.values()] if summary.runs > 1 else [],
        "runs": runs(summary),
        **_difference(summary.gain),
        "teacher": percent(summary.teacher) if summary.teacher is not None else "",
        "modes": modes if summary.teacher is not None else "",
        # No pretraining costs nothing, which a dash says better than 0.0 s.
        "flops": flops(spent.flops) if spent else MISSING,
        "seconds": duration(spent.seconds) if spent and spent.seconds else "",
        "finetuning": duration(tuned.seconds) if tuned and tuned.seconds else MISSING,
    }


def _ratio(ratio: ComputeRatio) -> dict[str, Any]:
    return {
        "contender": contender_words(ratio.contender),
        "rival": contender_words(ratio.rival),
        "score": percent(ratio.score),
        "runs": plural(ratio.runs, "seed"),
        "costs": [
            None if found is None else _reached(found, words)
            for found, words in ((ratio.flops, flops), (ratio.seconds, duration))
        ],
    }


def _reached(found: Reached, words: Callable[[float], str]) -> dict[str, str]:
    amounts = {"ours": found.ours, "rival": found.rival, "reached": found.rival_reached}
    return {"ratio": _less(found), **{name: words(amount) for name, amount in amounts.items()}}


def _less(found: Reached) -> str:
    """Return how much less or more ours needs; where its first checkpoint was good already, it may need even less."""
    if found.ratio >= 1:
        return f"{'at least ' if found.lower_bound else ''}{times(found.ratio)}\N{MULTIPLICATION SIGN} less"
    return f"{'at most ' if found.lower_bound else ''}{times(1 / found.ratio)}\N{MULTIPLICATION SIGN} more"


def _effect(effect: Effect) -> dict[str, Any]:
    first, second = effect.first, effect.second
    over = ""
    if second is not None and second.variant != first.variant:
        over = f"{first.variant} over {second.variant}"
        first = dataclasses.replace(first, variant="")
    elif second is not None and second.transfer != first.transfer:
        over = f"{first.transfer} over {second.transfer}"
        first = dataclasses.replace(first, transfer=None)
    budget = [] if first.compute == BEST else [first.compute]
    return {
        "who": contender_words(first),
        "over": over,
        "labels": effect.labels,
        "place": ", ".join([effect.labels, f"{first.start} weights", *budget]),
        "runs": str(effect.difference.runs),
        **_difference(effect.difference),
    }


def _difference(difference: Difference | None) -> dict[str, str]:
    if difference is None:
        return {"gain": MISSING, "interval": "", "resampled": ""}
    return {
        "gain": signed(difference.mean),
        "interval": interval(difference.t_interval),
        "resampled": interval(difference.bootstrap),
    }


def _count(value: int | None) -> str | None:
    return None if value is None else whole(value)


def _teachers(names: str | Sequence[str] | None) -> str | None:
    every = [names] if isinstance(names, str) else names or []
    return ", ".join(map(short_name, every)) or None


def _settings(changes: Mapping[str, Any]) -> str:
    """Return a variant's settings as they are typed, or what it is without any."""
    said = (f"{key}={value if isinstance(value, str) else json.dumps(value)}" for key, value in changes.items())
    return "; ".join(said) or "the recipe as it is"


def _device(name: str | None) -> str | None:
    return "CPU" if name == "cpu" else name
