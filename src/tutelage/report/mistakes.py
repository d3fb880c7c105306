"""The student's most confident mistakes as pictures and texts inside the page."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

from tutelage.report.finished import Finished
from tutelage.report.numbers import percent

ENCODED = {b"\x89PNG\r\n\x1a\n": "image/png", b"\xff\xd8\xff": "image/jpeg"}
"""What an image begins with, by its type."""


SHOWN = 300
"""Characters of a text that are shown at first sight."""


def mistakes(run: Finished) -> list[dict[str, Any]]:
    """Return each mistake with its picture as a ``data:`` address, or its texts, the most confident first.

    A text has its ``start`` and, if it is long, its ``rest``; a pair of sentences is two texts.
    """
    return [_shown(mistake) for mistake in run.mistakes if mistake["picture"] is None or _type(mistake)]


def _type(mistake: Mapping[str, Any]) -> str:
    return "" if mistake["picture"] is None else picture_type(mistake["picture"])


def _shown(mistake: Mapping[str, Any]) -> dict[str, Any]:
    kind = _type(mistake)
    teacher = mistake["teacher"]
    said = ""
    if teacher == mistake["true"]:
        said = "teacher right"
    elif teacher == mistake["predicted"]:
        said = "teacher too"
    elif teacher is not None:
        said = f"teacher: {teacher}"
    return {
        "source": f"data:{kind};base64,{base64.b64encode(mistake['picture']).decode()}" if kind else "",
        "texts": [cut_text(text) for text in mistake.get("texts", ())],
        "kind": kind.removeprefix("image/"),
        "id": mistake["id"],
        "true": mistake["true"],
        "predicted": mistake["predicted"],
        "probability": percent(mistake["probability"]),
        "true_probability": percent(mistake["true_probability"]),
        "teacher": said,
    }


def cut_text(text: str) -> dict[str, str]:
    """Return a text's start, up to a word's end, and the rest."""
    if len(text) <= SHOWN:
        return {"start": text, "rest": ""}
    end = max(text.rfind(" ", SHOWN // 2, SHOWN), 0) or SHOWN
    return {"start": text[:end], "rest": text[end:]}


def picture_type(picture: bytes) -> str:
    """Return the type of an encoded image, as ``data:`` addresses say it; empty for what may not be shown."""
    return next((kind for start, kind in ENCODED.items() if picture.startswith(start)), "")
