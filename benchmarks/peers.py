"""Distilling beside other libraries: seconds a step of each on one case, on the same machine, in turns.

    python benchmarks/peers.py                    # some 10 minutes on two cores, the first time
    python benchmarks/peers.py --json             # one JSON object on stdout

The case is that of `case.py`: 4,000 JPEGs of 96 px, views of 64 px, batches of 128, student
``mobilenetv3_small_050``, teacher ``vit_small_patch16_224`` at 64 px. LightlyTrain and torchdistill get environments
of their own under ``--work`` and are run as programs there, each with two loader processes and the same crops and
flips; what else each does is in the docstring of its driver, ``peer_*.py``. Tutelage runs with its teacher live and
with cached targets. Every round starts a fresh process of each system, and times its steps after a warm-up.

The ratio of seconds is to be at most 1/6 with the cache and 1 without, against either peer.

Keys of the JSON: ``ratio`` (of median seconds a step, ours over the reference), ``reference``, ``runs`` (rounds),
``spread``, ``bound``, ``confidence`` and ``goal`` are those of the first of ``comparisons``, ``met`` is for all of
them; ``comparisons`` has the same keys for each pair, and ``ours``; ``rows`` has for each ``system`` its ``seconds``
(median step; of these the median over rounds), ``mean_seconds`` (starts of epochs included), ``images_per_second``
and ``waiting`` (share of the time between an optimizer step and the next forward); ``reports`` has what each process
said; ``machine``, ``command``.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

from case import pictures
from side_by_side import command, compare, in_turns, machine, show

HERE = Path(__file__).resolve().parent

PEERS = {
    "LightlyTrain": (
        "peer_lightly_train.py",
        ("torch==2.14.1", "torchvision==0.29.1", "timm", "lightly-train==0.18.*"),
    ),
    "torchdistill": ("peer_torchdistill.py", ("torch==2.14.1", "torchvision==0.29.1", "timm", "torchdistill")),
}
"""Each peer's driver, and what its environment has."""

OURS = {"Tutelage, cached": ("cached", 1 / 6), "Tutelage, live": ("live", 1.0)}
"""Our ways to have a teacher, and what the ratio to each peer's seconds may be."""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=48)
    parser.add_argument("--warm-up", type=int, default=12)
    parser.add_argument("--augment", choices=("plain", "full"), default="plain")
    parser.add_argument("--systems", nargs="+", choices=(*OURS, *PEERS), default=[*OURS, *PEERS])
    parser.add_argument("--data", type=Path, default=Path("runs/peers/jpegs"))
    parser.add_argument("--work", type=Path, default=Path("runs/peers"))
    parser.add_argument("--json", action="store_true")
    told = parser.parse_args()

    pictures(told.data)
    options = [
        *("--data", str(told.data), "--augment", told.augment),
        *("--steps", str(told.steps), "--warm-up", str(told.warm_up)),
    ]
    cases = {}
    for name in told.systems:
        if name in OURS:
            python, driver = Path(sys.executable), "peer_tutelage.py"
            more = ["--teacher", OURS[name][0], "--out", str(told.work / "tutelage")]
        else:
            driver, needs = PEERS[name]
            folder = told.work / f"env-{driver.removeprefix('peer_').removesuffix('.py')}"
            python, more = environment(folder, needs), ["--out", str(told.work / Path(driver).stem)]
        cases[name] = partial(run, [str(python), str(HERE / driver), *options, *more])
    reports = in_turns(cases, told.rounds, lambda case: case(), warm_up=0)
    show(summarize(reports), told.json)


def environment(folder: Path, needs: tuple[str, ...]) -> Path:
    """Return the Python of an environment with these packages; it is made unless it is there."""
    python, ready = folder / "bin" / "python", folder / "ready"
    if not ready.exists() or ready.read_text() != "\n".join(needs):
        print(f"{folder}: installing {', '.join(needs)}", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", *needs], check=True, stdout=sys.stderr)
        ready.write_text("\n".join(needs))
    return python


def run(program: list[str]) -> dict[str, Any]:
    """Run a driver and return its report; what else it says is shown if it fails.

    Raises:
        SystemExit: It failed.
    """
    done = subprocess.run(program, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{done.stderr[-4000:]}\n{' '.join(program)}: failed with {done.returncode}")
    report: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    print(f"{Path(program[1]).stem}: {report['seconds']:.3f} s a step", file=sys.stderr)
    return report


def summarize(reports: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """Compare ours with every peer."""
    seconds = {name: [report["seconds"] for report in found] for name, found in reports.items()}
    comparisons = [
        {
            "ours": ours,
            **compare(seconds[ours], seconds[peer], reference=f"{peer}'s seconds a step", side="at_most", goal=goal),
        }
        for ours, (_, goal) in OURS.items()
        for peer in PEERS
        if ours in seconds and peer in seconds
    ]
    if not comparisons:
        raise SystemExit("give at least one of ours and one peer in --systems")
    kept = ("seconds", "mean_seconds", "images_per_second", "waiting")
    return {
        **{key: value for key, value in comparisons[0].items() if key != "ours"},
        "met": all(comparison["met"] for comparison in comparisons),
        "comparisons": comparisons,
        "rows": [
            {"system": name, **{key: statistics.median(report[key] for report in found) for key in kept}}
            for name, found in reports.items()
        ],
        "reports": reports,
        "machine": machine(),
        "command": command(),
    }


if __name__ == "__main__":
    main()
