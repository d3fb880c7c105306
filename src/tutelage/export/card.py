"""The model card: what a model is, how it came to be, what it is worth, and how to run it without Tutelage."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tutelage.export.usage import MASK_SCRIPT, USES
from tutelage.report.tasks import TASKS, TaskWords
from tutelage.runtime.model import SEGMENTATION

UNKNOWN = "not recorded"

SHOWN_CLASSES = 100
"""How many class names a card spells out; the rest is in ``model.json``."""

TOKENIZERS = ", and that of the tokenizer, which is the model's that the student was built from"


def model_card(data: Mapping[str, Any]) -> str:
    """Return MODEL_CARD.md for a finished run.

    Args:
        data: The run's results (``task, method, start, seed, teacher, student, labels, images, metrics,
            teacher_metrics, cost``) with ``classes`` (names) and ``preprocess`` (plain data). ``teacher`` is one
            mapping, a list of them, or ``None``; teachers and student hold what is known of their origin, such as
            ``license``. ``images`` counts the samples of each split, and ``modality`` says what they are (images if
            it is missing). Where there are any: ``data`` (origin and images of
            each part), ``intervals``, ``class_iou`` (of the test images, by class), ``export``, ``exported``,
            ``latency``, ``problems`` and ``recipe`` (YAML).
            What is missing is called so.
    """
    student = data.get("student") or {}
    classes = [str(name) for name in data.get("classes") or ()]
    dense = data.get("task") == SEGMENTATION
    words = TASKS[SEGMENTATION if dense else "classification"]
    reads = str(data.get("modality") or "image")
    used = USES[reads]
    count = f"{len(classes)} classes"
    told = f"It tells the class of every pixel, one of {count}" if dense else f"It tells {count} apart"
    parts = [
        f"# {_text(student.get('name'))} for {_text(data.get('task'))}",
        f"A small model for {_text(data.get('task'))}, made with Tutelage. {told}:",
        _class_names(classes),
        "## How it was made",
        _table(("", ""), _origin(data)),
        "## Data",
        _table(("part", f"{reads}s", "origin"), _origins(data)),
        *_problems(data.get("problems") or {}),
        "## What it is worth",
        _table(("data", f"{reads}s", "metric", "value", "95 % interval"), _metrics(data)),
        *_class_iou(data.get("class_iou") or {}),
        "## Files",
        _table(("form", "bytes", "check", f"test {words.metric.name}"), _forms(data, words)),
        *_int8(data, words),
        *_latency(data.get("latency")),
        "## What it cost",
        _table(("stage", "seconds", f"{reads}s", "FLOPs"), _cost(data.get("cost") or {})),
        "## Limits",
        "\n".join(f"- {line}" for line in limits(data)),
        "## License",
        "The weights made here are under the Apache License 2.0 (Apache-2.0). Weights that they started from, and "
        "the teacher that they learned from, have licenses of their own (above, where known), whose terms may apply "
        f"to this model as well; so may those of the {reads}s{TOKENIZERS * (reads != 'image')}. Read them before you "
        "publish or sell it.",
        "## Use",
        f"`model.onnx` takes {used.takes}, and gives "
        f"{'`mask` [batch, height, width], class numbers' if dense else '`logits`'}.{used.inside}",
        _table(("setting", "value"), _settings(data.get("preprocess") or {})),
        f"With `pip install {used.packages}` and nothing else:",
        f"```python\n{MASK_SCRIPT if dense else used.script}```",
        "With Tutelage, from the run's folder:",
        "```python\nimport tutelage\n\n"
        f'print(tutelage.load_model("model").{"segment" if dense else "predict"}({used.example}))\n```',
        *_recipe(data.get("recipe")),
    ]
    return "\n\n".join(parts) + "\n"


def _class_names(classes: Sequence[str]) -> str:
    shown = ", ".join(_text(name) for name in classes[:SHOWN_CLASSES]) or UNKNOWN
    rest = len(classes) - SHOWN_CLASSES
    return f"{shown}, and {rest} more (all in `model.json`)." if rest > 0 else f"{shown}."


def _origin(data: Mapping[str, Any]) -> list[tuple[str, ...]]:
    teachers = data.get("teacher") or []
    teachers = [teachers] if isinstance(teachers, Mapping) else teachers
    rows: list[tuple[str, ...]] = [(key, _text(data.get(key))) for key in ("task", "method", "start", "seed")]
    rows.append(("labels used", _text(data.get("labels"))))
    rows += [("teacher", _model(teacher)) for teacher in teachers] or [("teacher", "none")]
    rows.append(("student", _model(data.get("student") or {})))
    return rows


def _model(entry: Mapping[str, Any]) -> str:
    known = dict(entry)
    parts = [_text(known.pop("name", None))]
    if (params := known.pop("params", None)) is not None:
        parts.append(f"{_number(params)} parameters")
    parts.append(f"license: {_text(known.pop('license', None))}")
    parts += [f"{_text(key)}: {_text(value)}" for key, value in known.items()] or [f"source: {UNKNOWN}"]
    return "; ".join(parts)


def _origins(data: Mapping[str, Any]) -> list[tuple[str, ...]]:
    return [
        (_text(part), _number(found.get("images")), _text(found.get("origin")))
        for part, found in (data.get("data") or {}).items()
    ]


def _problems(problems: Mapping[str, Any]) -> list[str]:
    rows = [
        (_text(part), _text(kind), _number(count))
        for part, found in problems.items()
        for kind, count in (found.get("counts") or {}).items()
    ]
    return ["What was left out or set right:", _table(("part", "problem", "count"), rows)] if rows else []


def _metrics(data: Mapping[str, Any]) -> list[tuple[str, ...]]:
    counts, intervals = data.get("images") or {}, data.get("intervals") or {}
    groups = [
        (split, counts.get(split), metrics, intervals.get("student") if split == "test" else None)
        for split, metrics in (data.get("metrics") or {}).items()
    ]
    for mode, metrics in (data.get("teacher_metrics") or {}).items():
        groups.append((f"test, by the teacher ({mode})", counts.get("test"), metrics, intervals.get(mode)))
    return [
        (_text(group), _number(count), _text(name), _text(value), _interval((known or {}).get(name)))
        for group, count, metrics, known in groups
        for name, value in (metrics or {}).items()
    ]


def _interval(ends: Sequence[float] | None) -> str:
    return "" if ends is None else f"{ends[0]:.4g} to {ends[1]:.4g}"


def _class_iou(found: Mapping[str, float | None]) -> list[str]:
    """Return the table of each class's intersection over union; one that is nowhere has none."""
    rows = [(_text(name), "" if value is None else _text(value)) for name, value in found.items()]
    return ["Intersection over union by class, on the test images:", _table(("class", "IoU"), rows)] if rows else []


