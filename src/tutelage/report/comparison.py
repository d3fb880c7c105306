"""The student beside its baselines and its teacher."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tutelage.report.finished import Finished
from tutelage.report.intervals import Interval, paired_difference, wilson
from tutelage.report.numbers import between, decimal, duration, flops, parameters, percent, signed, whole
from tutelage.report.words import GROUPS, baseline_words, collapses, short_name, verdict


def models(run: Finished) -> list[dict[str, Any]]:
    """Return a row for the student, each baseline, and the teacher in each mode."""
    data = run.data
    tested = data["metrics"]["test"] is not None
    which = "test" if tested else "val"
    cost = data["cost"]
    student = _row(run, short_name(data["student"]["name"]), "the student", data["metrics"][which])
    rows = [student | _costs(data["student"]["params"], cost) | {"kind": "student"}]
    for name, baseline in data["baselines"].items():
        row = _row(run, short_name(data["student"]["name"]), baseline_words(data, name), baseline["metrics"][which])
        rows.append(row | _costs(data["student"]["params"], baseline["cost"]) | {"kind": "baseline"})
    if "adapt" in run.stages:
        adapted = run.stages["adapt"]["results"]
        for mode, choice in adapted["modes"].items():
            metrics = data["teacher_metrics"][mode] if tested else choice["metrics"]
            note = f"the teacher, {GROUPS.get(mode, (mode, ''))[0].lower()}"
            if mode == adapted["chosen"]:
                note += "; it taught the student"
            row = _row(run, short_name(data["teacher"]["name"]), note, metrics)
            spent = _costs(data["teacher"].get("params"), run.stages[f"adapt-{mode}"]["cost"])
            rows.append(row | spent | {"kind": "teacher"})
    return rows


def verdicts(run: Finished) -> list[str]:
    """Return a sentence on the student beside each baseline, and on each pretraining that collapsed."""
    data = run.data
    sentences = []
    for name in data["baselines"]:
        sentence = verdict(data, name)
        interval = _difference(run, name)
        if interval is not None:
            chance = "" if interval.low > 0 or interval.high < 0 else ", so it may be chance"
            sentence += (
                f" Compared image by image, the difference on these {whole(data['images']['test'])} test images has "
                f"a 95% interval of {signed(interval.low)} to {signed(interval.high)} points{chance}; another seed "
                "may move it."
            )
        sentences.append(sentence)
    return [*sentences, *collapses(data)]


def _row(run: Finished, name: str, note: str, metrics: Mapping[str, float]) -> dict[str, Any]:
    interval = None
    if run.data["metrics"]["test"] is not None:
        images = run.data["images"]["test"]
        interval = wilson(round(metrics["accuracy"] * images), images)
    return {
        "name": name,
        "note": note,
        "at": metrics["accuracy"],
        "interval": interval,
        "accuracy": percent(metrics["accuracy"]),
        "range": "" if interval is None else between(*interval),
        "macro_f1": decimal(metrics["macro_f1"]),
        "nll": decimal(metrics["nll"]),
        "ece": decimal(metrics["calibration_error"]),
    }


def _costs(params: int | None, cost: Mapping[str, Any]) -> dict[str, Any]:
    return {"params": parameters(params), "seconds": duration(cost["seconds"]), "flops": flops(cost["flops"])}


def _difference(run: Finished, name: str) -> Interval | None:
    """Return the interval of the student's lead over a baseline, from the images that just one of them got right."""
    ours, theirs = run.predictions.get("evaluate"), run.predictions.get(f"{name}-evaluate")
    if ours is None or theirs is None:
        return None
    right = ours["student"].argmax(1) == ours["targets"]
    other = theirs["student"].argmax(1) == theirs["targets"]
    return paired_difference(int((right & ~other).sum()), int((other & ~right).sum()), len(right))
