"""A curation's pictures as inline SVG; colors and fonts come from the page's style sheet."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from html import escape

import numpy as np

from tutelage.report.curated.projection import KINDS, Points
from tutelage.report.numbers import plural, whole
from tutelage.report.pictures import ticks

WIDTH, HEIGHT = 440, 250
"""Of diagrams; at 26 rem a unit is about a pixel."""

MAP_WIDTH, MAP_HEIGHT = 912, 560

LEFT, RIGHT, TOP, BOTTOM = 46, 12, 10, 44
"""Room around a diagram, for ticks and the title of the axis below."""

MARGIN = 12
"""Room around the map."""

BARS = 24
"""Bars that queries are counted in, at most."""


def similarities(edges: Sequence[float], retrieved: Sequence[int], gallery: Sequence[int]) -> str:
    """Return how similar items are to their nearest query as an ``<svg>``: bars, and an outline behind them.

    Args:
        edges: Of the bins, rising, [b + 1].
        retrieved: Retrieved items in each, [b]; their share of all is drawn.
        gallery: Items of the gallery in each, [b].
    """
    bars, line = shares(retrieved), shares(gallery)
    x, y, parts = _frame((edges[0], edges[-1]), max(*bars, *line), "similarity to the nearest query")
    parts += _bars(edges, bars, x, y)
    corners = [(edges[0], 0.0)]
    for low, high, share in zip(edges[:-1], edges[1:], line, strict=True):
        corners += [(low, share), (high, share)]
    points = " ".join(f"{x(at):.1f},{y(share):.1f}" for at, share in [*corners, (edges[-1], 0.0)])
    parts.append(f'<polyline class="outline" points="{points}"/>')
    described = (
        f"Similarities from {edges[0]:.2f} to {edges[-1]:.2f}: about {median(edges, retrieved):.2f} between "
        f"retrieved items and their nearest query, about {median(edges, gallery):.2f} for items of the gallery"
    )
    return _svg(WIDTH, HEIGHT, described, parts)


def counts(per_query: Sequence[int]) -> str:
    """Return how many queries have brought how many items, as an ``<svg>``.

    Args:
        per_query: Items of each query, at least one.
    """
    most = max(per_query)
    width = math.ceil((most + 1) / BARS)
    # A bar has its number in its middle.
    edges = [width * number - 0.5 for number in range(most // width + 2)]
    found = np.histogram(per_query, edges)[0].tolist()
    x, y, parts = _frame((edges[0], edges[-1]), max(found), "items of a query", share=False)
    parts += _bars(edges, found, x, y)
    described = (
        f"Queries by how many items they brought: {whole(min(per_query))} to {whole(most)}, "
        f"about {np.median(per_query):g} each"
    )
    return _svg(WIDTH, HEIGHT, described, parts)


def quality_curve(
    sizes: Sequence[int], runs: Sequence[Sequence[float]], chosen: int | None, words: Callable[[float | None], str]
) -> str:
    """Return scores against sizes of the transfer set as an ``<svg>``: a mark a seed, a line through their means.

    Args:
        sizes: Rising, at least one.
        runs: The scores of each, at least one.
        chosen: The size that was taken; ``None`` for none.
        words: Says a score.
    """
    means = [sum(scores) / len(scores) for scores in runs]
    every = [score for scores in runs for score in scores]
    room = max(0.005, 0.08 * (max(every) - min(every)))
    low, high = min(every) - room, max(every) + room
    first, last = math.log(sizes[0] / 1.15), math.log(sizes[-1] * 1.15)

    def x(size: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * (math.log(size) - first) / (last - first)

    def y(score: float) -> float:
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (score - low) / (high - low)

    parts = [_level(y(tick), f"{100 * tick:g}%") for tick in ticks(low, high)]
    parts += [_tick(x(size), HEIGHT - BOTTOM + 17, whole(size)) for size in _apart(sizes, x)]
    parts.append(_title("retrieved items (logarithmic)"))
    if chosen is not None and sizes[0] <= chosen <= sizes[-1]:
        at = f'x1="{x(chosen):.1f}" x2="{x(chosen):.1f}"'
        parts.append(f'<line class="chosen-size" {at} y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>')
    line = " ".join(f"{x(size):.1f},{y(mean):.1f}" for size, mean in zip(sizes, means, strict=True))
    parts.append(f'<polyline class="smooth" points="{line}"/>')
    parts += [
        f'<circle class="seed" cx="{x(size):.1f}" cy="{y(score):.1f}" r="3"/>'
        for size, scores in zip(sizes, runs, strict=True)
        for score in scores
    ]
    pairs = ", ".join(f"{words(mean)} with {whole(size)}" for size, mean in zip(sizes, means, strict=True))
    return _svg(WIDTH, HEIGHT, f"Mean score by retrieved items: {pairs}", parts)


def scatter(points: Points) -> str:
    """Return queries, retrieved items and items of the gallery on a map, as an ``<svg>``.

    Args:
        points: Where those of each kind are, some at least.
    """
    every = np.array([point for kind in KINDS for point in points[kind]], dtype=np.float64)
    low, high = every.min(axis=0), every.max(axis=0)
    middle, extent = (low + high) / 2, np.maximum(high - low, 1e-9)
    # One scale for both sides, as distances have no direction.
    scale = min((MAP_WIDTH - 2 * MARGIN) / extent[0], (MAP_HEIGHT - 2 * MARGIN) / extent[1])
    center = np.array([MAP_WIDTH, MAP_HEIGHT]) / 2
    parts = []
    # Queries last, so that nothing hides them.
    for kind in reversed(KINDS):
        if points[kind]:
            parts.append(
                f'<path class="{kind}" d="{_marks(kind, (np.array(points[kind]) - middle) * scale + center)}"/>'
            )
    told = ", ".join(plural(len(points[kind]), *NOUNS[kind]) for kind in KINDS if points[kind])
    return _svg(MAP_WIDTH, MAP_HEIGHT, f"Map of {told}, near each other where they look alike", parts)


def swatch(kind: str) -> str:
    """Return a legend's mark of a kind of points as an ``<svg>``."""
    mark = f'<path class="{kind}" d="{_marks(kind, np.array([[7.0, 7.0]]))}"/>'
    return f'<svg class="swatch" viewBox="0 0 14 14" aria-hidden="true">{mark}</svg>'


