"""How each task is spoken of: what its metrics are called, which of them a table shows, and what they mean."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from tutelage.report.numbers import decimal, percent


@dataclass(frozen=True)
class Metric:
    """How a metric is written.

    Attributes:
        name: In a sentence.
        title: Over a column.
        words: Formats a value.
    """

    name: str
    title: str
    words: Callable[[float | None], str] = percent


METRICS = {
    "accuracy": Metric("accuracy", "Accuracy"),
    "macro_f1": Metric("macro F1", "Macro F1", decimal),
    "likelihood": Metric("likelihood of the labels", "Likelihood of the labels"),
    "nll": Metric("negative log-likelihood", "NLL", decimal),
    "calibration_error": Metric("expected calibration error", "ECE", decimal),
    "miou": Metric("mean IoU", "Mean IoU"),
    "pixel_accuracy": Metric("pixel accuracy", "Pixel accuracy"),
    "class_accuracy": Metric("class accuracy", "Class accuracy"),
}


@dataclass(frozen=True)
class TaskWords:
    """How a task is spoken of.

    Attributes:
        primary: Key of the metric that models are chosen by, a share in 0..1.
        others: Keys of what the table of models shows beside it.
        judged: Keys of what the tables of candidates show beside it.
        reached: Goes before the primary metric's value in a sentence.
        chosen_by: What settings are chosen by.
        interval: What the primary metric's interval is.
        explained: What the metrics mean, in sentences.
        labels: What labels are, before how many classes there are.
        trained_on: What there is to train on.
        gives: What the exported file does.
        use: The last line of Python that uses ``model``.
        dense: Whether every pixel is told apart.
        groups: How groups of candidates are called, and what tells members apart, where the task has it otherwise.
    """

    primary: str
    others: tuple[str, ...]
    judged: tuple[str, ...]
    reached: str
    chosen_by: str
    interval: str
    explained: str
    labels: str
    trained_on: str
    gives: str
    use: str
    dense: bool = False
    groups: Mapping[str, tuple[str, str]] = field(default_factory=dict)

    @property
    def metric(self) -> Metric:
        """How the primary metric is written."""
        return METRICS[self.primary]


TASKS = {
    "classification": TaskWords(
        primary="accuracy",
        others=("macro_f1", "nll", "calibration_error"),
        judged=("macro_f1", "nll"),
        reached="",
        chosen_by="accuracy, then likelihood",
        interval="95% Wilson interval",
        explained="NLL is the mean negative log-likelihood, ECE the expected calibration error (15 bins): lower is "
        "better for both.",
        labels="labels in",
        trained_on="labels to train on",
        gives="takes pixels of any size and has its preprocessing inside",
        use='print(model.predict("picture.png"))',
    ),
    "segmentation": TaskWords(
        primary="miou",
        others=("pixel_accuracy", "class_accuracy"),
        judged=("pixel_accuracy", "class_accuracy"),
        reached="a mean IoU of ",
        chosen_by="mean IoU",
        interval="95% bootstrap interval over test images",
        explained="The IoU of a class is intersection over union: of the pixels that are of it or are told to be, "
        "the share that are both; its mean is over the classes that occur. Pixel accuracy is the share of pixels "
        "told right, class accuracy the mean of that over the true classes. Ignored pixels count nowhere.",
        labels="masks of",
        trained_on="images with masks to train on",
        gives="takes pixels of any size, has its preprocessing inside, and gives the class of every pixel",
        use='(mask,) = model.segment("picture.png")',
        dense=True,
        groups={"probe": ("Head alone", "peak rate")},
    ),
}


READS = {
    "text": replace(
        TASKS["classification"],
        gives="takes the tokens that model/tokenizer makes of a text",
        use='print(model.predict("a text to classify"))',
    ),
    "pair": replace(
        TASKS["classification"],
        gives="takes pixels of any size, and the tokens that model/tokenizer makes of a text",
        use='print(model.predict(("picture.png", "a text that may belong to it")))',
    ),
}
"""The same for classifiers that read something else than images."""


def task_words(data: Mapping[str, Any]) -> TaskWords:
    """Return how a run's task is spoken of.

    Args:
        data: The content of ``results.json``.
    """
    return READS.get(noun(data)) or TASKS[data.get("task", "classification")]


def noun(data: Mapping[str, Any]) -> str:
    """Return what one of a run's samples is called: image, text or pair.

    Args:
        data: The content of ``results.json`` or ``comparison.json``; an earlier version knew images alone.
    """
    found: str = data.get("modality", "image")
    return found


def score(data: Mapping[str, Any], metrics: Mapping[str, float]) -> float:
    """Return the primary metric of a run's task from all its metrics."""
    return metrics[task_words(data).primary]


def named_metric(key: str) -> Metric:
    """Return how a metric is written, whichever it is."""
    words = key.replace("_", " ")
    return METRICS.get(key, Metric(words, words.capitalize()))
