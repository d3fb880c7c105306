"""Texts as people have them: characters that do not exist are replaced, and images without a text are left out."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np

from tutelage.data.problems import Problem
from tutelage.data.samples import Samples
from tutelage.errors import DataError

_FOREIGN = re.compile("[\0\ud800-\udfff]")
"""NUL, and halves of surrogate pairs, which no encoding of text has."""


def with_texts(samples: Samples) -> Samples:
    """Return the samples that have both an image and a text, without white space around it.

    Characters that do not exist become spaces. What was left out or replaced is in ``problems``.

    Raises:
        DataError: None have texts, or none have images.
    """
    if samples.images is None:
        raise DataError(f"{samples.origin}: has no images; pairs are images with a text each")
    if samples.texts is None:
        raise DataError(
            f"{samples.origin}: has no texts; pairs are images with a text each, in a table's column text, in an "
            "archive's members .txt, or under text or caption in those in .json"
        )
    texts = [_FOREIGN.sub(" ", text).strip() for text in samples.texts]
    lost = [Problem("no text", samples.ids[row]) for row, text in enumerate(texts) if not text]
    replaced = [
        Problem("characters", samples.ids[row], "became spaces")
        for row, (text, given) in enumerate(zip(texts, samples.texts, strict=True))
        if text and _FOREIGN.search(given)
    ]
    whole = replace(samples, texts=texts, problems=(*samples.problems, *lost, *replaced))
    kept = np.array([row for row, text in enumerate(texts) if text], dtype=np.int64)
    return whole.subset(kept) if lost else whole