NOUNS: Mapping[str, tuple[str, str]] = {
    "queries": ("query", "queries"),
    "retrieved": ("retrieved item", "retrieved items"),
    "gallery": ("item of the gallery", "items of the gallery"),
}
"""What the points of a map are, one and several."""


def shares(found: Sequence[int]) -> list[float]:
    """Return each bin's share of all."""
    total = max(1, sum(found))
    return [count / total for count in found]


def median(edges: Sequence[float], found: Sequence[int]) -> float:
    """Return about where half of what a histogram counts is below; its middle where it counts nothing."""
    total, below = sum(found), 0
    for low, high, count in zip(edges[:-1], edges[1:], found, strict=True):
        if count and 2 * (below + count) >= total:
            return low + (high - low) * (total / 2 - below) / count
        below += count
    return (edges[0] + edges[-1]) / 2


def _marks(kind: str, places: Iterable[Sequence[float]]) -> str:
    """Return a path of all points of a kind: triangles, or lines of no length, whose round ends are dots."""
    shape = "m0-5l4.5 8h-9z" if kind == "queries" else "h0"
    return "".join(f"M{x:.1f} {y:.1f}{shape}" for x, y in places)


def _frame(
    across: tuple[float, float], most: float, title: str, *, share: bool = True
) -> tuple[Callable[[float], float], Callable[[float], float], list[str]]:
    """Return what places values on both axes, and the axes' ticks."""
    low, high = across
    high = high if high > low else low + 1
    top = 1.05 * most or 1.0

    def x(value: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * (value - low) / (high - low)

    def y(value: float) -> float:
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * value / top

    parts = [
        _level(y(tick), f"{100 * tick:g}%" if share else f"{tick:,.0f}")
        for tick in ticks(0.0, top, whole=not share, most=4)
    ]
    parts += [
        _tick(x(tick), HEIGHT - BOTTOM + 17, f"{tick:g}" if share else f"{tick:,.0f}")
        for tick in ticks(low, high, whole=not share, most=6)
    ]
    return x, y, [*parts, _title(title)]


def _bars(
    edges: Sequence[float], found: Sequence[float], x: Callable[[float], float], y: Callable[[float], float]
) -> list[str]:
    return [
        f'<rect class="bar" x="{x(low) + 0.5:.1f}" y="{y(value):.1f}" width="{max(0.5, x(high) - x(low) - 1):.1f}" '
        f'height="{y(0) - y(value):.1f}"/>'
        for low, high, value in zip(edges[:-1], edges[1:], found, strict=True)
        if value
    ]


def _apart(sizes: Sequence[int], x: Callable[[float], float]) -> list[int]:
    """Return the sizes, the last one first, whose numbers do not touch."""
    found: list[int] = []
    for size in reversed(sizes):
        if not found or x(found[-1]) - x(size) > 4 * len(whole(found[-1])) + 4 * len(whole(size)) + 6:
            found.append(size)
    return found


def _level(y: float, text: str) -> str:
    return (
        f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
        f'<text class="tick" x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{text}</text>'
    )


def _tick(x: float, y: float, text: str) -> str:
    return f'<text class="tick" x="{x:.1f}" y="{y:.1f}" text-anchor="middle">{text}</text>'


def _title(text: str) -> str:
    return _tick((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 7, text)


def _svg(width: int, height: int, described: str, parts: Iterable[str]) -> str:
    return f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{escape(described)}">{"".join(parts)}</svg>'
