"""Weights, noise and teachers as inline SVG; colors come from the style sheet of comparisons, by class."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape

from tutelage.report.compared.pictures import Look, swatch
from tutelage.report.numbers import percent
from tutelage.report.pictures import ticks

WIDTH, HEIGHT = 912, 340
LEFT, RIGHT, TOP, BOTTOM = 46, 14, 12, 44
"""Room around the plot, the title of the lower axis included."""

Words = Callable[[float], str]


@dataclass(frozen=True)
class Axis:
    """An axis from ``low`` to ``high``, its ticks, and what says them."""

    low: float
    high: float
    ticks: Sequence[float]
    words: Words


def histogram(series: Mapping[str, Sequence[float]]) -> str:
    """Return shares of weights in equal bins over 0..1 as an ``<svg>``, an outline for each series.

    Args:
        series: Shares by name, all of as many bins.
    """
    most = max(max(shares) for shares in series.values())
    across = Axis(0.0, 1.0, [place / 10 for place in range(11)], lambda value: f"{value:g}")
    up = Axis(0.0, most * 1.05, ticks(0.0, most * 1.05), _percent)
    parts = _frame(across, up, "weight")
    for place, shares in enumerate(series.values()):
        width = 1 / len(shares)
        corners = [
            (edge, share) for number, share in enumerate(shares) for edge in (number * width, (number + 1) * width)
        ]
        path = [(0.0, 0.0), *corners, (1.0, 0.0)]
        points = " ".join(f"{_x(across, x):.1f},{_y(up, y):.1f}" for x, y in path)
        parts.append(f'<g class="{_look(place).classes}"><polyline class="line" points="{points}"/></g>')
    described = "; ".join(f"{name}: most often {_mode(shares)}" for name, shares in series.items())
    return _svg(f"Shares of features by their weight. {described}", parts)


def over_noise(names: Sequence[str], series: Sequence[Sequence[tuple[int, float, float | None]]]) -> str:
    """Return scores over features of noise as an ``<svg>``.

    Args:
        names: Of the series.
        series: Noise, mean and deviation of each level, at least two levels in one of them.
    """
    levels = sorted({noise for points in series for noise, *_ in points})
    margin = 0.04 * levels[-1]
    across = Axis(-margin, levels[-1] + margin, levels, lambda value: f"{value:,.0f}")
    up = _scores(mean + sign * (std or 0.0) for points in series for _, mean, std in points for sign in (-1, 1))
    parts = _frame(across, up, "features of noise")
    for place, points in enumerate(series):
        beside = 3.0 * (place - (len(series) - 1) / 2)
        drawn = [(_x(across, noise) + beside, _y(up, mean)) for noise, mean, _ in points]
        bars = [
            f'<line class="deviation" x1="{x:.1f}" x2="{x:.1f}" y1="{_y(up, mean - std):.1f}" '
            f'y2="{_y(up, mean + std):.1f}"/>'
            for (x, _), (_, mean, std) in zip(drawn, points, strict=True)
            if std
        ]
        line = " ".join(f"{x:.1f},{y:.1f}" for x, y in drawn)
        marks = [_mark(x, y) for x, y in drawn]
        inside = "".join([*bars, f'<polyline class="line" points="{line}"/>', *marks])
        parts.append(f'<g class="{_look(place).classes}">{inside}</g>')
    described = "; ".join(
        f"{name}: " + ", ".join(f"{percent(mean)} with {noise}" for noise, mean, _ in points)
        for name, points in zip(names, series, strict=True)
    )
    return _svg(f"Score over features of noise. {described}", parts)


def over_probes(names: Sequence[str], series: Sequence[Sequence[tuple[float, float, str]]]) -> str:
    """Return students' scores over their teachers' probes as an ``<svg>``.

    Args:
        names: Of the series.
        series: The probe's accuracy, the student's score and the teachers' names of each point.
    """
    across = _scores(probe for points in series for probe, *_ in points)
    up = _scores(score for points in series for _, score, _ in points)
    parts = _frame(across, up, "accuracy of a linear probe on the teachers' features")
    for place, points in enumerate(series):
        drawn = [(_x(across, probe), _y(up, score), name) for probe, score, name in points]
        line = " ".join(f"{x:.1f},{y:.1f}" for x, y, _ in drawn)
        marks = "".join(_mark(x, y, name) for x, y, name in drawn)
        parts.append(f'<g class="{_look(place).classes}"><polyline class="line" points="{line}"/>{marks}</g>')
    described = "; ".join(
        f"{name}: " + ", ".join(f"{percent(score)} at {percent(probe)}" for probe, score, _ in points)
        for name, points in zip(names, series, strict=True)
    )
    return _svg(f"Score over the teachers' probe. {described}", parts)


def marked(place: int) -> str:
    """Return the swatch of a series of marks."""
    return swatch(_look(place))


def outline(place: int) -> str:
    """Return the swatch of a histogram."""
    line = '<line class="line" x1="1" x2="27" y1="7" y2="7"/>'
    return f'<svg class="swatch {_look(place).classes}" viewBox="0 0 28 14" aria-hidden="true">{line}</svg>'


def _look(place: int) -> Look:
    return Look(place, 0)


def _scores(values: Iterable[float]) -> Axis:
    found = list(values)
    room = max(0.005, 0.06 * (max(found) - min(found)))
    low, high = min(found) - room, max(found) + room
    return Axis(low, high, ticks(low, high), _percent)


def _x(axis: Axis, value: float) -> float:
    return LEFT + (WIDTH - LEFT - RIGHT) * (value - axis.low) / (axis.high - axis.low)


def _y(axis: Axis, value: float) -> float:
    return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (value - axis.low) / (axis.high - axis.low)


def _frame(across: Axis, up: Axis, title: str) -> list[str]:
    floor = HEIGHT - BOTTOM
    parts = [
        f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{_y(up, tick):.1f}" y2="{_y(up, tick):.1f}"/>'
        f'<text class="tick" x="{LEFT - 6}" y="{_y(up, tick) + 4:.1f}" text-anchor="end">{up.words(tick)}</text>'
        for tick in up.ticks
    ]
    parts += [
        f'<text class="tick" x="{_x(across, tick):.1f}" y="{floor + 18}" text-anchor="middle">'
        f"{across.words(tick)}</text>"
        for tick in across.ticks
    ]
    middle = (LEFT + WIDTH - RIGHT) / 2
    return [*parts, f'<text class="tick" x="{middle:.1f}" y="{HEIGHT - 6}" text-anchor="middle">{title}</text>']


def _mark(x: float, y: float, name: str = "") -> str:
    told = f"<title>{escape(name)}</title>" if name else ""
    return f'<circle class="mark" cx="{x:.1f}" cy="{y:.1f}" r="3.75">{told}</circle>'


def _mode(shares: Sequence[float]) -> str:
    place = max(range(len(shares)), key=shares.__getitem__)
    return f"{place / len(shares):g} to {(place + 1) / len(shares):g}"


def _percent(share: float) -> str:
    return f"{100 * share:g}%"


def _svg(described: str, parts: Iterable[str]) -> str:
    # Lone control characters are not allowed in the page.
    label = escape(re.sub(r"\s+", " ", described))
    return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{label}">{"".join(parts)}</svg>'
