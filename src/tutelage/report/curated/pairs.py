"""Queries beside what was retrieved for them, as pictures (or texts) inside the page."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tutelage.curation.gallery import Content, present
from tutelage.data.samples import CutOut, ImageSource
from tutelage.data.thumbnails import thumbnail
from tutelage.errors import TutelageError
from tutelage.report.curated.files import Curated
from tutelage.report.mistakes import cut_text
from tutelage.runtime.texts import parts

SIDE = 96
"""Long side of a picture, in pixels."""

SHOWN = 12
"""Queries that are shown at first sight."""

TYPES = {"png": "image/png", "jpg": "image/jpeg"}


def pairs(curated: Curated) -> list[dict[str, Any]]:
    """Return some queries, each with items that were retrieved for it, nearest first.

    An image that is gone, or can no longer be decoded, has no picture.
    """
    entries = [each for each in curated.pairs if each.get("query") or each.get("prompt")]
    shown = [place for each in entries for place in [each.get("query"), *each["retrieved"]] if place]
    places = [place for place in shown if "text" not in place]
    images = _images(places)
    classes = dict(zip(curated.data["query_ids"], curated.data["query_classes"], strict=False))
    return [_pair(each, images, classes, curated.suspects) for each in entries]


def _pair(
    entry: Mapping[str, Any],
    images: Mapping[tuple[str, str], ImageSource],
    classes: Mapping[str, str],
    suspects: frozenset[tuple[str, str]],
) -> dict[str, Any]:
    query = entry.get("query")
    name = query["id"] if query else entry["prompt"]
    retrieved = [
        {
            **_picture(each, images),
            "similarity": f"{each['similarity']:.3f}",
            "suspect": (each["source"], each["id"]) in suspects,
        }
        for each in entry["retrieved"]
    ]
    own = {**_picture(query, images), "class": classes.get(name, "")} if query else None
    return {"query": own, "prompt": "" if query else name, "retrieved": retrieved}


def _picture(place: Mapping[str, Any], images: Mapping[tuple[str, str], ImageSource]) -> dict[str, Any]:
    """Return a sample's id, and its picture as a ``data:`` address, empty where there is none; or its texts."""
    found: dict[str, Any] = {"id": place["id"], "address": "", "kind": "", "texts": []}
    if "text" in place:
        return {**found, "texts": [cut_text(part) for part in parts(place["text"]) if part is not None]}
    image = images.get((place["source"], place["id"]))
    if image is None:
        return found
    top, left, height, width = place.get("box") or (0, 0, 1, 1)
    try:
        content, ending = thumbnail(CutOut(image, (top, left, height, width)), SIDE)
    except TutelageError:
        return found
    address = f"data:{TYPES[ending]};base64,{base64.b64encode(content).decode()}"
    return {**found, "address": address, "kind": ending}


def _images(places: Iterable[Mapping[str, Any]]) -> dict[tuple[str, str], ImageSource]:
    """Return where images are, by their data and ids; each of the data is read once."""
    ids: dict[str, list[str]] = {}
    for each in places:
        ids.setdefault(each["source"], []).append(each["id"])
    found: dict[tuple[str, str], ImageSource] = {}
    for source, wanted in ids.items():
        there = _present(source, wanted)
        found |= {(source, name): image for name, image in there.items() if not isinstance(image, str)}
    return found


def _present(source: str, wanted: Sequence[str]) -> Mapping[str, Content]:
    """Return the images that are still there: a page on what was is no place to stop for what has gone."""
    try:
        return present(source, wanted)
    except TutelageError:
        return {}
