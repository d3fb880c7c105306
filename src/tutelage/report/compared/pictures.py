"""Scores against labels and against compute as inline SVG; colors come from the page's style sheet, by class."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape

from tutelage.comparison.findings import Contender, Curve, LabelCurve
from tutelage.comparison.table import Comparison, Spent
from tutelage.comparison.verdict import contender_words
from tutelage.report.compared.scales import log_ticks, places, spread
from tutelage.report.numbers import percent
from tutelage.report.pictures import ticks
from tutelage.report.tasks import TASKS

COLORS = 8
"""In the style sheet; where there are more contenders, a color's second use is dash-dotted, the third dotted."""

STROKES = ("", " dash-dotted", " dotted")
SHAPES = ("circle", "square", "triangle", "diamond")

WIDTH, HEIGHT = 912, 400
"""Of the picture over labels: at 100 %, a unit is a pixel."""

HALF_WIDTH, HALF_HEIGHT = 440, 290
"""Of each of the two pictures over compute, which stand side by side."""

LEFT, RIGHT, TOP, BOTTOM = 42, 14, 12, 28

TITLE = 16
"""Height of an axis's title."""

LABEL_GAP = 17
CHARACTER = 6.6
"""Width of a character of a label, on average."""

LONGEST = 40
"""Most characters of a label."""

DODGE = 3.0
"""How far beside each other contenders stand at one label count, so that their deviations can be told apart."""


@dataclass(frozen=True)
class Look:
    """How a contender is drawn: its method decides the color, its transfer set and variant the shape of its marks."""

    color: int
    shape: int

    @property
    def classes(self) -> str:
        """Classes of the style sheet."""
        use, color = divmod(self.color, COLORS)
        return f"c{color} {SHAPES[self.shape]}{STROKES[use % len(STROKES)]}"


