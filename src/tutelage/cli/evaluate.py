"""``tutelage evaluate``: what a finished model is worth on labeled data; no training library is loaded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.console import RenderableType

    from tutelage.runtime.inputs import Kind

SHOWN = 100
"""Rows of classes in the terminal, the lowest recall (or IoU) first; ``--json`` has all."""

SHOWN_PAIRS = 5


def evaluate(
    model: Annotated[str, typer.Argument(help="A run folder, its model/ folder, or an .onnx file.")],
    data: Annotated[
        str,
        typer.Argument(
            help="Labeled data, as the model reads them: a folder per class, images/ with masks/, a table, or "
            "a name (list data)."
        ),
    ],
    batch: Annotated[int, typer.Option(min=1, help="Samples that go through the model together.")] = 64,
    column: Annotated[
        list[str] | None,
        typer.Option("--column", help="What a column is called in your table, as in text=review; repeatable."),
    ] = None,
    int8: Annotated[bool, typer.Option("--int8", help="Use the quantized file, model.int8.onnx.")] = False,
    threads: Annotated[int | None, typer.Option(min=1, help="Threads; one a core if not given.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")] = False,
) -> None:
    """Evaluate a finished model on labeled data. Ends with 1 if a sample could not be read."""
    from rich.console import Console

    from tutelage.cli.columns import columns_of
    from tutelage.cli.console import Bars, err_console, print_json
    from tutelage.data.problems import USED, in_words, summarize
    from tutelage.data.readers import read_samples
    from tutelage.evaluation.classifier import evaluate_classifier
    from tutelage.evaluation.segmenter import evaluate_segmenter, read_masked
    from tutelage.report.numbers import plural
    from tutelage.report.words import printable
    from tutelage.runtime import Segmenter, open_model

    opened = open_model(model, int8=int8, threads=threads)
    dense = isinstance(opened, Segmenter)
    if dense:
        samples = read_masked(data, opened.classes)
    else:
        columns = columns_of(column or ())
        samples = read_samples(data, part="test", labeled=True, modality=opened.modality, columns=columns)
    console = err_console()
    with Bars(console).track("evaluate", len(samples)) as update:

        def done(images: int) -> None:
            update(images, {f"{opened.modality}s": images})

        if isinstance(opened, Segmenter):
            found = evaluate_segmenter(opened, samples, batch_size=batch, update=done)
        else:
            found = evaluate_classifier(opened, samples, batch_size=batch, update=done)
    found = {"model": str(opened.file), "data": data, **found}
    if as_json:
        print_json(found)
    else:
        Console(highlight=False).print(show_masks(found) if dense else show(found, opened.modality))
    for name, count in found["unknown_classes"].items():
        what = plural(count, "pixel" if dense else opened.modality)
        typer.echo(f"left out: {what} of {printable(name)!r}, which the model does not know", err=True)
    if lost := [problem for problem in samples.problems if problem.kind not in USED]:
        typer.echo(f"left out: {in_words(summarize(lost)['counts'])}, the first {printable(lost[0].where)}", err=True)
    for failure in found["failed"]:
        typer.echo(f"left out: {printable(failure['error'])}", err=True)
    if found["failed"]:
        raise typer.Exit(1)


def show(found: dict[str, Any], modality: Kind = "image") -> RenderableType:
    """Return an evaluation as people read it.

    Args:
        found: What :func:`tutelage.evaluation.classifier.evaluate_classifier` returns.
        modality: What the samples are.
    """
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    from tutelage.report.numbers import between, decimal, percent, plural, whole
    from tutelage.report.words import printable

    metrics = Table(box=None, pad_edge=False, show_header=False)
    accuracy = f"{percent(found['accuracy'])}  ({between(*found['accuracy_interval'])} with 95 % confidence)"
    metrics.add_row(f"{modality}s", whole(found["images"]))
    metrics.add_row("accuracy", accuracy, style="bold")
    metrics.add_row("macro F1", decimal(found["macro_f1"]))
    metrics.add_row("log-likelihood, negative", decimal(found["nll"]))
    metrics.add_row("calibration error", f"{decimal(found['calibration_error'])}  (15 bins)")
    classes = Table(box=None, pad_edge=False, header_style="dim")
    for title in ("class", f"{modality}s", "recall", "precision"):
        classes.add_column(title, justify="left" if title == "class" else "right", overflow="fold")
    judged = sorted(
        (row for row in found["classes"] if row["images"]), key=lambda row: (row["recall"], -row["images"])
    )
    for row in judged[:SHOWN]:
        numbers = (whole(row["images"]), percent(row["recall"]), percent(row["precision"]))
        classes.add_row(Text(printable(row["name"])), *numbers)
    lines: list[RenderableType] = [metrics, "", classes]
    if len(judged) > SHOWN:
        lines.append(Text(f"and {plural(len(judged) - SHOWN, 'class', 'classes')} with higher recall", "dim"))
    if absent := len(found["classes"]) - len(judged):
        lines.append(Text(f"{plural(absent, 'class', 'classes')} of the model without {modality}s here", "dim"))
    if found["confused"]:
        lines += ["", Text("most confused", "dim")]
    for pair in found["confused"][:SHOWN_PAIRS]:
        names = f"{printable(pair['class'])} taken for {printable(pair['taken_for'])}"
        lines.append(Text(f"{names}: {plural(pair['images'], modality)}"))
    return Group(*lines)


def show_masks(found: dict[str, Any]) -> RenderableType:
    """Return an evaluation on masks as people read it."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    from tutelage.report.numbers import percent, plural, whole
    from tutelage.report.words import printable

    metrics = Table(box=None, pad_edge=False, show_header=False)
    metrics.add_row("images", whole(found["images"]))
    metrics.add_row("mean IoU", percent(found["miou"]), style="bold")
    metrics.add_row("pixel accuracy", percent(found["pixel_accuracy"]))
    metrics.add_row("class accuracy", percent(found["class_accuracy"]))
    classes = Table(box=None, pad_edge=False, header_style="dim")
    for title in ("class", "pixels", "IoU", "recall", "precision"):
        classes.add_column(title, justify="left" if title == "class" else "right", overflow="fold")
    judged = sorted(
        (row for row in found["classes"] if row["iou"] is not None), key=lambda row: (row["iou"], -row["pixels"])
    )
    for row in judged[:SHOWN]:
        numbers = (percent(row[key]) for key in ("iou", "recall", "precision"))
        classes.add_row(Text(printable(row["name"])), whole(row["pixels"]), *numbers)
    lines: list[RenderableType] = [metrics, "", classes]
    if len(judged) > SHOWN:
        lines.append(Text(f"and {plural(len(judged) - SHOWN, 'class', 'classes')} with higher IoU", "dim"))
    if absent := len(found["classes"]) - len(judged):
        lines.append(Text(f"{plural(absent, 'class', 'classes')} of the model neither here nor predicted", "dim"))
    if found["confused"]:
        lines += ["", Text("most confused", "dim")]
    for pair in found["confused"][:SHOWN_PAIRS]:
        names = f"{printable(pair['class'])} taken for {printable(pair['taken_for'])}"
        lines.append(Text(f"{names}: {plural(pair['pixels'], 'pixel')}"))
    return Group(*lines)
