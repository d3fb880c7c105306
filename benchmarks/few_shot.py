"""Few labels on Fashion-MNIST: the adapted teacher, and a small student with and without it.

    python benchmarks/few_shot.py                 # the table in docs/results.md
    python benchmarks/few_shot.py --json          # one JSON object on stdout

Ten labels a class, redrawn for each seed; the rest of the training images, without labels, as transfer set; the
10,000 test images for the table alone. Learning rates, penalties, the teacher's mode and raw or averaged weights are
chosen on held-out labels. Runs are resumed where they stopped (``--out``).

Keys of the JSON: ``rows`` (name, mean and std of test accuracy in percent, accuracies, seconds and FLOPs a run),
``ratio`` (seconds of the task-oriented run over scratch), ``reference``, ``runs``, ``spread`` (std of the ratio),
``machine``, ``command``.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import platform
import statistics
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

DEBIAN = Path("/usr/share/datasets/fashion-mnist")
RECIPE: dict[str, Any] = {
    "data": {"labeled": "torchvision:FashionMNIST", "labels": 10, "test": "torchvision:FashionMNIST"},
    "teacher": "bundled:efficientnet-lite0",
    "student": "timm:mobilenetv3_small_050",
    "baselines": ["scratch"],
    "folds": 3,
    "views": {"student_size": 48, "teacher_size": 64, "size": 48},
    "distill": {"epochs": 2},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("runs/few_shot"))
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    prepare_data(arguments.out / "data")
    os.environ.setdefault("TUTELAGE_DATA", str(arguments.out / "data"))

    from tutelage.cli.console import Bars, err_console
    from tutelage.pipeline import run
    from tutelage.recipe_reading import make_recipe

    bars = Bars(err_console())
    found = [
        run(make_recipe(RECIPE, {"seed": seed}), arguments.out / f"seed-{seed}", progress=bars).data
        for seed in range(arguments.seeds)
    ]
    result = summarize(found)
    if arguments.json:
        json.dump(result, sys.stdout, indent=2)
    else:
        print(table(result))


def prepare_data(root: Path) -> None:
    """Unpack Debian's copy (package ``dataset-fashion-mnist``) to where torchvision looks, if it is there."""
    raw = root / "FashionMNIST" / "raw"
    raw.mkdir(parents=True, exist_ok=True)
    for packed in DEBIAN.glob("*.gz"):
        target = raw / packed.stem
        if not target.exists():
            target.write_bytes(gzip.decompress(packed.read_bytes()))


def summarize(found: list[Mapping[str, Any]]) -> dict[str, Any]:
    """Return mean, spread and cost of each row over the seeds."""
    rows: dict[str, Callable[[Mapping[str, Any]], tuple[float, Mapping[str, Any]]]] = {
        "student from scratch": lambda r: (
            r["baselines"]["scratch"]["metrics"]["test"]["accuracy"],
            r["baselines"]["scratch"]["cost"],
        ),
        "teacher, linear probe": lambda r: (r["teacher_metrics"]["probe"]["accuracy"], adapting(r, "probe")),
        "teacher, finetuned": lambda r: (r["teacher_metrics"]["finetune"]["accuracy"], adapting(r, "finetune")),
        "student, task-oriented": lambda r: (r["metrics"]["test"]["accuracy"], r["cost"]),
    }
    table_rows = []
    for name, pick in rows.items():
        picked = [pick(result) for result in found]
        accuracies = [100 * accuracy for accuracy, _ in picked]
        table_rows.append(
            {
                "name": name,
                "mean": statistics.mean(accuracies),
                "std": statistics.stdev(accuracies) if len(accuracies) > 1 else 0.0,
                "accuracies": accuracies,
                "seconds": statistics.mean(cost["seconds"] for _, cost in picked),
                "flops": statistics.mean(cost["flops"] for _, cost in picked),
            }
        )
    ratios = [r["cost"]["seconds"] / r["baselines"]["scratch"]["cost"]["seconds"] for r in found]
    return {
        "rows": table_rows,
        "ratio": statistics.mean(ratios),
        "reference": "seconds of the same student trained from scratch",
        "runs": len(found),
        "spread": statistics.stdev(ratios) if len(ratios) > 1 else 0.0,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads",
        "command": "python benchmarks/few_shot.py",
    }


def adapting(result: Mapping[str, Any], mode: str) -> Mapping[str, Any]:
    """Return the cost of adapting the teacher in one mode, the choice of its settings included."""
    stage: Mapping[str, Any] = next(row for row in result["cost"]["stages"] if row["name"] == f"adapt-{mode}")
    return stage


def table(result: Mapping[str, Any]) -> str:
    """Return the result as a Markdown table."""
    lines = ["| | test accuracy, % | by seed | seconds | FLOPs |", "|---|---|---|---|---|"]
    for row in result["rows"]:
        seeds = " / ".join(f"{accuracy:.1f}" for accuracy in row["accuracies"])
        accuracy = f"{row['mean']:.1f} ± {row['std']:.1f}"
        lines.append(f"| {row['name']} | {accuracy} | {seeds} | {row['seconds']:.0f} | {row['flops']:.1e} |")
    return "\n".join([*lines, "", f"{result['runs']} seeds; {result['machine']}"])


if __name__ == "__main__":
    main()
