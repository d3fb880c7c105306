"""``tutelage demo``: the whole pipeline on built-in real data, offline."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

DEMO: dict[str, Any] = {
    "data": {"labeled": "digits", "labels": 5, "test": "digits"},
    "teacher": "bundled:efficientnet-lite0",
    "student": "timm:mobilenetv3_small_050",
    "baselines": ["scratch"],
    "folds": 3,
    "adapt": {"learning_rates": [3e-4, 1e-3]},
    "distill": {"epochs": 26, "learning_rate": 3e-3},
    # Shorter than by default: after this distillation there is little left to finetune.
    "finetune": {"epochs": 20, "learning_rates": [1e-4, 3e-4, 1e-3], "modes": ["finetune"], "statistics": "kept"},
    "baseline_finetune": {"scratch": {}},
}
"""Five handwritten digits of each kind with labels, 1,200 without; minutes on two cores."""


def demo(
    out: Annotated[Path | None, typer.Option(help="Run folder; runs/demo-sSEED if not given.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of everything that is drawn, the labels included.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")] = False,
) -> None:
    """Make a small digit reader from 50 labels, and train the same one from scratch to see the difference."""
    from tutelage.cli.transfer import run_and_show
    from tutelage.recipe_reading import make_recipe

    run_and_show(make_recipe(DEMO, {"seed": seed}), out or Path(f"runs/demo-s{seed}"), as_json=as_json)
