"""The student beside its baselines and its teacher."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tutelage.report.finished import Finished
from tutelage.report.intervals import Interval, paired_difference, wilson
from tutelage.report.numbers import between, duration, flops, parameters, signed, whole
from tutelage.report.overlap import iou_difference, iou_interval
from tutelage.report.tasks import METRICS, noun, task_words
from tutelage.report.words import baseline_words, collapses, group_words, leaks, short_name, verdict


def models(run: Finished) -> list[dict[str, Any]]:
    """Return a row for the student, each baseline, and the teacher in each mode."""
    data = run.data
    tested = data["metrics"]["test"] is not None
    which = "test" if tested else "val"
    cost = data["cost"]
    shown = short_name(data["student"]["name"])
    student = _row(run, shown, "the student", data["metrics"][which], "evaluate", "student")
    rows = [student | _costs(data["student"]["params"], cost) | {"kind": "student"}]
    for name, baseline in data["baselines"].items():
        metrics, stage = baseline["metrics"][which], f"{name}-evaluate"
        row = _row(run, shown, baseline_words(data, name), metrics, stage, "student")
        rows.append(row | _costs(data["student"]["params"], baseline["cost"]) | {"kind": "baseline"})
    if "adapt" in run.stages:
        adapted = run.stages["adapt"]["results"]
        for mode, choice in adapted["modes"].items():
            metrics = data["teacher_metrics"][mode] if tested else choice["metrics"]
            note = f"the teacher, {group_words(data, mode)[0].lower()}"
            if mode == adapted["chosen"]:
                note += "; it taught the student"
            row = _row(run, short_name(data["teacher"]["name"]), note, metrics, "evaluate", mode)
            spent = _costs(data["teacher"].get("params"), run.stages[f"adapt-{mode}"]["cost"])
            rows.append(row | spent | {"kind": "teacher"})
    return rows


def verdicts(run: Finished) -> list[str]:
    """Return a sentence on the student beside each baseline, on each collapsed pretraining, and on kept leaks."""
    data, one = run.data, noun(run.data)
    tested = f"{whole(data['images']['test'])} test {one}s"
    sentences = []
    for name in data["baselines"]:
        sentence = verdict(data, name)
        interval = _difference(run, name)
        if interval == (0.0, 0.0):
            sentence += f" {one.capitalize()} by {one}, both are the same on these {tested}."
        elif interval is not None:
            chance = "" if interval.low > 0 or interval.high < 0 else ", so it may be chance"
            sentence += (
                f" Compared {one} by {one}, the difference on these {tested} has "
                f"a 95% interval of {signed(interval.low)} to {signed(interval.high)} points{chance}; another seed "
                "may move it."
            )
        sentences.append(sentence)
    return [*sentences, *collapses(data), *leaks(data)]


def _row(
    run: Finished, name: str, note: str, metrics: Mapping[str, float], stage: str, predicted: str
) -> dict[str, Any]:
    """Return a model's row.

    Args:
        run: The run.
        name: The model's.
        note: What model it is.
        metrics: What it reaches.
        stage: That keeps its predictions.
        predicted: Their name there.
    """
    words = task_words(run.data)
    interval = None if run.data["metrics"]["test"] is None else _interval(run, metrics, stage, predicted)
    return {
        "name": name,
        "note": note,
        "at": metrics[words.primary],
        "interval": interval,
        "score": words.metric.words(metrics[words.primary]),
        "range": "" if interval is None else between(*interval),
        "others": [METRICS[key].words(metrics[key]) for key in words.others],
    }


def _interval(run: Finished, metrics: Mapping[str, float], stage: str, predicted: str) -> Interval | None:
    """Return the interval of a model's primary metric; ``None`` where what it takes was not kept."""
    if not run.dense:
        images = run.data["images"]["test"]
        return wilson(round(metrics["accuracy"] * images), images)
    kept = run.predictions.get(stage)
    return None if kept is None else iou_interval(kept[predicted].numpy())


def _costs(params: int | None, cost: Mapping[str, Any]) -> dict[str, Any]:
    return {"params": parameters(params), "seconds": duration(cost["seconds"]), "flops": flops(cost["flops"])}


def _difference(run: Finished, name: str) -> Interval | None:
    """Return the interval of the student's lead over a baseline, image by image."""
    ours, theirs = run.predictions.get("evaluate"), run.predictions.get(f"{name}-evaluate")
    if ours is None or theirs is None:
        return None
    if run.dense:
        return iou_difference(ours["student"].numpy(), theirs["student"].numpy())
    right = ours["student"].argmax(1) == ours["targets"]
    other = theirs["student"].argmax(1) == theirs["targets"]
    return paired_difference(int((right & ~other).sum()), int((other & ~right).sum()), len(right))
