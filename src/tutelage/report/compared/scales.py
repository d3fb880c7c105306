"""Where a comparison's pictures put things: labels on an axis, ticks of a logarithm, names beside each other."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Sequence

from tutelage.report.numbers import duration, flops

NAMES = {"": "labels a class", "max:": "labels a class at most", "%": "share of the labels"}
"""What label counts of each kind are."""

DENSE_NAMES = {**NAMES, "": "labeled images"}
"""The same where every pixel is told."""

MOST = 5
"""Ticks of a logarithmic axis."""

FLOPS = (
    tuple(10.0**power for power in range(27)),
    tuple(factor * 10.0**power for power in range(27) for factor in (1, 2, 5)),
)
SECONDS = (
    (0.01, 0.1, 1, 10, 60, 600, 3600, 36_000, 86_400, 864_000, 8_640_000),
    (
        *(factor * 10.0**power for power in (-2, -1) for factor in (1, 2, 5)),
        *(1, 2, 5, 10, 20, 30),
        *(60 * minutes for minutes in (1, 2, 5, 10, 20, 30)),
        *(3600 * hours for hours in (1, 2, 5, 10)),
        *(86_400 * factor * 10**power for power in range(4) for factor in (1, 2, 5)),
    ),
)
"""Ticks to choose from, coarse ones and fine ones, which people find easy to read."""


def places(labels: Sequence[str], *, dense: bool = False) -> tuple[dict[str, float], str]:
    """Return where on an axis from 0 to 1 label counts are, and what the axis is called.

    It is logarithmic for counts of one kind (``5``, ``max:100``, ``10%``); how far others are apart nobody knows.

    Args:
        labels: At least two, in order.
        dense: Whether labels are masks.
    """
    found = [re.fullmatch(r"(max:|)([0-9.]+)(%?)", amount) for amount in labels]
    kinds = {match[1] + match[3] if match else "" for match in found}
    values = [float(match[2]) for match in found if match]
    if (
        kinds <= NAMES.keys()
        and len(kinds) == 1
        and len(values) == len(labels)
        and min(values) > 0
        and max(values) > min(values)
    ):
        first, last = math.log(min(values)), math.log(max(values))
        spots = [(math.log(value) - first) / (last - first) for value in values]
        return dict(
            zip(labels, spots, strict=True)
        ), f"{(DENSE_NAMES if dense else NAMES)[kinds.pop()]} (logarithmic)"
    return {amount: place / (len(labels) - 1) for place, amount in enumerate(labels)}, "labels"


def log_ticks(low: float, high: float, nice: Sequence[Sequence[float]]) -> list[float]:
    """Return ticks in a range, about :data:`MOST` at most: the coarsest of which it holds three, or else the finest.

    Args:
        low: Where the range begins, above zero.
        high: Where it ends.
        nice: Ticks to choose from, the coarsest first, each rising.
    """
    inside = [[tick for tick in ticks if low <= tick <= high] for ticks in nice]
    found = next((ticks for ticks in inside if len(ticks) >= 3), inside[-1])
    return found[:: max(1, math.ceil(len(found) / MOST))]


def flops_tick(value: float) -> str:
    """Return a round number of FLOPs: ``20 T``."""
    return re.sub(r"\.0+(?= |$)", "", flops(value))


def seconds_tick(value: float) -> str:
    """Return a round time: ``20 min``."""
    return re.sub(r"\.0+(?= )|(?<=[a-z]) 0 (?:s|min|h)$", "", duration(value))


def spread(wanted: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Return places near the wanted ones, in the same order, at least ``gap`` apart.

    Args:
        wanted: Where each would be if it were alone.
        gap: Between two neighbors.
        low: Least place.
        high: Largest place; all must fit.
    """
    order = sorted(range(len(wanted)), key=wanted.__getitem__)
    # Neighbors that would touch become blocks around their common mean, which then may touch the next block.
    blocks: list[list[float]] = []  # sum of wanted first places, size
    for number in order:
        blocks.append([wanted[number], 1])
        while len(blocks) > 1 and _start(blocks[-2], gap) + gap * blocks[-2][1] > _start(blocks[-1], gap):
            total, size = blocks.pop()
            blocks[-1] = [blocks[-1][0] + total, blocks[-1][1] + size]
    ideal = [_start(block, gap) + gap * place for block in blocks for place in range(int(block[1]))]
    down = itertools.accumulate(ideal, lambda before, here: max(before + gap, here), initial=low - gap)
    found = list(down)[1:]
    for place in range(len(found) - 1, -1, -1):
        found[place] = min(found[place], high - gap * (len(found) - 1 - place))
    return [found[order.index(number)] for number in range(len(wanted))]


def _start(block: Sequence[float], gap: float) -> float:
    return block[0] / block[1] - gap * (block[1] - 1) / 2
