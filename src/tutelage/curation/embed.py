"""Embed samples: unit vectors of each encoder, while threads decode what comes next."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from tutelage.curation.crops import Cutting, cut
from tutelage.data.inspect import found_in
from tutelage.data.loader import MOST_WORKERS
from tutelage.data.problems import Problem
from tutelage.data.samples import ImageSource, Samples
from tutelage.errors import DataError, ModelError
from tutelage.ledger import Cost, counted
from tutelage.models.model import Encoder
from tutelage.models.preprocess import ClipTextPreprocess, ImagePreprocess, Modality, TextPreprocess, modality_of
from tutelage.models.tokens import Corpus, TextInputs
from tutelage.training.precision import precision

BATCH = 64
"""Views that an encoder sees at a time."""

Job = TypeVar("Job")
Result = TypeVar("Result")


@dataclass
class Embedded:
    """What encoders make of some samples.

    Attributes:
        vectors: Of each encoder, unit vectors, float16 [V, D_E]; an image's crops follow each other.
        boxes: Where each item lies in its image, float32 [V, 4].
        ids: Of the images, [n].
        problems: What was left out.
    """

    vectors: list[npt.NDArray[np.float16]]
    boxes: npt.NDArray[np.float32]
    ids: list[str] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)


def embed(
    samples: Iterable[Samples],
    encoders: Sequence[Encoder],
    cutting: Cutting,
    *,
    cost: Cost | None = None,
) -> Embedded:
    """Embed samples: threads decode each image once and cut it, while the encoders work on those before.

    Texts are tokenized a chunk at a time, and read with others of about their length.

    Args:
        samples: With images, or texts; only a few are in memory at a time.
        encoders: In eval mode, on one device.
        cutting: What of each image is an item.
        cost: Gets images and FLOPs.

    Raises:
        ModelError: An encoder reads something else, or gives values that are not finite.
        DataError: A template asks for pairs of texts, and one is none.
    """
    if modality_of(encoders[0].preprocess) == "text":
        return _texts(samples, encoders, cost or Cost())
    preprocesses = [preprocess_of(encoder) for encoder in encoders]
    device = next(encoders[0].parameters()).device
    spent, flops = cost or Cost(), 0.0
    found = Embedded([], np.empty((0, 4), np.float32))
    vectors: list[list[Tensor]] = [[] for _ in encoders]
    boxes: list[npt.NDArray[np.float32]] = []

    def work(job: tuple[str, np.uint64, ImageSource]) -> tuple[str, list[Tensor], Any] | Problem:
        name, key, image = job
        try:
            return name, *cut(image, key, cutting, preprocesses, device=device)
        except DataError as error:
            _, kind, detail = found_in(0, error)
            return Problem(kind, name, detail)

    def forward(views: Sequence[Tensor]) -> list[Tensor]:
        with torch.no_grad(), precision(device):
            return [_unit(encoder, each.to(device)) for encoder, each in zip(encoders, views, strict=True)]

    images = max(1, BATCH // cutting.count)
    jobs = ((name, key, image) for chunk in samples for name, key, image in _images(chunk, found.problems))
    with ThreadPoolExecutor(_workers(), "embed", torch.set_num_threads, (1,)) as pool:
        for batch in _batches(_ahead(pool, work, jobs, 2 * images), images, found.problems):
            views = [torch.cat([each[1][number] for each in batch]) for number in range(len(encoders))]
            if flops:
                made = forward(views)
            else:
                # Every image is the same work, so the first batch's count stands for all.
                made, total = counted(lambda views=views: forward(views))  # type: ignore[misc]
                flops = total / len(batch)
            for held, values in zip(vectors, made, strict=True):
                held.append(values)
            boxes += [each[2] for each in batch]
            found.ids += [each[0] for each in batch]
    spent.images += len(found.ids)
    spent.flops += flops * len(found.ids)
    if boxes:
        found.boxes = np.concatenate(boxes)
    for encoder, held in zip(encoders, vectors, strict=True):
        empty = torch.empty(0, encoder.widths[output_of(encoder)], dtype=torch.float16)
        found.vectors.append(torch.cat([empty, *held]).numpy())
    return found


def _texts(samples: Iterable[Samples], encoders: Sequence[Encoder], spent: Cost) -> Embedded:
    device = next(encoders[0].parameters()).device
    found = Embedded([], np.empty((0, 4), np.float32))
    held: list[list[npt.NDArray[np.float16]]] = [
        [np.empty((0, encoder.widths[output_of(encoder)]), np.float16)] for encoder in encoders
    ]
    rates: list[float] = []
    for chunk in samples:
        found.problems += chunk.problems
        corpus = Corpus(chunk.texts or ())
        made = [np.empty((len(chunk), encoder.widths[output_of(encoder)]), np.float16) for encoder in encoders]
        # The longest first: what a batch takes at most is known at once.
        order = np.argsort(-corpus.lengths, kind="stable")
        for start in range(0, len(order), BATCH):
            rows = order[start : start + BATCH]
            inputs = TextInputs(corpus, rows)
            with torch.no_grad(), precision(device):
                for number, encoder in enumerate(encoders):
                    tokens = _tokens(encoder, inputs)
                    if number < len(rates):
                        made[number][rows] = _unit(encoder, inputs).numpy()
                    else:
                        # Each token is nearly the same work, so the first batch's count stands for all.
                        vectors, flops = counted(lambda encoder=encoder, inputs=inputs: _unit(encoder, inputs))  # type: ignore[misc]
                        made[number][rows] = vectors.numpy()
                        rates.append(flops / tokens)
                    spent.flops += rates[number] * tokens
        for values, part in zip(held, made, strict=True):
            values.append(part)
        found.ids += chunk.ids
    spent.images += len(found.ids)
    found.boxes = np.tile(np.array([0, 0, 1, 1], np.float32), (len(found.ids), 1))
    found.vectors = [np.concatenate(values) for values in held]
    return found


def _tokens(encoder: Encoder, inputs: TextInputs) -> int:
    """Return how many tokens an encoder reads of texts, padding included."""
    assert isinstance(encoder.preprocess, TextPreprocess | ClipTextPreprocess)
    return len(inputs) * int(inputs.corpus.tokens(encoder.preprocess).lengths[inputs.rows].max())


def output_of(encoder: Encoder) -> str:
    """Return which of an encoder's outputs is compared: its embedding in a shared space, or else its features."""
    return "embedding" if "embedding" in encoder.widths else "features"


