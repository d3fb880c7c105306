"""The parts ``embed`` and ``crops`` of `curate.py`: from JPEG files to vectors, and to crops.

Embedding decodes in threads while the encoder works. On one processor both need the same cores, so the best that is
to be had is the sum of their times alone, a rate of 1 / (1 / decoding + 1 / encoder); with the encoder on a device of
its own it would be the slower of the two. Crops are cut and augmented alike by both sides; what differs is that one
decodes each image once, and the other for every crop. The encoder is left out there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch
from case import pictures
from side_by_side import compare, in_turns, seconds
from torch import Tensor

from tutelage.curation.crops import CROPS, Cutting, cut, draw
from tutelage.curation.embed import BATCH, _unit, _workers, embed, preprocess_of
from tutelage.data.images import packed, short_side
from tutelage.data.samples import Samples
from tutelage.models.model import Encoder
from tutelage.models.preprocess import ImagePreprocess
from tutelage.models.sources import build_encoder
from tutelage.training.precision import precision
from tutelage.views import render

ENCODER = "bundled:efficientnet-lite0"
SIZE = 96
CROPPED = 384
"""Side of the pictures that crops are cut from; those that are embedded are as large as the encoder's input."""

CROP_SIZES = (96, 224)
MANY = Cutting(CROPS, 10)

One = Callable[[int], object]


def measure_embed(images: int, pairs: int, work: Path) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return rows and comparisons."""
    samples = pictures(work / f"jpegs-{SIZE}", images, SIZE)
    encoder = build_encoder(ENCODER, pretrained=True, size=SIZE).eval()
    encoder.to(memory_format=torch.channels_last)
    preprocess = preprocess_of(encoder)
    every = torch.cat([whole(samples, preprocess, row) for row in range(len(samples))])
    views = [every[start : start + BATCH] for start in range(0, len(every), BATCH)]
    cases: dict[str, Callable[[], object]] = {
        "decoding and cutting alone": partial(threaded, len(samples), partial(whole, samples, preprocess)),
        "encoder alone": partial(forward, encoder, views),
        "embed": partial(embed, [samples], [encoder], Cutting()),
    }
    rates = {what: [images / each for each in found] for what, found in in_turns(cases, pairs, seconds).items()}
    decoding, encoding, ours = rates.values()
    together = [1 / (1 / one + 1 / other) for one, other in zip(decoding, encoding, strict=True)]
    slower = [min(each) for each in zip(decoding, encoding, strict=True)]
    told = {**rates, "1 / (1 / decoding + 1 / encoder)": together, "the slower of the two": slower}
    reference = "images a second of 1 / (1 / decoding + 1 / encoder)"
    overlapped = compare(ours, slower, reference="the slower of the two, alone", side="at_least")
    return _rows("embed", told, "images/s"), [
        {"ours": "embed", **compare(ours, together, reference=reference, side="at_least", goal=0.9)},
        {"ours": "embed", **overlapped},
    ]


def measure_crops(images: int, pairs: int, work: Path) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return rows and comparisons."""
    samples = pictures(work / f"jpegs-{CROPPED}", images, CROPPED)
    rows: list[dict[str, Any]] = []
    comparisons: list[dict[str, Any]] = []
    for size in CROP_SIZES:
        preprocess = replace(preprocess_of(build_encoder(ENCODER, pretrained=False, size=SIZE)), size=size)
        cases: dict[str, Callable[[], object]] = {
            "one decoding": partial(threaded, len(samples), partial(decoded_once, samples, preprocess)),
            "a decoding a crop": partial(threaded, len(samples), partial(decoded_each, samples, preprocess)),
        }
        rates = {
            f"{MANY.count} crops of {size} px, {what}": [MANY.count * images / each for each in found]
            for what, found in in_turns(cases, pairs, seconds).items()
        }
        ours, reference = rates.values()
        found_ratio = compare(ours, reference, reference="crops/s of decoding for each", side="at_least", goal=3.0)
        rows += _rows("crops", rates, "crops/s")
        comparisons.append({"ours": f"crops of {size} px", **found_ratio})
    return rows, comparisons


def whole(samples: Samples, preprocess: ImagePreprocess, row: int) -> Tensor:
    """Return an image's evaluation view, float32 [1, 3, size, size]."""
    assert samples.images is not None
    return cut(samples.images[row], samples.keys[row], Cutting(), [preprocess])[0][0]


def decoded_once(samples: Samples, preprocess: ImagePreprocess, row: int) -> Tensor:
    """Return an image's crops, float32 [10, 3, size, size]."""
    assert samples.images is not None
    return cut(samples.images[row], samples.keys[row], MANY, [preprocess])[0][0]


def decoded_each(samples: Samples, preprocess: ImagePreprocess, row: int) -> Tensor:
    """Return the same crops, each from a decoding of its own."""
    assert samples.images is not None
    made = []
    for number in range(MANY.count):
        picture = packed(samples.images[row], short_side(preprocess.size))
        view = draw(MANY, samples.keys[row], picture.shape[2] / picture.shape[1])[number : number + 1]
        made.append(render([picture], view, preprocess.size))
    return torch.cat(made)


def forward(encoder: Encoder, views: Sequence[Tensor]) -> None:
    """Encode views that are at hand, as :func:`tutelage.curation.embed.embed` does."""
    with torch.no_grad(), precision(torch.device("cpu")):
        for batch in views:
            _unit(encoder, batch)


def threaded(count: int, work: One) -> None:
    """Do work on all images, in as many threads as decode for an encoder."""
    with ThreadPoolExecutor(_workers(), "alone", torch.set_num_threads, (1,)) as pool:
        for _ in pool.map(work, range(count)):
            pass


def _rows(part: str, rates: dict[str, list[float]], unit: str) -> list[dict[str, Any]]:
    return [{"part": part, "what": what, "value": median(found), "unit": unit} for what, found in rates.items()]
