"""What the sections of a curation's page show, as plain data with formatted numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tutelage.curation.transfer_set import FILE
from tutelage.data.problems import KINDS
from tutelage.report.curated import pictures
from tutelage.report.curated.files import Curated
from tutelage.report.curated.projection import KINDS as POINTS
from tutelage.report.curated.projection import Points
from tutelage.report.curated.words import QUERY_KINDS, left_out_words, one, query_words
from tutelage.report.numbers import MISSING, duration, flops, percent, plural, whole
from tutelage.report.sections import MATRIX_CLASSES, SHOWN_CLASSES
from tutelage.report.tasks import named_metric

ORIGINS = {"known": "known", "calibrated": "calibrated", "given": "recipe", "none": MISSING}
"""Where thresholds come from, in short."""

POINT_WORDS = {"queries": "Queries", "retrieved": "Retrieved", "gallery": "Gallery"}


def reasons(data: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return why something was left out, and how many; nothing if none were."""
    dropped = data["dropped"]
    counts = {several: dropped[kind] for kind, (_, several) in left_out_words(data).items() if dropped.get(kind)}
    return [(words[:1].upper() + words[1:], whole(count)) for words, count in counts.items()]


def encoders(curated: Curated) -> list[dict[str, str]]:
    """Return each encoder's thresholds, how they are known, and how similar what was retrieved is by it."""
    return [
        {
            "name": name,
            "duplicates": _decimal(each["duplicates"]),
            "leaks": _decimal(each["leaks"]),
            "origin": ORIGINS.get(each["source"], MISSING),
            "recall": percent(each["recall"]),
            "false_alarms": percent(each["false_alarms"]),
            "median": _decimal(curated.medians.get(name)),
        }
        for name, each in curated.data["thresholds"].items()
    ]


def problems(data: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the problems of what the gallery holds, by kind."""
    return [(KINDS.get(kind, kind), whole(count)) for kind, count in data["problems"].items() if count]


def brought(data: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return how many items each query brought; ``None`` without queries."""
    counts: Sequence[int] = data["per_query"]
    if not counts:
        return None
    query, several = query_words(data) if data["query_kind"] in QUERY_KINDS else ("query", "queries")
    middle, none = float(np.median(counts)), sum(not count for count in counts)
    said = (
        f"{plural(len(counts), query, several)} brought from {whole(min(counts))} to {whole(max(counts))} "
        f"items, the median being {middle:,g}."
    )
    if none:
        others = (
            "all that is near to it is nearer to others" if none == 1 else "what is near to them is nearer to others"
        )
        said += f" {whole(none)} of them brought none: {others}."
    rows = _classes(counts, data["query_classes"])
    long = len(rows) > MATRIX_CLASSES
    return {
        "sentence": said,
        "picture": pictures.counts(counts) if len(counts) > 1 else "",
        "queries": several,
        "spread": any(row["range"] for row in rows),
        "classes": rows[:SHOWN_CLASSES] if long else rows,
        "others": rows[SHOWN_CLASSES:] if long else [],
    }


def similar(data: Mapping[str, Any]) -> dict[str, str] | None:
    """Return how similar what was retrieved is to the queries; ``None`` where nobody knows."""
    found = data["histograms"] or {}
    edges, retrieved, gallery = (found.get(name) or [] for name in ("edges", "retrieved", "gallery"))
    if len(edges) < 2 or not sum(retrieved) or not sum(gallery):
        return None
    sentence = (
        f"Half of the retrieved items are more similar than {pictures.median(edges, retrieved):.2f} to their nearest "
        f"query; half of the gallery\N{RIGHT SINGLE QUOTATION MARK}s are more similar than "
        f"{pictures.median(edges, gallery):.2f} to theirs."
    )
    return {"sentence": sentence, "picture": pictures.similarities(edges, retrieved, gallery)}


def located(points: Points | None) -> dict[str, Any] | None:
    """Return the map of queries, retrieved items and gallery with its legend; ``None`` if there is none."""
    if points is None:
        return None
    legend = [
        (pictures.swatch(kind), f"{POINT_WORDS[kind]} ({whole(len(points[kind]))})")
        for kind in POINTS
        if points[kind]
    ]
    return {"picture": pictures.scatter(points), "legend": legend, "queries": bool(points["queries"])}


def enough(data: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return how the scores grow with the size, and what was chosen; ``None`` where that was not measured."""
    found = data["quality"]
    if not found:
        return None
    pairs = sorted(zip(found["sizes"], found["runs"], strict=True))
    tried = [(size, known) for size, scores in pairs if (known := [each for each in scores if each is not None])]
    if not tried:
        return None
    metric, sizes, runs = named_metric(found["metric"]), [size for size, _ in tried], [each for _, each in tried]
    return {
        "title": metric.title,
        "chosen": whole(found["chosen"]),
        "why": found["why"],
        "seeds": plural(max(map(len, runs)), "seed"),
        "picture": pictures.quality_curve(sizes, runs, found["chosen"], metric.words),
        **_means(found),
    }


def _means(quality: Mapping[str, Any]) -> dict[str, Any]:
    """Return a table of each size's mean scores, and its titles."""
    columns = {quality["metric"]: quality["runs"], **quality.get("beside", {})}
    metrics = {key: named_metric(key) for key in columns}

    def mean(scores: Sequence[float | None]) -> float | None:
        known = [score for score in scores if score is not None]
        return float(np.mean(known)) if known else None

    rows = [
        (whole(size), [metrics[key].words(mean(runs[row])) for key, runs in columns.items()])
        for row, size in enumerate(quality["sizes"])
    ]
    return {"titles": [metric.title for metric in metrics.values()], "means": rows}


def made(curated: Curated) -> list[tuple[str, str]]:
    """Return from what, with what and at what cost the transfer set was made, and where it is."""
    data = curated.data
    cost = data.get("cost") or {}
    crops = f"{whole(data['crops'])} random crops of each" if data["crops"] else "whole"
    rows = [
        ("gallery", data["gallery"]),
        (
            f"{one(data)}s of the gallery",
            whole(data["gallery_images"]) + ("" if one(data) == "text" else f", {crops}"),
        ),
        ("encoders", ", ".join(data["encoders"]) or MISSING),
        ("seed", str(data["seed"])),
        ("time", duration(cost["seconds"]) if cost.get("seconds") else None),
        ("FLOPs", flops(cost["flops"]) if cost.get("flops") else None),
        ("device", cost.get("device") or None),
        ("transfer set", (curated.folder / FILE).as_posix()),
    ]
    return [(label, value) for label, value in rows if value is not None]


def _classes(counts: Sequence[int], names: Sequence[str]) -> list[dict[str, Any]]:
    """Return a row for each class of queries, the one that brought most first."""
    groups: dict[str, list[int]] = {}
    for name, count in zip(names, counts, strict=False):
        groups.setdefault(name, []).append(count)
    if len(groups) < 2:
        return []
    most = max(1, *(sum(each) for each in groups.values()))
    ordered = sorted(groups.items(), key=lambda item: (-sum(item[1]), item[0]))
    return [
        {
            "name": name,
            "queries": whole(len(each)),
            "items": whole(sum(each)),
            "share": sum(each) / most,
            "range": f"{whole(min(each))} · {np.median(each):,g} · {whole(max(each))}" if len(each) > 1 else "",
        }
        for name, each in ordered
    ]


def _decimal(value: float | None) -> str:
    return MISSING if value is None else f"{value:.3f}"
