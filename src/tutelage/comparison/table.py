"""What a comparison found: its cells, and the files that hold them."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tutelage.errors import RunError
from tutelage.run import write_json

SCHEMA = 1
"""Version of ``comparison.json``."""

BEST = "best"
"""Each method at its best: with the settings of its own recipe, whatever they cost."""

Right = npt.NDArray[np.bool_]
"""Which test items were predicted correctly, [N]."""


@dataclass(frozen=True)
class Cell:
    """One place in the grid: one run.

    Attributes:
        method: Key of ``METHODS``.
        labels: As asked for: ``"5"``, ``"max:100"``, ``"10%"``.
        seed: Of the labels drawn and of every stage.
        transfer: Name of the transfer set; ``None`` for a method that uses none.
        start: ``random`` or ``pretrained``.
        compute: ``"best"``, or the budget that every method gets, as asked for: ``"2e13"`` (FLOPs), ``"300s"``.
        variant: Name of the change of the recipe; empty where there are none.
    """

    method: str
    labels: str
    seed: int
    transfer: str | None
    start: str
    compute: str = BEST
    variant: str = ""


@dataclass(frozen=True)
class Spent:
    """Compute: wall seconds, and FLOPs of all models' passes."""

    seconds: float
    flops: float


@dataclass(frozen=True)
class Point:
    """A checkpoint on the way through pretraining, finetuned and tested as the last one is; or a round's student.

    Attributes:
        share: Of the pretraining (or the rounds) that was done, in 0..1.
        spent: On pretraining until then: adapting the teacher, its forward passes and building caches included.
        score: The primary metric on the test set.
    """

    share: float
    spent: Spent
    score: float


@dataclass(frozen=True)
class Outcome:
    """What came of a cell.

    Attributes:
        cell: Which.
        error: Why there is no result; ``None`` where there is one. All below is empty if it failed.
        score: The primary metric on the test set, in 0..1.
        metrics: All metrics on the test set.
        held_out: Metrics on held-out labels, that settings were chosen by; ``None`` where nothing was chosen.
        teacher_mode: How the teacher that taught was adapted: ``probe`` or ``finetune``; ``None`` without such a one.
        teacher_score: Its primary metric on the test set.
        chosen: Candidate of the last finetuning that held-out labels chose: ``"finetune-0.001"``, ``"probe-0.01"``.
        pretraining: Spent before the last finetuning: adapting, teacher passes, building caches, pretraining. All
            that the rounds of learning from pseudo-labels take.
        finetuning: Spent on the last finetuning, its choices included.
        curve: Checkpoints in order; the last one is the cell itself (share 1). Empty without pretraining.
        right: Which test items were predicted correctly; ``None`` for a task without single answers.
        collapsed: How the outputs of its pretraining have collapsed, in words; ``None`` if none have.
    """

    cell: Cell
    error: str | None = None
    score: float | None = None
    metrics: Mapping[str, float] = dataclasses.field(default_factory=dict)
    held_out: Mapping[str, float] | None = None
    teacher_mode: str | None = None
    teacher_score: float | None = None
    chosen: str | None = None
    pretraining: Spent = Spent(0.0, 0.0)
    finetuning: Spent = Spent(0.0, 0.0)
    curve: tuple[Point, ...] = ()
    right: Right | None = None
    collapsed: str | None = None


@dataclass(frozen=True)
class Comparison:
    """A comparison, finished or not.

    Attributes:
        about: What was compared, plain data: ``task``, ``metric`` (the primary one), ``student`` and ``teacher``
            (names), ``classes`` (their number), ``test_images``, ``transfer`` (images of each transfer set by name),
            ``variants`` (their settings by name, where there are any), ``command``, ``recipe`` (YAML), ``planned``
            (how many cells the grid has), ``seconds`` (wall time until now), ``device``.
        outcomes: Of the cells so far, in the grid's order (methods as asked for, then labels and seeds ascending).
    """

    about: Mapping[str, Any]
    outcomes: tuple[Outcome, ...]

    @property
    def task(self) -> str:
        """What was learned."""
        return str(self.about.get("task", "classification"))


def write_comparison(folder: Path, comparison: Comparison) -> None:
    """Write ``comparison.json``.

    Raises:
        RunError: It cannot be written.
    """
    write_json(folder / "comparison.json", as_data(comparison))


def as_data(comparison: Comparison) -> dict[str, Any]:
    """Return a comparison as plain data, with which test items each cell got right as hexadecimal bits."""
    outcomes = [
        {
            **_without(dataclasses.asdict(dataclasses.replace(outcome, right=None)), "collapsed"),
            "cell": _cell(outcome.cell),
            "right": _packed(outcome.right),
        }
        for outcome in comparison.outcomes
    ]
    return {"schema": SCHEMA, "about": dict(comparison.about), "outcomes": outcomes}


def read_comparison(folder: Path) -> Comparison:
    """Read what :func:`write_comparison` wrote.

    Raises:
        RunError: It is missing or damaged, or was written by a newer version.
    """
    path = folder / "comparison.json"
    try:
        data = json.loads(path.read_bytes())
        if data["schema"] > SCHEMA:
            raise RunError(f"{path}: written by a newer version of tutelage; update")
        return Comparison(data["about"], tuple(_outcome(each) for each in data["outcomes"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(f"{path}: not a comparison ({error}); the same compare command writes it again") from error


def _cell(cell: Cell) -> dict[str, Any]:
    return _without(dataclasses.asdict(cell), "variant")


def _without(data: dict[str, Any], key: str) -> dict[str, Any]:
    """Return data without a key that earlier versions do not know, where it says nothing."""
    return {name: value for name, value in data.items() if name != key or value}


def _outcome(data: dict[str, Any]) -> Outcome:
    return Outcome(
        **{
            **data,
            "cell": Cell(**data["cell"]),
            "pretraining": Spent(**data["pretraining"]),
            "finetuning": Spent(**data["finetuning"]),
            "curve": tuple(Point(each["share"], Spent(**each["spent"]), each["score"]) for each in data["curve"]),
            "right": _unpacked(data["right"]),
        }
    )


def _packed(right: Right | None) -> dict[str, Any] | None:
    return None if right is None else {"items": len(right), "bits": np.packbits(right).tobytes().hex()}


def _unpacked(data: Mapping[str, Any] | None) -> Right | None:
    if data is None:
        return None
    bits = np.frombuffer(bytes.fromhex(data["bits"]), dtype=np.uint8)
    return np.unpackbits(bits, count=data["items"]).astype(bool)
