"""What a run found, in sentences that the page and the terminal share."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tutelage.report.numbers import parameters, percent, plural
from tutelage.report.tasks import TASKS, TaskWords, noun, score, task_words

GROUPS = {
    "probe": ("Linear probe", "penalty"),
    "finetune": ("Finetuned", "peak rate"),
    "aft": ("Adaptive feature transfer", "β"),
    "kd": ("Feature distillation", "β"),
    "rkd": ("Relational distillation", "β"),
    "ft": ("Factor transfer", "β"),
    "b-tuning": ("B-Tuning", "β"),
}
"""How candidates' groups are called, and what tells their members apart."""


def group_words(data: Mapping[str, Any], group: str) -> tuple[str, str]:
    """Return how a group of a run's candidates is called, and what tells its members apart.

    Args:
        data: The content of ``results.json``.
        group: Its key.
    """
    return {**GROUPS, **task_words(data).groups}.get(group, (group, ""))


def short_name(name: str) -> str:
    """Return a model's name without its source: ``lcnet_050`` for ``timm:lcnet_050``.

    One that is made of others keeps what joins them: ``lcnet_050+2@bert`` for ``pair:timm:lcnet_050+cut:2@hf:bert``.
    """
    return re.sub(r"[^+@]*:", "", name)


def headline(data: Mapping[str, Any]) -> str:
    """Return a run's main result as one sentence.

    Args:
        data: The content of ``results.json``.
    """
    size = parameters(data["student"]["params"])
    who = f"{_article(size)} {size}-parameter {short_name(data['student']['name'])}"
    reaches = f"{who} reaches {task_words(data).reached}"
    test = data["metrics"]["test"]
    if test is None:
        held_out = percent(score(data, data["metrics"]["val"]))
        return f"{reaches}{held_out} on held-out labels; no test set was given"
    sentence = f"{reaches}{percent(score(data, test))} on {plural(data['images']['test'], f'test {noun(data)}')}"
    for name in data["baselines"]:
        return f"{sentence}, {_compared(gain(data, name))} the same student {baseline_words(data, name)}"
    return sentence


def verdict(data: Mapping[str, Any], name: str) -> str:
    """Return whether the method was worth it beside a baseline, as one sentence.

    Args:
        data: The content of ``results.json``.
        name: The baseline.
    """
    what = "Distillation" if distilled(data) else f"The method {data['method']}"
    other = f"the same student {baseline_words(data, name)}"
    if data["metrics"]["test"] is None:
        return f"Without test data nobody knows whether it beats {other}."
    gained = gain(data, name)
    if percent(abs(gained)) == percent(0):
        return f"{what} did not help here: it ended level with {other} (one seed)."
    if gained < 0:
        return f"{what} did not help here: it ended {_compared(gained)} {other} (one seed)."
    return f"{what} gained {_points(gained)} over {other} (one seed)."


def leaks(data: Mapping[str, Any]) -> list[str]:
    """Return a sentence on samples of the transfer set that may be the task's, if any were kept.

    Args:
        data: The content of ``results.json``; what an earlier version wrote knows of none.
    """
    problems = (data.get("problems") or {}).get("transfer") or {"counts": {}}
    found = problems["counts"].get("possible leak", 0)
    if not found:
        return []
    them = "them" if found > 1 else "it"
    return [
        f"The transfer set holds {plural(found, 'possible leak')} that nobody has decided on; scores may be better "
        f"than the student is. `tutelage review` shows {them}."
    ]


def collapses(data: Mapping[str, Any]) -> list[str]:
    """Return a sentence on each pretraining that collapsed, the method's own and those of baselines.

    Args:
        data: The content of ``results.json``; what an earlier version wrote knows of none.
    """
    found = {data["method"]: data.get("collapsed")}
    found |= {name: baseline.get("collapsed") for name, baseline in data["baselines"].items()}
    return [
        f"The pretraining of {name} collapsed: {why}. What was finetuned had learned next to nothing."
        for name, why in found.items()
        if why
    ]


def distilled(data: Mapping[str, Any]) -> bool:
    """Return whether the student learned from a teacher that had learned the task."""
    return isinstance(data["teacher"], Mapping)


def gain(data: Mapping[str, Any], name: str) -> float:
    """Return how much higher the student's primary metric is on the test set than a baseline's."""
    return score(data, data["metrics"]["test"]) - score(data, data["baselines"][name]["metrics"]["test"])


def baseline_words(data: Mapping[str, Any], name: str) -> str:
    """Return how a baseline made the student: ``trained from scratch``."""
    if name != "scratch":
        return f"made by {name}"
    return "trained from scratch" if data["start"] == "random" else "finetuned on the labels alone"


def usage(folder: Path, task: TaskWords = TASKS["classification"]) -> tuple[str, ...]:
    """Return the lines of Python that use a run's model."""
    # JSON's quoting is Python's too, for whatever a path may hold.
    where = json.dumps(folder.as_posix(), ensure_ascii=False)
    return ("import tutelage", f"model = tutelage.load_model({where})", task.use)


def printable(name: str) -> str:
    """Return a name without what would steer a terminal."""
    return "".join(each if each.isprintable() else "?" for each in name)


def _compared(gained: float) -> str:
    if percent(abs(gained)) == percent(0):
        return "level with"
    return f"{_points(abs(gained))} {'above' if gained > 0 else 'below'}"


def _points(share: float) -> str:
    return f"{100 * share:.1f} points"


def _article(number: str) -> str:
    """Return the article of a number as it is spoken: an 8M, an 11.2M, an 18k; a 0.58M, a 110M."""
    return "An" if re.match(r"8|1[18](?![\d,])|1[18],", number) else "A"
