"""Side by side: time things in turns on one machine, and compare them pair by pair.

All benchmarks here measure and print in this one form. Every case is warmed up once; then each round runs every
case once, forwards and backwards in turn, so that a slow spell of the machine falls on all of them. Ratios are taken
within a round. What is stated of them is the median, with a one-sided 95 % bound from order statistics (the sign
test turned around; Conover, Practical Nonparametric Statistics, 3rd ed., section 3.2): it assumes nothing about how
times are distributed, and draws no random numbers. Fewer than five pairs cannot give 95 %; the bound is then the
extreme ratio, and ``confidence`` says what that is worth.
"""

from __future__ import annotations

import json
import math
import os
import platform
import shlex
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

import torch

T = TypeVar("T")

CONFIDENCE = 0.95

Side = Literal["at_most", "at_least"]
"""Whether a ratio is good when it is small or when it is large; bounds are taken on the bad side."""


def seconds(case: Callable[[], object]) -> float:
    """Return the wall time of one call; a GPU's queue is emptied before and after."""
    _finish()
    began = time.perf_counter()
    case()
    _finish()
    return time.perf_counter() - began


def in_turns(
    cases: Mapping[str, Callable[[], object]],
    rounds: int,
    measure: Callable[[Callable[[], Any]], T],
    *,
    warm_up: int = 1,
) -> dict[str, list[T]]:
    """Measure every case once a round, in alternating order.

    Args:
        cases: What to run, by name.
        rounds: How often.
        measure: Makes a measurement out of a case, such as :func:`seconds`.
        warm_up: Calls of every case before the first round, not counted.

    Returns:
        The measurements of each case, one a round.
    """
    for case in cases.values():
        for _ in range(warm_up):
            case()
    found: dict[str, list[T]] = {name: [] for name in cases}
    for number in range(rounds):
        for name in list(cases)[:: -1 if number % 2 else 1]:
            found[name].append(measure(cases[name]))
    return found


def compare(
    ours: Sequence[float], others: Sequence[float], *, reference: str, side: Side, goal: float | None = None
) -> dict[str, Any]:
    """Compare measurements of the same rounds.

    Args:
        ours: One measurement a round.
        others: The reference's.
        reference: What the reference is, in words.
        side: Which ratios are good.
        goal: What the ratio is to be; its bound must keep it for ``met``.

    Returns:
        ``ratio`` (median of ours over the reference's), ``reference``, ``runs`` (pairs), ``spread`` (standard
        deviation of the ratios), ``bound`` and its ``confidence``, ``goal`` (as ``{"at_most": 1.03}``), ``met``.
    """
    ratios = [mine / other for mine, other in zip(ours, others, strict=True)]
    bound, confidence = median_bound(ratios, upper=side == "at_most")
    met = goal is None or (bound <= goal if side == "at_most" else bound >= goal)
    return {
        "ratio": statistics.median(ratios),
        "reference": reference,
        "runs": len(ratios),
        "spread": statistics.stdev(ratios) if len(ratios) > 1 else 0.0,
        "bound": bound,
        "confidence": confidence,
        "goal": None if goal is None else {side: goal},
        "met": met,
    }


def median_bound(values: Sequence[float], *, upper: bool) -> tuple[float, float]:
    r"""Return a one-sided bound of the median, and its confidence.

    The k-th smallest of n values is an upper bound with confidence :math:`P(\mathrm{Bin}(n, 1/2) < k)`; the smallest
    k that reaches 95 % is taken, or n.
    """
    count, below = len(values), 0.0
    for place in range(1, count + 1):
        below += math.comb(count, place - 1) / 2**count
        if below >= CONFIDENCE:
            break
    return sorted(values, reverse=not upper)[place - 1], below


def machine(device: str = "cpu") -> str:
    """Describe what the numbers were measured on."""
    if device != "cpu":
        return f"{torch.cuda.get_device_name(device)}, torch {torch.__version__}"
    return f"{_processor()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads, torch {torch.__version__}"


def command() -> str:
    """Return the command line that runs this again."""
    script = Path(sys.argv[0])
    arguments = [each for each in sys.argv[1:] if each != "--json"]
    return shlex.join(["python", f"{script.parent.name}/{script.name}", *arguments])


def show(result: Mapping[str, Any], as_json: bool) -> None:
    """Print a result: one JSON object, or its ``rows`` as a Markdown table with the comparisons below it.

    Args:
        result: A comparison's keys (see :func:`compare`), ``rows``, ``machine``, ``command``, and, where there are
            several, ``comparisons``.
        as_json: Whether to print JSON.
    """
    if as_json:
        json.dump(result, sys.stdout, indent=2)
        print()
        return
    rows: Sequence[Mapping[str, Any]] = result["rows"]
    names = list(rows[0])
    print("|", " | ".join(name.replace("_", " ") for name in names), "|")
    print("|", " | ".join("---" for _ in names), "|")
    for row in rows:
        print("|", " | ".join(_text(row[name]) for name in names), "|")
    print()
    for comparison in result.get("comparisons", [result]):
        print(f"- {_sentence(comparison)}")
    print(f"\n{result['machine']}; `{result['command']}`")


def _sentence(comparison: Mapping[str, Any]) -> str:
    side, goal = next(iter((comparison["goal"] or {}).items()), ("at_most", None))
    said = (
        f"{comparison.get('ours', 'ratio')}: {_text(comparison['ratio'])} of {comparison['reference']} "
        f"(std {_text(comparison['spread'])}, {comparison['runs']} pairs, "
        f"{100 * comparison['confidence']:.0f} % {'upper' if side == 'at_most' else 'lower'} bound "
        f"{_text(comparison['bound'])})"
    )
    if goal is None:
        return said
    return f"{said}; goal {side.replace('_', ' ')} {_text(goal)}: {'met' if comparison['met'] else 'NOT met'}"


def _text(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.machine()


def _finish() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