def preprocess_of(encoder: Encoder) -> ImagePreprocess:
    """Return how an encoder's inputs are made.

    Raises:
        ModelError: It reads no images.
    """
    if not isinstance(encoder.preprocess, ImagePreprocess):
        raise ModelError(f"{encoder.name}: reads no images alone; a gallery of images needs an encoder of images")
    return encoder.preprocess


def check_reads(encoder: Encoder, modality: Modality) -> None:
    """Check that an encoder reads what a gallery holds.

    Raises:
        ModelError: It reads something else.
    """
    if (reads := modality_of(encoder.preprocess)) != modality:
        raise ModelError(f"{encoder.name}: reads {reads}s; a gallery of {modality}s needs an encoder of {modality}s")


def _unit(encoder: Encoder, views: Tensor | TextInputs) -> Tensor:
    """Return unit vectors, float16 [B, D], on the CPU."""
    output = output_of(encoder)
    values = encoder(views, frozenset({output})).require(output).float()
    if not bool(torch.isfinite(values).all()):
        raise ModelError(f"{encoder.name}: gives {output} that are not finite; its weights or inputs are damaged")
    return F.normalize(values, dim=1).half().cpu()


def _images(chunk: Samples, problems: list[Problem]) -> Iterator[tuple[str, np.uint64, ImageSource]]:
    problems += chunk.problems
    yield from zip(chunk.ids, chunk.keys, chunk.images or (), strict=True)


def _workers() -> int:
    return min(MOST_WORKERS, torch.get_num_threads())


def _ahead(
    pool: ThreadPoolExecutor, work: Callable[[Job], Result], jobs: Iterable[Job], most: int
) -> Iterator[Result]:
    """Yield what threads make of jobs, in order, never more than ``most`` ahead."""
    waiting: deque[Future[Result]] = deque()
    for job in jobs:
        waiting.append(pool.submit(work, job))
        if len(waiting) > most:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def _batches(
    found: Iterable[tuple[str, list[Tensor], Any] | Problem], size: int, problems: list[Problem]
) -> Iterator[list[tuple[str, list[Tensor], Any]]]:
    """Yield what could be decoded in batches; the rest is a problem."""
    batch = []
    for each in found:
        if isinstance(each, Problem):
            problems.append(each)
            continue
        batch.append(each)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch
