from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from tutelage.report.curated.pictures import (
    MAP_HEIGHT,
    MAP_WIDTH,
    counts,
    median,
    quality_curve,
    scatter,
    shares,
    similarities,
)
from tutelage.report.numbers import percent


def inside(picture: str) -> ElementTree.Element:
    """Return the picture, all of whose coordinates lie within it."""
    svg = ElementTree.fromstring(picture)
    _, _, width, height = map(float, svg.get("viewBox").split())
    for each in svg.iter():
        for name, most in (("x", width), ("x1", width), ("cx", width), ("y", height), ("y2", height), ("cy", height)):
            assert 0 <= float(each.get(name, 0)) <= most
        for point in (each.get("points") or "").split():
            x, y = map(float, point.split(","))
            assert 0 <= x <= width
            assert 0 <= y <= height
    return svg


def bars(svg: ElementTree.Element) -> list[float]:
    return [float(each.get("height")) for each in svg.iter("rect")]


def test_bars_are_shares_of_what_was_retrieved() -> None:
    svg = inside(similarities([0, 0.25, 0.5, 0.75, 1], [0, 10, 30, 0], [500, 400, 100, 0]))
    low, high = bars(svg)
    assert high == pytest.approx(3 * low, abs=0.4)


def test_the_gallery_is_drawn_on_the_same_scale() -> None:
    svg = inside(similarities([0, 0.5, 1], [1, 3], [300, 100]))
    points = [point.split(",")[1] for point in next(svg.iter("polyline")).get("points").split()]
    tops = [float(each.get("y")) for each in svg.iter("rect")]
    assert float(points[1]) == pytest.approx(tops[1], abs=0.1)
    assert float(points[3]) == pytest.approx(tops[0], abs=0.1)


@pytest.mark.parametrize("edges", [[0.9, 0.9005, 0.901], [-1, 0, 1], [0.5, 0.5, 0.5]])
def test_any_range_of_similarities_fits(edges: list[float]) -> None:
    inside(similarities(edges, [3, 4], [0, 9]))


@pytest.mark.parametrize("found", [[1], [0, 0], [3, 3, 3], [0, 1, 2, 7], list(range(1000))])
def test_every_query_is_counted(found: list[int]) -> None:
    svg = inside(counts(found))
    edges = [float(each.get("x")) for each in svg.iter("rect")]
    assert len(edges) == len(set(edges)) <= 24
    heights = bars(svg)
    assert min(heights) > 0


def test_bars_of_queries_are_as_high_as_they_are_many() -> None:
    one, three = bars(inside(counts([5, 5, 5, 0])))
    assert three == pytest.approx(3 * one, abs=0.4)


@pytest.mark.parametrize("sizes", [[100], [100, 200, 300, 400, 500, 1_000_000]])
def test_each_seed_is_a_mark_and_the_chosen_size_a_line(sizes: list[int]) -> None:
    svg = inside(quality_curve(sizes, [[0.5, 0.6]] * len(sizes), sizes[0], percent))
    assert len(list(svg.iter("circle"))) == 2 * len(sizes)
    (line,) = (each for each in svg.iter("line") if each.get("class") == "chosen-size")
    assert line.get("x1") == next(svg.iter("circle")).get("cx")


def test_numbers_of_sizes_do_not_touch() -> None:
    svg = inside(quality_curve(range(1000, 2000, 50), [[0.5]] * 20, None, percent))
    places = sorted(float(each.get("x")) for each in svg.iter("text") if re.fullmatch("[0-9],[0-9]{3}", each.text))
    assert np.diff(places).min() > 40


def test_points_stay_on_their_map_with_one_scale() -> None:
    square = {"queries": [(0.0, 0.0), (10.0, 10.0)], "retrieved": [(0.0, 10.0)], "gallery": [(10.0, 0.0)]}
    svg = inside(scatter(square))
    found = [
        tuple(map(float, match))
        for each in svg.iter("path")
        for match in re.findall(r"M([\d.]+) ([\d.]+)", each.get("d"))
    ]
    assert len(found) == 4
    width, height = np.ptp(np.array(found), axis=0)
    assert width == pytest.approx(height)
    assert max(x for x, _ in found) < MAP_WIDTH
    assert max(y for _, y in found) < MAP_HEIGHT


def test_a_map_without_queries_is_one_all_the_same() -> None:
    text = scatter({"queries": [], "retrieved": [(1.0, 2.0)], "gallery": [(1.0, 2.0)]})
    assert 'class="queries"' not in text
    assert "1 retrieved item, 1 item of the gallery" in text


def test_the_median_is_where_half_is_below() -> None:
    values = np.random.default_rng(0).beta(2, 5, 20_000)
    found, edges = np.histogram(values, 200, (0, 1))
    assert median(edges.tolist(), found.tolist()) == pytest.approx(np.median(values), abs=1e-3)


def test_shares_of_nothing_are_zero() -> None:
    assert shares([0, 0]) == [0, 0]
