from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from tutelage.report.pictures import HEIGHT, WIDTH, curve, reliability, smoothed, ticks


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0.0, 2.3, [0, 0.5, 1, 1.5, 2]),
        (0.0, 0.3, [0, 0.1, 0.2, 0.3]),
        (0.0, 1.0, [0, 0.5, 1]),
        (-0.4, 0.3, [-0.4, -0.2, 0, 0.2]),
        (0.0, 4e-7, [0, 1e-7, 2e-7, 3e-7, 4e-7]),
    ],
)
def test_ticks_are_round(low: float, high: float, expected: list[float]) -> None:
    assert ticks(low, high) == pytest.approx(expected)


def test_ticks_are_few_and_within_whatever_the_range() -> None:
    random = np.random.default_rng(0)
    for scale in 10.0 ** random.uniform(-6, 6, 300):
        low, high = np.sort(random.normal(size=2)) * scale
        found = ticks(low, high)
        assert 1 <= len(found) <= 5
        assert low - 1e-6 * scale <= found[0]
        assert found[-1] <= high + 1e-6 * scale


@pytest.mark.parametrize("last", [1, 2, 3, 7, 900, 64_000])
def test_ticks_of_steps_are_whole(last: int) -> None:
    assert all(tick == int(tick) for tick in ticks(0, last, whole=True))


def test_smoothing_is_a_mean_of_near_points() -> None:
    values = np.random.default_rng(0).random(203).tolist()
    expected = [np.mean(values[max(0, row - 6) : row + 7]) for row in range(203)]
    assert smoothed(values) == pytest.approx(expected)


@pytest.mark.parametrize(
    "losses",
    [[2.0, 1.0, 0.5], [0.0, 0.0], [1e-9, 2e-9], [-1.0, -2.0], [1e12, 3.0]],
    ids=["falling", "all zero", "tiny", "negative", "huge"],
)
def test_curves_stay_inside_their_picture(losses: list[float]) -> None:
    svg = ElementTree.fromstring(curve(range(1, len(losses) + 1), losses))
    lines = [line.get("points") for line in svg.iter("polyline")]
    assert len(lines) == 2
    for line in lines:
        points = [tuple(map(float, point.split(","))) for point in line.split()]
        assert len(points) == len(losses)
        assert all(0 <= x <= WIDTH and 0 <= y <= HEIGHT for x, y in points)


def test_curve_falls_when_the_loss_does() -> None:
    points = re.findall(r"[\d.]+,([\d.]+)", curve([1, 2, 3], [2.0, 1.0, 0.0]))
    assert float(points[0]) < float(points[1]) < float(points[2])


BIN = 1 / 15


def reliable(*bins: tuple[float, ...]) -> ElementTree.Element:
    return ElementTree.fromstring(reliability(bins, BIN))


@pytest.mark.parametrize("right", [0.0, 0.5, 1.0])
def test_reliability_stays_inside_its_picture(right: float) -> None:
    svg = reliable((0.0, right, 0.0, 1.0, 0.9), (14 * BIN, right, right, right, 0.1))
    _, _, width, height = map(float, svg.get("viewBox").split())
    for bar in svg.iter("rect"):
        x, y, wide, high = (float(bar.get(name)) for name in ("x", "y", "width", "height"))
        assert 0 <= x < x + wide <= width
        assert 0 <= y <= y + high <= height


def test_a_calibrated_bar_ends_at_the_diagonal() -> None:
    svg = reliable((7 * BIN, 7.5 * BIN, 0.4, 0.6, 1.0))
    (bar,) = (each for each in svg.iter("rect") if each.get("class") == "bar")
    (ideal,) = (each for each in svg.iter("line") if each.get("class") == "ideal")
    x1, y1, x2, y2 = (float(ideal.get(name)) for name in ("x1", "y1", "x2", "y2"))
    middle = float(bar.get("x")) + float(bar.get("width")) / 2
    assert float(bar.get("y")) == pytest.approx(y1 + (y2 - y1) * (middle - x1) / (x2 - x1), abs=0.2)


def test_bars_below_hang_as_deep_as_their_share() -> None:
    svg = reliable((0.0, 0.5, 0.4, 0.6, 0.2), (0.4, 0.5, 0.4, 0.6, 0.8))
    shallow, deep = (float(each.get("height")) for each in svg.iter("rect") if each.get("class") == "part")
    assert deep == pytest.approx(4 * shallow, abs=0.3)
