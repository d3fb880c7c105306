"""How many stored views are enough: accuracy over V, against a teacher that runs live.

    python benchmarks/stored_views.py             # the table in docs/performance.md
    python benchmarks/stored_views.py --json      # one JSON object on stdout

scikit-learn's digits as in the demo (5 labels a class, redrawn for each seed; 1,200 images to distil on; 597 test
images), distilled for 52 epochs, twice the demo's, so that few views repeat often. Within a seed all rows share the
adapted teacher and all settings; only ``distill.targets`` and ``distill.views`` differ. Rows that are done are kept
(``--out``), and not run again.

Keys of the JSON: ``rows`` (views, or ``live``; test accuracies in percent by seed, mean, std, and the paired
difference from live: mean and half of its 95 % t-interval; seconds of storing and distilling), ``ratio`` (seconds of
storing and distilling with 16 views, over live), ``reference``, ``runs``, ``spread`` (of the ratio), ``goal`` (points
that 16 views may lie below live: the standard deviation of live over seeds), ``met``, ``machine``, ``command``.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from scipy.stats import t as student_t
from side_by_side import machine

from tutelage.cli.console import Bars, err_console
from tutelage.cli.demo import DEMO
from tutelage.pipeline import run
from tutelage.recipe_reading import make_recipe
from tutelage.run import write_json

VIEWS = ("live", 1, 2, 4, 8, 16)
CHOSEN = 16
EPOCHS = 52

Row = dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("runs/stored_views"))
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    done = [measured(arguments.out, seed, views) for seed in range(arguments.seeds) for views in VIEWS]
    result = summarize(done)
    if arguments.json:
        json.dump(result, sys.stdout, indent=2)
    else:
        print(table(result))


def measured(out: Path, seed: int, views: str | int) -> Row:
    """Run one cell, or read what it gave."""
    kept = out / f"seed-{seed}-{views}.json"
    if kept.exists():
        row: Row = json.loads(kept.read_text())
        return row
    targets = (
        {"distill.targets": "live"} if views == "live" else {"distill.targets": "cached", "distill.views": views}
    )
    settings: Row = {
        "seed": seed,
        "baselines": [],
        "distill.epochs": EPOCHS,
        "store.folder": str(out / "store"),
        **targets,
    }
    # One folder a seed: the adapted teacher is found there.
    data = run(make_recipe(DEMO, settings), out / f"seed-{seed}", progress=Bars(err_console())).data
    stages = {stage["name"]: stage["seconds"] for stage in data["cost"]["stages"]}
    row = {
        "seed": seed,
        "views": views,
        "accuracy": 100 * data["metrics"]["test"]["accuracy"],
        "seconds": stages["targets"] + stages["distill"],
    }
    write_json(kept, row)
    return row


def summarize(done: list[Row]) -> dict[str, Any]:
    """Return mean, spread and the paired difference from live of each number of views."""
    by_views = {views: [row for row in done if row["views"] == views] for views in VIEWS}
    live = by_views["live"]
    rows = []
    for views, found in by_views.items():
        accuracies = [row["accuracy"] for row in found]
        differences = [row["accuracy"] - other["accuracy"] for row, other in zip(found, live, strict=True)]
        rows.append(
            {
                "views": views,
                "accuracies": accuracies,
                "mean": statistics.mean(accuracies),
                "std": spread(accuracies),
                "difference": statistics.mean(differences),
                "interval": half_interval(differences),
                "seconds": statistics.mean(row["seconds"] for row in found),
            }
        )
    chosen = next(row for row in rows if row["views"] == CHOSEN)
    ratios = [row["seconds"] / other["seconds"] for row, other in zip(by_views[CHOSEN], live, strict=True)]
    noise = spread([row["accuracy"] for row in live])
    return {
        "rows": rows,
        "ratio": statistics.mean(ratios),
        "reference": "seconds of distilling with the teacher live",
        "runs": len(live),
        "spread": spread(ratios),
        "goal": noise,
        "met": chosen["difference"] >= -noise,
        "machine": machine(),
        "command": "python benchmarks/stored_views.py",
    }


def spread(values: list[float]) -> float:
    """Return the standard deviation, or 0 of one value."""
    return statistics.stdev(values) if len(values) > 1 else 0.0


def half_interval(values: list[float]) -> float:
    """Return half of the 95 % t-interval of a mean."""
    if len(values) < 2:
        return float("nan")
    quantile = float(student_t.ppf(0.975, len(values) - 1))
    return quantile * spread(values) / math.sqrt(len(values))


def table(result: Mapping[str, Any]) -> str:
    """Return the result as a Markdown table."""
    lines = [
        "| views stored | test accuracy, % | by seed | against live, points | seconds, storing included |",
        "|---|---|---|---|---|",
    ]
    for row in result["rows"]:
        seeds = " / ".join(f"{accuracy:.1f}" for accuracy in row["accuracies"])
        against = "" if row["views"] == "live" else f"{row['difference']:+.1f} ± {row['interval']:.1f}"
        name = "live: new ones each epoch" if row["views"] == "live" else row["views"]
        accuracy = f"{row['mean']:.1f} ± {row['std']:.1f}"
        lines.append(f"| {name} | {accuracy} | {seeds} | {against} | {row['seconds']:.0f} |")
    return "\n".join([*lines, "", f"{result['runs']} seeds; {result['machine']}"])


if __name__ == "__main__":
    main()
