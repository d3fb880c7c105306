"""What the page's sections show, as plain data with formatted numbers; the template only lays it out."""

from __future__ import annotations

from typing import Any

from tutelage.methods.pretraining import UNLABELED
from tutelage.methods.pseudo_label import MOST_ROUNDS
from tutelage.report import confusion
from tutelage.report.finished import Finished
from tutelage.report.intervals import wilson
from tutelage.report.numbers import (
    MISSING,
    between,
    decimal,
    duration,
    flops,
    parameters,
    percent,
    plural,
    size,
    whole,
)
from tutelage.report.pictures import curve
from tutelage.report.tasks import METRICS, noun, task_words
from tutelage.report.words import group_words

MATRIX_CLASSES = 40
"""Most classes whose confusion matrix can be read."""

SHOWN_PAIRS = 20
SHOWN_CLASSES = 20
"""Rows of a long table that are shown at first sight."""


def facts(run: Finished) -> list[tuple[str, str]]:
    """Return the numbers that matter most, each with what it is."""
    data, cost, words = run.data, run.data["cost"], task_words(run.data)
    test, labels = data["metrics"]["test"], data["labels"]
    shown = (f"on test {noun(data)}s", test) if test else ("on held-out labels", data["metrics"]["val"])
    onnx = (data.get("export") or {}).get("onnx", {}).get("bytes")
    learned = any(name in run.stages for name in UNLABELED)
    unlabeled = f", {plural(data['images']['transfer'], f'unlabeled {noun(data)}')}" if learned else ""
    return [
        (words.metric.words(shown[1][words.primary]), f"{words.metric.name} {shown[0]}"),
        (parameters(data["student"]["params"]), f"parameters, {size(onnx)} as ONNX" if onnx else "parameters"),
        (
            whole(labels["images"]),
            f"{words.labels} {plural(labels['classes'], 'class', 'classes')}{unlabeled}",
        ),
        (duration(cost["seconds"]), f"in all, {flops(cost['flops'])}FLOP on {_device(run)}"),
    ]


def candidates(run: Finished) -> list[dict[str, Any]]:
    """Return a table for each stage that chose: all its candidates, the best first."""
    tables, words = [], task_words(run.data)
    for name, stage in run.stages.items():
        results = stage["results"]
        if "judged" not in results or "chosen" not in results:  # those of a mode are all where modes are chosen
            continue
        kept = list(results["modes"].values()) if "modes" in results else [results["chosen"]]
        rows = []
        for choice in results["judged"]:
            group, setting = group_words(run.data, choice["group"])
            mark = ""
            if choice in kept:
                mark = "chosen"
                if "modes" in results:
                    mark = "teaches" if choice["group"] == results["chosen"] else "best of its kind"
            rows.append(
                {
                    "group": group,
                    "setting": f"{setting} {choice['candidate'].removeprefix(choice['group'] + '-')}".strip(),
                    "variant": {"raw": "last", "average": "averaged"}.get(choice["variant"], choice["variant"]),
                    "scores": [METRICS[key].words(choice["metrics"][key]) for key in (words.primary, *words.judged)],
                    "mark": mark,
                }
            )
        tables.append({"title": stage_title(name, noun(run.data)), "rows": rows})
    return tables


def curves(run: Finished) -> list[dict[str, str]]:
    """Return the loss curve of each phase."""
    found: list[dict[str, str]] = []
    for name, phases in run.histories.items():
        for points in phases.values():
            steps, losses = [point["step"] for point in points], [point["loss"] for point in points]
            if len(points) > 1:
                caption = f"{plural(int(steps[-1]), 'step')}, last loss {decimal(losses[-1])}{_watched(run, name)}"
                found.append(
                    {"title": stage_title(name, noun(run.data)), "caption": caption, "picture": curve(steps, losses)}
                )
    return found


def errors(run: Finished) -> dict[str, Any] | None:
    """Return where the student errs on the test set: matrix or pairs, and classes; ``None`` without logits."""
    predictions = run.predictions.get("evaluate")
    if predictions is None or run.dense:
        return None
    names = run.stages["data"]["results"]["classes"]
    targets, predicted = predictions["targets"].numpy(), predictions["student"].argmax(1).numpy()
    matrix = []
    if len(names) <= MATRIX_CLASSES:
        counts = confusion.confusion_matrix(targets, predicted, len(names))
        shares = counts / counts.sum(1, keepdims=True).clip(1)
        matrix = [
            [
                (int(count), f"{share:.2f}", " strong" if share > 0.75 else " middle" if share > 0.5 else "")
                for count, share in zip(*row, strict=True)
            ]
            for row in zip(counts, shares, strict=True)
        ]
    classes = [_class_row(row, names) for row in confusion.class_counts(targets, predicted, len(names))]
    pairs = confusion.confused_pairs(targets, predicted)
    return {
        "names": names,
        "longest": max(map(len, names)),
        "matrix": matrix,
        "pairs": [(names[true], names[taken], whole(count)) for true, taken, count in pairs[:SHOWN_PAIRS]],
        "hardest": classes if len(classes) <= MATRIX_CLASSES else classes[:SHOWN_CLASSES],
        "others": [] if len(classes) <= MATRIX_CLASSES else classes[SHOWN_CLASSES:],
        "wrong": whole(int((targets != predicted).sum())),
        "images": plural(len(targets), f"test {noun(run.data)}"),
    }


def costs(run: Finished) -> list[dict[str, str]]:
    """Return what each stage cost, with a total."""
    spent = [(name, stage["cost"]) for name, stage in run.stages.items() if stage["cost"].get("seconds")]
    rows = [
        {
            "title": stage_title(name, noun(run.data)),
            "seconds": duration(cost["seconds"]),
            "images": whole(cost["images"] or None),
            "flops": flops(cost["flops"]),
            "waiting": percent(cost["waiting"] / cost["seconds"] if cost["waiting"] else None),
            "memory": size(cost["peak_memory"]),
            "device": cost["device"] or MISSING,
        }
        for name, cost in spent
    ]
    seconds, operations = (sum(cost[key] for _, cost in spent) for key in ("seconds", "flops"))
    total = {
        "title": "All, baselines included" if run.data["baselines"] else "All",
        "seconds": duration(seconds),
        "flops": flops(operations),
    }
    return [*rows, total | dict.fromkeys(("images", "waiting", "memory", "device"), "")]


def images(run: Finished) -> list[tuple[str, str]]:
    """Return how many samples each part of the data has."""
    counts, many = run.data["images"], f"{noun(run.data)}s"
    words = {"labeled": task_words(run.data).trained_on, "validation": f"validation {many}", "test": f"test {many}"}
    if "distill" in run.stages:
        words["transfer"] = f"unlabeled {many} to distill on"
    if "self-distill" in run.stages:
        words["transfer"] = f"unlabeled {many} to pretrain on"
    if "label-2" in run.stages:
        first = "pretrain on, and to " if "self-distill" in run.stages else ""
        words["transfer"] = f"unlabeled {many} to {first}pseudo-label"
    if "pretrain" in run.stages:
        words["pretraining"] = f"labeled {many} of another task to pretrain on"
    if "align" in run.stages:
        words["pairs"] = "images with a text to pretrain on"
    rows = [(label, whole(counts[part]) if counts[part] else "none given") for part, label in words.items()]
    if "targets" in run.stages:
        stored = run.stages["targets"]["results"]
        seen = f"{stored['views']}, stored" if stored["mode"] == "cached" else "new ones in every epoch"
        rows.append(("views of each that the teacher saw", seen))
    if "align" in run.stages and run.stages["align"]["results"]["cut"]:
        rows.append(("texts longer than the text tower reads", whole(run.stages["align"]["results"]["cut"])))
    rows.append(("classes", whole(run.data["labels"]["classes"])))
    if counts["test"] or counts["validation"]:
        held = {"validation": "test"}  # what it must share no image with
        rows += [
            (f"{part} {many} left out as copies of {held.get(part, 'test or validation')} {many}", whole(count))
            for part, count in counts["dropped"].items()
            if counts[part]
        ]
    return rows


def judged_on(run: Finished) -> str:
    """Return which labels settings were chosen on."""
    counts = run.data["images"]
    if counts["validation"]:
        return f"on the {plural(counts['validation'], f'validation {noun(run.data)}')}"
    return f"on labels held out, in turn, of the {whole(counts['labeled'])} for training"


def _class_row(row: confusion.ClassCount, names: list[str]) -> dict[str, Any]:
    if not row.images:
        return {
            "name": names[row.number],
            "images": "0",
            "share": None,
            "accuracy": MISSING,
            "range": "",
            "taken_for": "",
        }
    interval = wilson(row.correct, row.images)
    taken_for = "" if row.taken_for is None else f"{names[row.taken_for]} ({row.mistaken})"
    return {
        "name": names[row.number],
        "images": whole(row.images),
        "share": row.correct / row.images,
        "accuracy": percent(row.correct / row.images),
        "range": between(*interval),
        "taken_for": taken_for,
    }


def stage_title(stage: str, one: str = "image") -> str:
    """Return what a stage does, as a title; a baseline's stages have its name in front.

    Args:
        stage: Its name.
        one: What a sample is called.
    """
    words = {
        "curate": "Curate the transfer set",
        "adapt-probe": "Probe the teacher",
        "adapt-finetune": "Finetune the teacher",
        "adapt": "Adapt the teacher",
        "pretrain": "Pretrain on labels",
        "targets": "Store the teacher's targets",
        "features": "Store the teachers' features",
        "rate": "Choose the learning rate",
        "distill": "Distill",
        "self-distill": "Distill the student from itself",
        "align": "Pretrain on images and their texts",
        "finetune": "Finetune the student",
        **{f"label-{number}": f"Label unlabeled {one}s for round {number}" for number in range(2, MOST_ROUNDS + 1)},
        **{f"train-{number}": f"Train round {number}" for number in range(2, MOST_ROUNDS + 1)},
        "judge": "Judge the distilled student",
        "point": "Finetune checkpoints on the way",
        "evaluate": "Evaluate",
        "export": "Export",
        "exported": "Evaluate what was exported",
        "latency": f"Time one {one}",
    }
    if stage in words:
        return words[stage]
    # A baseline's name may have dashes too; its stage is the longest name that fits.
    rest = max((name for name in words if stage.endswith(f"-{name}")), key=len, default="")
    return f"Baseline {stage.removesuffix(f'-{rest}')}: {words[rest].lower()}" if rest else stage.capitalize()


def _watched(run: Finished, stage: str) -> str:
    """Return what was watched of a stage's outputs, if something was."""
    results = run.stages[stage]["results"]
    if "teacher_entropy" not in results:
        return ""
    found = f"; at the end, teacher's entropy {percent(results['teacher_entropy'])} of the largest"
    return f"{found}, spread of embeddings {decimal(results['spread'])} of 1"


def _device(run: Finished) -> str:
    devices = dict.fromkeys(row["device"] for row in run.data["cost"]["stages"] if row["device"])
    return ", ".join("the CPU" if device == "cpu" else device for device in devices) or "no device"