def _forms(data: Mapping[str, Any], words: TaskWords) -> list[tuple[str, ...]]:
    tested = data.get("exported") or {}
    pixels = "the pixels of " if words.dense else ""
    rows: list[tuple[str, ...]] = []
    for name, found in (data.get("export") or {}).items():
        if found.get("kept") is False:
            check = f"**not kept**: {_text(found.get('why'))}"
        elif "agreement" in found:
            images = f"{pixels}{_number(found['images'])} {data.get('modality') or 'image'}s"
            check = f"passed: the float file's class on {found['agreement']:.1%} of {images}"
        elif "parity" in found:
            check = f"the trained model's logits to {found['parity']:.1e} of the largest"
        else:
            check = "made from a form above"
        value = (tested.get(name) or {}).get(words.primary)
        rows.append((_text(name), _number(found.get("bytes")), check, "" if value is None else _text(value)))
    return rows


def _int8(data: Mapping[str, Any], words: TaskWords) -> list[str]:
    loss = (data.get("exported") or {}).get("int8_loss")
    if loss is None:
        return []
    images = _number(data["exported"].get("images"))
    effect = "loses" if loss >= 0 else "gains"
    return [
        f"On {images} test {data.get('modality') or 'image'}s INT8 {effect} {abs(loss):.2%} of {words.metric.name}."
    ]


def _latency(timed: Mapping[str, Any] | None) -> list[str]:
    if not timed or not timed.get("rows"):
        return []
    rows = [
        (
            *(_text(row[key]) for key in ("model", "runtime", "threads")),
            *(f"{row[key]:.3g}" for key in ("p50_ms", "p95_ms")),
            *(_number(row[key]) for key in ("runs", "bytes")),
        )
        for row in timed["rows"]
    ]
    return [
        "## How fast it is",
        f"One {_timed(timed)} at a time, preprocessing included, on {_text(timed['machine'])}:",
        _table(("model", "runtime", "threads", "median ms", "95 % below, ms", "runs", "bytes"), rows),
    ]


def _timed(timed: Mapping[str, Any]) -> str:
    """Return what was timed, in words."""
    parts = []
    if "image" in timed:
        height, width = timed["image"]
        parts.append(f"image of {height} by {width} pixels")
    if "tokens" in timed:
        parts.append(f"text of {timed['tokens']} tokens ({timed['characters']} characters)")
    return " with a ".join(parts)


def _settings(preprocess: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Return the rows of a preprocess; those of both parts of one for pairs."""
    rows: list[tuple[str, ...]] = []
    for key, value in preprocess.items():
        if isinstance(value, Mapping):
            rows += [(f"{_text(key)}: {name}", shown) for name, shown in _settings(value)]
        else:
            # A template may hold line breaks, which a table has no place for.
            rows.append((_text(key), _text(json.dumps(value) if key == "template" else value)))
    return rows


def _recipe(recipe: str | None) -> list[str]:
    """Return the recipe in a fence that no line of it can close."""
    if not recipe:
        return []
    longest = max((len(run) for run in re.findall(r"`+", recipe)), default=0)
    fence = "`" * max(3, longest + 1)
    return [
        "## Recipe",
        f"The same run again: `tutelage transfer recipe.yaml`.\n\n{fence}yaml\n{recipe.rstrip()}\n{fence}",
    ]


def _cost(cost: Mapping[str, Any]) -> list[tuple[str, ...]]:
    return [
        (_text(row.get("name")), *(_number(row.get(key)) for key in ("seconds", "images", "flops")))
        for row in (*cost.get("stages", ()), {**cost, "name": "all"})
    ]


ALWAYS = (
    "It always answers with one of its classes, also for {stranger}, and its probabilities are not calibrated unless "
    "a table above says so."
)
"""What answers do not say."""

PIXELS = (
    "It calls every pixel one of its classes, also where an image shows none of them. It looks at whole images, made "
    "small enough for its input: what is small in a large image may be lost."
)
"""The same where every pixel is told."""


def limits(data: Mapping[str, Any]) -> list[str]:
    """Return what the numbers of a run do not say, one sentence or two a line."""
    tested = (data.get("images") or {}).get("test")
    reads = str(data.get("modality") or "image")
    used = USES[reads]
    lines = [
        f"It was evaluated on {_number(tested)} test {reads}s."
        if tested
        else f"It was not evaluated on test {reads}s; treat its quality as unknown.",
        f"The numbers above hold for {reads}s like those test {reads}s alone. {used.others} can lower them without "
        f"warning; evaluate it on your own {reads}s first.",
        PIXELS if data.get("task") == SEGMENTATION else ALWAYS.format(stranger=used.stranger),
        f"It may have taken over errors and biases of its teacher, of the unlabeled {reads}s and of the few labels.",
    ]
    if reads != "image":
        lines.append("Nothing was recorded of the languages of its texts: take it to know those of its data alone.")
    if isinstance(data.get("teacher"), Mapping):  # adapted to the task; teachers in a list gave features alone
        lines.append(
            "Its held-out (val) numbers are optimistic where no validation data were given: those labels taught its "
            "teacher. They ranked settings; judge it by the test numbers."
        )
    return lines


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *(list(rows) or [[UNKNOWN] + [""] * (len(head) - 1)])]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _number(value: float | None) -> str:
    """Return a count, seconds or FLOPs as people read them."""
    if value is None:
        return UNKNOWN
    whole = value == int(value) or value >= 1000
    return f"{value:,.0f}" if whole and value < 1e9 else f"{value:.3g}"


def _text(value: Any) -> str:
    """Return a value as Markdown that is shown as it is: in one line, nothing in it read as markup."""
    if value is None or value == "":
        return UNKNOWN
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{_text(key)}: {_text(item)}" for key, item in value.items()) or "none"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(_text(item) for item in value) or "none"
    line = html.escape(" ".join(str(value).split()), quote=False)
    return re.sub(r"([\\`*_\[\]|~])", r"\\\1", line)
