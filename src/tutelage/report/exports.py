"""The files that a run leaves: how large, how true to the trained model, and how fast."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tutelage.report.finished import Finished
from tutelage.report.numbers import MISSING, milliseconds, percent, plural, size, times, whole
from tutelage.report.tasks import noun, score, task_words

FORMS = {"onnx": "ONNX", "torch": "torch.export", "int8": "ONNX, INT8"}
"""How exported forms are called; others go by their own names."""

MODELS = {"student": "Student", "student int8": "Student, INT8", "teacher": "Teacher"}
"""How timed models are called, in the order of the table; others go by their own names, after these."""


def forms(run: Finished) -> list[dict[str, str]]:
    """Return a row for each exported form."""
    exported = run.stages["export"]["results"] if "export" in run.stages else {}
    tested = run.data.get("exported") or {}
    rows = []
    for name, form in exported.items():
        metrics = tested.get(name)
        rows.append(
            {
                "name": FORMS.get(name, name),
                "size": size(form.get("bytes")),
                "score": percent(score(run.data, metrics)) if metrics else MISSING,
                "check": _check(form, dense=run.dense, of=noun(run.data)),
                "kept": "" if form.get("kept", True) else "not kept",
            }
        )
    return rows


def sentences(run: Finished) -> list[str]:
    """Return what INT8 costs, and why it was not kept if it was not."""
    found = []
    loss = (run.data.get("exported") or {}).get("int8_loss")
    if loss is not None:
        name = task_words(run.data).metric.name
        if percent(abs(loss)) == percent(0):
            found.append(f"INT8 costs no {name} on the test {noun(run.data)}s.")
        else:
            effect = "costs" if loss > 0 else "gains"
            found.append(f"INT8 {effect} {100 * abs(loss):.1f} points of {name} on the test {noun(run.data)}s.")
    int8 = run.stages.get("export", {}).get("results", {}).get("int8")
    if int8 and not int8.get("kept", True):
        of = "pixels" if run.dense else f"{noun(run.data)}s"
        why = int8.get("why") or f"it agrees with the float file on {percent(int8.get('agreement'))} of the {of}"
        found.append(f"The INT8 form was not kept: {str(why).rstrip('.')}.")
    return found


def latency(run: Finished) -> dict[str, Any] | None:
    """Return a table of times: a row for each model and runtime, a column for each number of threads."""
    timed = run.data.get("latency")
    if not timed or not timed["rows"]:
        return None
    measured: Sequence[Mapping[str, Any]] = timed["rows"]
    threads = sorted({row["threads"] for row in measured})
    order = list(MODELS)
    known = {(row["model"], row["runtime"]): row for row in measured}
    keys = sorted(known, key=lambda key: order.index(key[0]) if key[0] in order else len(order))
    cells = {(row["model"], row["runtime"], row["threads"]): row for row in measured}
    rows = [
        {
            "name": MODELS.get(model, model),
            "kind": model if model in MODELS else "",
            "runtime": runtime,
            "size": size(known[model, runtime].get("bytes")),
            "times": [_time(cells.get((model, runtime, number))) for number in threads],
        }
        for model, runtime in keys
    ]
    runs = sorted({row["runs"] for row in measured})
    return {
        "heads": [plural(number, "thread") for number in threads],
        "rows": rows,
        "what": _timed_input(timed),
        "machine": timed.get("machine") or "",
        "runs": whole(runs[0]) if len(runs) == 1 else f"{whole(runs[0])} to {whole(runs[-1])}",
        "sentence": faster(measured, threads[0]),
    }


def faster(rows: Sequence[Mapping[str, Any]], threads: int) -> str:
    """Return how many times as fast as its teacher a student is; empty unless one runtime timed both so."""
    medians = {(row["model"], row["runtime"]): row["p50_ms"] for row in rows if row["threads"] == threads}
    for (model, runtime), student in medians.items():
        teacher = medians.get(("teacher", runtime))
        if model != "student" or not teacher or not student:
            continue
        on = plural(threads, "thread")
        if student > teacher:
            return f"On {on} the student takes {times(student / teacher)} times as long as its teacher."
        return f"On {on} the student is {times(teacher / student)} times as fast as its teacher."
    return ""


def _timed_input(timed: Mapping[str, Any]) -> str:
    """Return what was timed: an image of some size, a text of some length, or one of each."""
    parts = []
    if timed.get("image"):
        height, width = timed["image"]
        parts.append(f"image of {whole(height)} \N{MULTIPLICATION SIGN} {whole(width)} pixels")
    if timed.get("tokens"):
        parts.append(f"text of {plural(timed['tokens'], 'token')}")
    return " with a ".join(parts) or "sample"


def _time(row: Mapping[str, Any] | None) -> tuple[str, str]:
    return (MISSING, "") if row is None else (milliseconds(row["p50_ms"]), milliseconds(row["p95_ms"]))


def _check(form: Mapping[str, Any], *, dense: bool, of: str) -> str:
    """Return how far a form's answers are from those of what it was made from."""
    if form.get("agreement") is not None:
        pixels = " of the pixels" if dense else ""
        images = f"{pixels} of {plural(form['images'], f'unlabeled {of}')}" if form.get("images") else pixels
        return f"the float file's answer on {percent(form['agreement'])}{images}"
    parity = form.get("parity")
    if parity is None:
        return MISSING
    return f"the trained model's outputs, within {parity:.0e} of the largest"
