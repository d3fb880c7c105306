"""Pictures as inline SVG; colors and fonts come from the page's style sheet."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

WIDTH, HEIGHT = 320, 176
LEFT, RIGHT, TOP, BOTTOM = 38, 10, 8, 24
"""Room around the plot; the numbers beside it stay readable on a phone, where the picture is about this wide."""

STRIP = 34
"""Height of the strip below a reliability diagram that shows where the images are."""

SMOOTHED = 0.05
"""Share of a curve's points that each smoothed one is a mean of, on both sides together."""


def curve(steps: Sequence[float], losses: Sequence[float]) -> str:
    """Return a loss curve as an ``<svg>`` made of numbers alone: every point faint, a moving mean on top.

    Args:
        steps: Rising, at least two.
        losses: As many, all finite.
    """
    bottom, top = min(0.0, *losses), max(losses)
    top = top if top > bottom else bottom + 1.0
    vertical, across = ticks(bottom, top), ticks(0.0, steps[-1], whole=True)

    def x(step: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * step / steps[-1]

    def y(loss: float) -> float:
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (loss - bottom) / (top - bottom)

    def line(values: Sequence[float], kind: str) -> str:
        points = " ".join(f"{x(step):.1f},{y(value):.1f}" for step, value in zip(steps, values, strict=True))
        return f'<polyline class="{kind}" points="{points}"/>'

    parts = [
        f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(tick):.1f}" y2="{y(tick):.1f}"/>'
        f'<text class="tick" x="{LEFT - 6}" y="{y(tick) + 3.5:.1f}" text-anchor="end">{tick:g}</text>'
        for tick in vertical
    ]
    parts += [
        f'<text class="tick" x="{x(tick):.1f}" y="{HEIGHT - 7}" text-anchor="{anchor}">{tick:,.0f}</text>'
        for tick, anchor in zip(across, ["start"] + ["middle"] * len(across), strict=False)
    ]
    parts += [line(losses, "raw"), line(smoothed(losses), "smooth")]
    first, last = f"{losses[0]:.3g}", f"{losses[-1]:.3g}"
    described = f"Loss from {first} to {last} over {int(steps[-1]):,} steps"
    return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{described}">{"".join(parts)}</svg>'


def reliability(bins: Sequence[tuple[float, float, float, float, float]], width: float) -> str:
    """Return a reliability diagram as an ``<svg>`` made of numbers alone.

    Bars are the shares of right answers by confidence, with their intervals; those of a calibrated classifier end
    at the diagonal. Bars below hang as far as their bins have a large share of the images.

    Args:
        bins: Where each begins, its share of right answers, the ends of that share's interval, and its share of
            all images.
        width: How wide each is.
    """
    plot = WIDTH - LEFT - RIGHT
    floor = TOP + plot * 0.62
    most = max(part for *_, part in bins)
    whole = round(floor + STRIP + 34)

    def x(confidence: float) -> float:
        return LEFT + plot * confidence

    def y(share: float) -> float:
        return floor - (floor - TOP) * share

    parts = [
        f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(tick):.1f}" y2="{y(tick):.1f}"/>'
        f'<text class="tick" x="{LEFT - 6}" y="{y(tick) + 3.5:.1f}" text-anchor="end">{100 * tick:.0f}%</text>'
        for tick in (0.0, 0.25, 0.5, 0.75, 1.0)
    ]
    for low, right, least, top, part in bins:
        middle = x(low + width / 2)
        across = f'x="{x(low) + 1:.1f}" width="{plot * width - 2:.1f}"'
        deep = max(0.75, (STRIP - 4) * part / most)
        parts += [
            f'<rect class="bar" {across} y="{y(right):.1f}" height="{floor - y(right):.1f}"/>',
            f'<line class="range" x1="{middle:.1f}" x2="{middle:.1f}" y1="{y(least):.1f}" y2="{y(top):.1f}"/>',
            f'<rect class="part" {across} y="{floor + 4:.1f}" height="{deep:.1f}"/>',
        ]
    parts.append(f'<line class="ideal" x1="{x(0):.1f}" y1="{y(0):.1f}" x2="{x(1):.1f}" y2="{y(1):.1f}"/>')
    under = floor + STRIP + 14
    parts += [
        f'<text class="tick" x="{x(tick):.1f}" y="{under:.1f}" text-anchor="{anchor}">{100 * tick:.0f}%</text>'
        for tick, anchor in ((0.0, "start"), (0.25, "middle"), (0.5, "middle"), (0.75, "middle"), (1.0, "end"))
    ]
    parts.append(f'<text class="tick" x="{x(0.5):.1f}" y="{whole - 4}" text-anchor="middle">confidence</text>')
    described = "; ".join(
        f"{100 * low:.0f}% to {100 * (low + width):.0f}% sure: {100 * right:.0f}% right, {100 * part:.0f}% of images"
        for low, right, _, _, part in bins
    )
    return f'<svg viewBox="0 0 {WIDTH} {whole}" role="img" aria-label="{described}">{"".join(parts)}</svg>'


def smoothed(values: Sequence[float]) -> list[float]:
    """Return a centered moving mean, of fewer points at the ends."""
    reach = math.ceil(SMOOTHED * len(values) / 2)
    sums = np.concatenate([[0.0], np.cumsum(values)])
    rows = np.arange(len(values))
    first, last = np.maximum(rows - reach, 0), np.minimum(rows + reach + 1, len(values))
    means: list[float] = ((sums[last] - sums[first]) / (last - first)).tolist()
    return means


def ticks(low: float, high: float, *, most: int = 5, whole: bool = False) -> list[float]:
    """Return at most ``most`` multiples of 1, 2 or 5 times a power of ten within a range that is not empty.

    Args:
        low: Where the range begins.
        high: Where it ends.
        most: How many; two or more.
        whole: Whether they are whole numbers.
    """
    power = 10.0 ** math.floor(math.log10((high - low) / most))
    if whole:
        power = max(1.0, power)
    # Ten times a power that goes into the range `most` times or more leaves few enough.
    step = next(power * factor for factor in (1, 2, 5, 10) if _multiples(low, high, power * factor)[1] <= most)
    first, count = _multiples(low, high, step)
    # Rounded, since three tenths are not 0.3.
    return [round((first + number) * step, 12) for number in range(count)]


def _multiples(low: float, high: float, step: float) -> tuple[int, int]:
    """Return the first multiple of a step within a range, in steps, and how many there are."""
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return first, last - first + 1
