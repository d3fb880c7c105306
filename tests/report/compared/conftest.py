"""A comparison as a grid of real runs would leave it, without training anything."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tutelage.comparison.table import Cell, Comparison, Outcome, Point, Spent

ERROR = "=cmd <script>alert(1)</script>\nout of memory"

STRENGTH = {
    "agnostic-patch": 0.05,
    "agnostic-image": 0.07,
    "task-oriented-lp": 0.13,
    "task-oriented-ft": 0.16,
    "task-oriented": 0.17,
    "task-oriented-no-finetuning": 0.15,
}
"""How far each method ends above scratch."""

COST = {"agnostic-patch": 3.1e13, "agnostic-image": 8.4e13}
"""FLOPs of pretraining; all task-oriented methods need fewer."""

ITEMS = 2000


def finished(
    labels: tuple[str, ...] = ("5", "10"),
    transfers: tuple[str, ...] = ("related", "generic"),
    starts: tuple[str, ...] = ("random",),
    seeds: int = 3,
    variants: tuple[str, ...] = ("",),
    **about: Any,
) -> Comparison:
    """Return one in which the last seed of agnostic-patch on the second transfer set failed."""
    random = np.random.default_rng(0)
    grid = [("scratch", None), *((method, transfer) for method in STRENGTH for transfer in transfers)]
    outcomes = [
        outcome(Cell(method, amount, seed, transfer, start, variant=variant), labels.index(amount), transfers, random)
        for start in starts
        for method, transfer in grid
        for variant in variants
        for amount in labels
        for seed in range(seeds)
    ]
    bad = Cell("agnostic-patch", labels[-1], seeds - 1, transfers[-1], starts[0], variant=variants[-1])
    outcomes = [Outcome(bad, error=ERROR) if each.cell == bad else each for each in outcomes]
    facts = {
        "task": "classification",
        "metric": "accuracy",
        "student": "timm:lcnet_050",
        "teacher": "bundled:efficientnet-lite0",
        "classes": 10,
        "test_images": ITEMS,
        "transfer": {transfer: 12_000 + 800 * place for place, transfer in enumerate(transfers)},
        "command": "tutelage compare recipe.yaml --labels 5,10 --seeds 3",
        "recipe": "task: classification\nstudent: timm:lcnet_050\n",
        "planned": len(outcomes),
        "seconds": 5230.0,
        "device": "cpu",
    }
    return Comparison({**facts, **about}, tuple(outcomes))


def outcome(cell: Cell, more: int, transfers: tuple[str, ...], random: np.random.Generator) -> Outcome:
    """Return a cell's outcome; its score follows from the test items that it gets right."""
    strength = STRENGTH.get(cell.method, 0.0)
    if cell.transfer is not None:
        strength -= 0.03 * transfers.index(cell.transfer)
    chance = 0.55 + 0.09 * more + strength + 0.012 * float(random.normal()) + 0.05 * (cell.start == "pretrained")
    right = random.random(ITEMS) < chance
    score = float(right.mean())
    spent = Spent(0.0, 0.0)
    curve: tuple[Point, ...] = ()
    taught = cell.method.startswith("task-oriented")
    if cell.transfer is not None:
        flops = COST.get(cell.method, 1.6e13) * (1 + 0.4 * transfers.index(cell.transfer))
        spent = Spent(flops / 6e10, flops)
        start = 0.6 * flops if taught else 0.0
        shares = [2.0**-power for power in range(4, -1, -1)]
        curve = tuple(
            Point(
                share,
                Spent(at / 6e10, at),
                score - (0.2 * strength * math.log2(1 / share) if share < 0.5 or taught else 0),
            )
            for share in shares
            for at in [start + (flops - start) * share]
        )
    tuned = not cell.method.endswith("no-finetuning")
    mode = "finetune" if cell.method.endswith("ft") or cell.seed % 2 else "probe"
    return Outcome(
        cell,
        score=score,
        metrics={"accuracy": score, "macro_f1": score - 0.01},
        held_out={"accuracy": score + 0.01} if tuned else None,
        teacher_mode=("probe" if cell.method.endswith("lp") else mode) if taught else None,
        teacher_score=score + (0.02 if mode == "finetune" else -0.01) if taught else None,
        chosen="finetune-0.001" if tuned else None,
        pretraining=spent,
        finetuning=Spent(14.0 + cell.seed, 3.1e11) if tuned else Spent(0.0, 0.0),
        curve=curve,
        right=right,
    )


@pytest.fixture
def make_comparison() -> Callable[..., Comparison]:
    return finished


@pytest.fixture
def error() -> str:
    return ERROR
