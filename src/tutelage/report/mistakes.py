"""The student's most confident mistakes as pictures inside the page."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

from tutelage.report.finished import Finished
from tutelage.report.numbers import percent

ENCODED = {b"\x89PNG\r\n\x1a\n": "image/png", b"\xff\xd8\xff": "image/jpeg"}
"""What an image begins with, by its type."""


def mistakes(run: Finished) -> list[dict[str, str]]:
    """Return each mistake with its picture as a ``data:`` address, the most confident first."""
    return [_shown(mistake, kind) for mistake in run.mistakes if (kind := picture_type(mistake["picture"]))]


def _shown(mistake: Mapping[str, Any], kind: str) -> dict[str, str]:
    teacher = mistake["teacher"]
    said = ""
    if teacher == mistake["true"]:
        said = "teacher right"
    elif teacher == mistake["predicted"]:
        said = "teacher too"
    elif teacher is not None:
        said = f"teacher: {teacher}"
    return {
        "source": f"data:{kind};base64,{base64.b64encode(mistake['picture']).decode()}",
        "kind": kind.removeprefix("image/"),
        "id": mistake["id"],
        "true": mistake["true"],
        "predicted": mistake["predicted"],
        "probability": percent(mistake["probability"]),
        "true_probability": percent(mistake["true_probability"]),
        "teacher": said,
    }


def picture_type(picture: bytes) -> str:
    """Return the type of an encoded image, as ``data:`` addresses say it; empty for what may not be shown."""
    return next((kind for start, kind in ENCODED.items() if picture.startswith(start)), "")