def looks(comparison: Comparison) -> dict[Contender, Look]:
    """Return how each contender is drawn, in all pictures.

    Where variants and transfer sets are more than there are shapes, a method's further ones have another color.
    """
    cells = [outcome.cell for outcome in comparison.outcomes]
    named = dict.fromkeys(cell.transfer for cell in cells if cell.transfer is not None)
    transfers: dict[str | None, int] = {transfer: place for place, transfer in enumerate(named)}
    variants = {variant: place for place, variant in enumerate(dict.fromkeys(cell.variant for cell in cells))}
    colors: dict[tuple[str, int], int] = {}
    found = {}
    for cell in cells:
        place = variants[cell.variant] * max(1, len(transfers)) + transfers.get(cell.transfer, 0)
        color = colors.setdefault((cell.method, place // len(SHAPES) if len(variants) > 1 else 0), len(colors))
        found[Contender.of(cell)] = Look(color, place % len(SHAPES))
    return found


def swatch(look: Look, *, level: bool = False) -> str:
    """Return a legend's line and mark as an ``<svg>``; a level has no mark."""
    line = f'<line class="line{" level" if level else ""}" x1="1" x2="27" y1="7" y2="7"/>'
    mark = "" if level else _mark(look, 14, 7)
    return f'<svg class="swatch {look.classes}" viewBox="0 0 28 14" aria-hidden="true">{line}{mark}</svg>'


def over_labels(
    curves: Sequence[LabelCurve],
    styles: Mapping[Contender, Look],
    labels: Sequence[str],
    task: str = "classification",
) -> str:
    """Return scores against label counts as an ``<svg>``, each contender named beside its last point.

    Args:
        curves: Of contenders with the same start and compute; at least one.
        styles: How each is drawn.
        labels: All label counts, at least two, in order.
        task: That was compared on.
    """
    names = [_short(contender_words(curve.contender)) for curve in curves]
    right = 26 + CHARACTER * max(map(len, names))
    height = max(HEIGHT, TOP + BOTTOM + TITLE + LABEL_GAP * len(curves))
    bottom = height - BOTTOM - TITLE
    low, high = _range(
        summary.mean + sign * (summary.std or 0.0)
        for curve in curves
        for summary in curve.points
        if summary.mean is not None
        for sign in (-1, 1)
    )
    margin = DODGE * len(curves) / 2 + 12
    spots, title = places(labels, dense=TASKS[task].dense)

    def x(amount: str, contender: int = 0, beside: float = 0.0) -> float:
        across = WIDTH - LEFT - right - 2 * margin
        return LEFT + margin + across * spots[amount] + beside * (contender - (len(curves) - 1) / 2)

    def y(score: float) -> float:
        return bottom - (bottom - TOP) * (score - low) / (high - low)

    parts = _levels(low, high, y, WIDTH - right)
    parts += [_tick(x(amount), bottom + 18, escape(amount.removeprefix("max:"))) for amount in labels]
    parts.append(_tick((LEFT + WIDTH - right) / 2, height - 5, title))
    ends = []
    for number, curve in enumerate(curves):
        look = styles[curve.contender]
        points = [
            (x(summary.labels, number, DODGE), summary.mean, summary.std or 0.0)
            for summary in curve.points
            if summary.mean is not None
        ]
        deviations = "".join(
            f'<line class="deviation" x1="{at:.1f}" x2="{at:.1f}" y1="{y(mean - std):.1f}" y2="{y(mean + std):.1f}"/>'
            for at, mean, std in points
            if std
        )
        drawn = [(at, y(mean)) for at, mean, _ in points]
        parts.append(f'<g class="{look.classes}">{deviations}{_path(drawn, look)}</g>')
        ends.append(drawn[-1])
    for number, to in enumerate(spread([end[1] for end in ends], LABEL_GAP, TOP, bottom)):
        (at, level), place = ends[number], WIDTH - right + 18
        parts.append(
            f'<line class="leader" x1="{at + 7:.1f}" y1="{level:.1f}" x2="{place - 4:.1f}" y2="{to:.1f}"/>'
            f'<text class="{styles[curves[number].contender].classes} name-of" x="{place:.1f}" y="{to + 4:.1f}">'
            f"{escape(names[number])}</text>"
        )
    described = "; ".join(
        f"{contender_words(curve.contender)}: "
        + ", ".join(f"{percent(summary.mean)} with {summary.labels}" for summary in curve.points)
        for curve in curves
    )
    return _svg(WIDTH, height, f"Score against labels. {described}", parts)


def over_compute(
    curves: Sequence[Curve],
    styles: Mapping[Contender, Look],
    compute: Callable[[Spent], float],
    nice: Sequence[Sequence[float]],
    words: Callable[[float], str],
) -> str:
    """Return scores against pretraining compute as an ``<svg>``; checkpoints are marks, no pretraining is a level.

    Args:
        curves: Of one group; at least one has a checkpoint that costs something.
        styles: How each is drawn.
        compute: Picks FLOPs or seconds.
        nice: Ticks to choose from, the coarsest first, each rising.
        words: Says a tick.
    """
    # What costs nothing has no logarithm.
    paths = [
        [(compute(point.spent), point.score) for point in curve.points if compute(point.spent) > 0]
        for curve in curves
    ]
    spent = [at for path in paths for at, _ in path]
    first, last = math.log(min(spent) / 1.2), math.log(max(spent) * 1.2)
    low, high = score_range(curves)

    def x(value: float) -> float:
        return LEFT + (HALF_WIDTH - LEFT - RIGHT) * (math.log(value) - first) / (last - first)

    def y(score: float) -> float:
        return HALF_HEIGHT - BOTTOM - (HALF_HEIGHT - TOP - BOTTOM) * (score - low) / (high - low)

    parts = _levels(low, high, y, HALF_WIDTH - RIGHT)
    for tick in log_ticks(math.exp(first), math.exp(last), nice):
        parts.append(
            f'<line class="grid" x1="{x(tick):.1f}" x2="{x(tick):.1f}" y1="{TOP}" y2="{HALF_HEIGHT - BOTTOM}"/>'
            + _tick(x(tick), HALF_HEIGHT - BOTTOM + 18, words(tick))
        )
    for curve, path in zip(curves, paths, strict=True):
        look = styles[curve.contender]
        if path:
            drawn = _path([(x(at), y(score)) for at, score in path], look)
        elif not curve.points:
            level = f'y1="{y(curve.score):.1f}" y2="{y(curve.score):.1f}"'
            drawn = f'<line class="line level" x1="{LEFT}" x2="{HALF_WIDTH - RIGHT}" {level}/>'
        else:
            continue
        parts.append(f'<g class="{look.classes}">{drawn}</g>')
    described = "; ".join(
        f"{contender_words(curve.contender)}: {percent(curve.score)}"
        + (f" after {words(path[-1][0])}" if path else " without pretraining")
        for curve, path in zip(curves, paths, strict=True)
    )
    return _svg(HALF_WIDTH, HALF_HEIGHT, f"Score against pretraining compute. {described}", parts)


def score_range(curves: Sequence[Curve]) -> tuple[float, float]:
    """Return the ends of an axis that holds all scores of some curves."""
    return _range(score for curve in curves for score in [curve.score, *(point.score for point in curve.points)])


def _range(scores: Iterable[float]) -> tuple[float, float]:
    found = list(scores)
    low, high = min(found), max(found)
    room = max(0.005, 0.04 * (high - low))
    return low - room, high + room


def _levels(low: float, high: float, y: Callable[[float], float], right: float) -> list[str]:
    return [
        f'<line class="grid" x1="{LEFT}" x2="{right:.1f}" y1="{y(tick):.1f}" y2="{y(tick):.1f}"/>'
        f'<text class="tick" x="{LEFT - 6}" y="{y(tick) + 4:.1f}" text-anchor="end">{100 * tick:g}%</text>'
        for tick in ticks(low, high)
    ]


def _tick(x: float, y: float, text: str) -> str:
    return f'<text class="tick" x="{x:.1f}" y="{y:.1f}" text-anchor="middle">{text}</text>'


def _path(points: Sequence[tuple[float, float]], look: Look) -> str:
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return f'<polyline class="line" points="{line}"/>' + "".join(_mark(look, x, y) for x, y in points)


def _mark(look: Look, x: float, y: float) -> str:
    shape = SHAPES[look.shape]
    if shape == "circle":
        return f'<circle class="mark" cx="{x:.1f}" cy="{y:.1f}" r="3.75"/>'
    corners = {
        "square": ((-3.5, -3.5), (3.5, -3.5), (3.5, 3.5), (-3.5, 3.5)),
        "triangle": ((0, -4.75), (4.5, 3.5), (-4.5, 3.5)),
        "diamond": ((0, -5), (5, 0), (0, 5), (-5, 0)),
    }[shape]
    around = " ".join(f"{x + right:.1f},{y + down:.1f}" for right, down in corners)
    return f'<polygon class="mark" points="{around}"/>'


def _short(name: str) -> str:
    return name if len(name) <= LONGEST else f"{name[: LONGEST - 1]}…"


def _svg(width: float, height: float, described: str, parts: Iterable[str]) -> str:
    # Lone control characters are not allowed in the page.
    label = escape(re.sub(r"\s+", " ", described))
    return f'<svg viewBox="0 0 {width:g} {height:g}" role="img" aria-label="{label}">{"".join(parts)}</svg>'
