"""Whether an exported file says what the trained model says."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from tutelage.errors import ExportError
from tutelage.export.graph import Deployable, inference_copy, restored, upsampled
from tutelage.export.scoring import (
    Logits,
    Masks,
    Pixels,
    Sample,
    Score,
    Segment,
    open_onnx,
    open_onnx_masks,
    raw_of,
)
from tutelage.models.model import Model
from tutelage.runtime.texts import paired, parts

Answer = TypeVar("Answer")
Answers = TypeVar("Answers")

MANY = 64
"""Samples that go through a file of logits together."""

TOGETHER = 2
"""Images that go through a file of masks together: enough to see whether they influence each other."""

PROBES = (
    "",
    "a",
    "?!",
    "\U0001f600\U0001f44d\U0001f3fd \u2764\ufe0f",
    "\u0645\u0631\u062d\u0628\u0627 \u0628\u0627\u0644\u0639\u0627\u0644\u0645",
    "Gr\u00fc\u00dfe, \u4f60\u597d! \u041f\u0440\u0438\u0432\u0435\u0442",
    "tabs\tand\nlines\x00and what is no character \ud800",
    "many words " * 400,
)
"""Texts that every file of a model of texts is tried on: nothing and next to nothing, emoji, from right to left, in
scripts of many kinds, with what tokenizers do not take, and far too long."""


@dataclass(frozen=True)
class Parity:
    """How far an exported file's logits are from the model's.

    Attributes:
        images: Number of samples compared.
        difference: Largest absolute difference of a logit.
        relative: ``difference`` over the model's largest absolute logit.
        agreement: Share of samples, or of their pixels, with the same top-1 class.
        tolerance: Largest ``relative`` that passes.
    """

    images: int
    difference: float
    relative: float
    agreement: float
    tolerance: float


def check_parity(
    model: Model,
    path: Path,
    samples: Sequence[Sample],
    *,
    tolerance: float = 1e-3,
    opener: Callable[[Path], Score] = open_onnx,
) -> Parity:
    """Compare an exported file with the trained model, not reparameterized, on ``samples``.

    Images of one size, or texts of any lengths, go through the file together, and through the model one by one, so
    that a batch in which they influence each other shows as well, and so does padding. Texts go through the
    tokenizer that lies beside the file; :data:`PROBES` are added to them.

    Args:
        model: The trained model; its state is left as it is.
        path: The exported file.
        samples: What the model reads, decoded: pixels, each uint8 [H, W, 3], whose sizes may differ, texts, or both.
        tolerance: Largest difference to accept, relative to the largest logit. Rounding alone gives about 1e-5.
        opener: Opens a file of its form.

    Raises:
        ExportError: The file cannot be run, or does not agree.
    """
    samples = [*samples, *_probes(samples)]
    expected = _expected(model, path, samples)
    found = _run(path, samples, opener, lambda logits, row: logits[row], MANY)
    return _judged(path, np.stack(found), expected, tolerance)


def _probes(samples: Sequence[Sample]) -> list[Sample]:
    """Return the texts that are always tried, as pairs of sentences or with an image where the samples are such."""
    first = samples[0] if samples else None
    given = first[1] if isinstance(first, tuple) else first
    if not isinstance(given, str):
        return []
    double = parts(given)[1] is not None
    texts = [paired(text, other) if double else text for text, other in zip(PROBES, reversed(PROBES), strict=True)]
    return [(first[0], text) for text in texts] if isinstance(first, tuple) else list(texts)


def check_mask_parity(
    model: Model,
    path: Path,
    images: Sequence[Pixels],
    *,
    tolerance: float = 1e-3,
    opener: Callable[[Path], Segment] = open_onnx_masks,
) -> Parity:
    """Compare the logits and the masks of an exported file with those of the trained model that tells every pixel.

    Masks may differ only where the model's two most probable classes are nearer to each other than logits may differ.

    Args:
        model: The trained model; its state is left as it is.
        path: The exported file.
        images: Pixels, each uint8 [H, W, 3], at real sizes; sizes may differ.
        tolerance: As in :func:`check_parity`.
        opener: Opens a file of its form.

    Raises:
        ExportError: The file cannot be run, or does not agree.
    """
    expected = _expected(model, path, images)
    found = _run(path, images, opener, lambda both, row: (both[0][row], both[1][row]), TOGETHER)
    parity = _judged(path, np.stack([logits for _, logits in found]), expected, tolerance)
    size = Deployable(model).images.size
    near = 2 * tolerance * float(np.abs(expected).max())
    same = pixels = 0
    for (mask, _), logits, image in zip(found, expected, images, strict=True):
        told, ahead = _top(torch.from_numpy(logits), image.shape[:2], size)
        if mask.shape != told.shape:
            raise ExportError(f"{path}: gives a mask {mask.shape} for an image {image.shape[:2]}; export it again")
        differs = mask != told
        wrong = int((differs & (ahead > near)).sum())
        if wrong:
            raise ExportError(
                f"{path}: does not agree with the trained model: {wrong} of {mask.size} pixels of a mask have "
                "another class than its logits say; do not use the file, export it again"
            )
        same, pixels = same + int((~differs).sum()), pixels + mask.size
    return replace(parity, agreement=same / pixels)


def _expected(model: Model, path: Path, samples: Sequence[Sample]) -> Logits:
    if not samples:
        raise ExportError(f"{path}: no samples to compare on; give at least one")
    deployable = Deployable(inference_copy(model))
    with torch.no_grad():
        return np.concatenate([deployable(raw_of([sample])).numpy() for sample in samples])


def _judged(path: Path, actual: Logits, expected: Logits, tolerance: float) -> Parity:
    if actual.shape != expected.shape:
        raise ExportError(f"{path}: gives logits {actual.shape}, the model {expected.shape}; export it again")
    difference = float(np.abs(actual - expected).max())
    scale = float(np.abs(expected).max())
    parity = Parity(
        images=len(expected),
        difference=difference,
        # A head that was never trained gives zeros.
        relative=difference / scale if scale > 0 else difference,
        agreement=float((actual.argmax(1) == expected.argmax(1)).mean()),
        tolerance=tolerance,
    )
    # Written so that a difference that is not a number fails. Top-1 needs no rule of its own: within the
    # tolerance only ties can fall to another class.
    if not parity.relative <= tolerance:
        raise ExportError(
            f"{path}: does not agree with the trained model on {parity.images} samples: logits differ by up to "
            f"{difference:.3g} ({parity.relative:.2%} of the largest, {tolerance:.2%} allowed), and "
            f"{parity.agreement:.1%} have the same top-1 class; do not use the file, export it again"
        )
    return parity


def _run(
    path: Path,
    samples: Sequence[Sample],
    opener: Callable[[Path], Callable[[Any], Answers]],
    of: Callable[[Answers, int], Answer],
    together: int,
) -> list[Answer]:
    """Return what a file says of each sample; those whose images have one size go through it together.

    Args:
        path: The file.
        samples: Decoded.
        opener: Opens it.
        of: Returns one sample's part of an answer.
        together: How many samples at most.
    """
    groups: dict[tuple[int, ...], list[int]] = {}
    for row, sample in enumerate(samples):
        groups.setdefault(_extent(sample), []).append(row)
    answers: dict[int, Answer] = {}
    try:
        score = opener(path)
        for same in groups.values():
            for rows in (same[start : start + together] for start in range(0, len(same), together)):
                some: list[Any] = [samples[row] for row in rows]
                found = score(np.stack(some) if isinstance(some[0], np.ndarray) else some)
                answers.update((row, of(found, place)) for place, row in enumerate(rows))
    # The errors of ONNX Runtime and of torch.export share no root but Exception.
    except Exception as error:
        raise ExportError(f"{path}: cannot be run ({str(error).splitlines()[0]}); export it again") from error
    return [answers[row] for row in range(len(samples))]


def _extent(sample: Sample) -> tuple[int, ...]:
    """Return the shape of a sample's image; texts have none."""
    if isinstance(sample, str):
        return ()
    return sample[0].shape if isinstance(sample, tuple) else sample.shape


def _top(logits: Tensor, shape: tuple[int, ...], size: int) -> tuple[Masks, Logits]:
    """Return each pixel's most probable class, and how far its logit is ahead of the next, both [H, W]."""
    (full,) = upsampled(logits[None], size)
    if len(full) == 1:
        full = torch.cat([full, torch.full_like(full, -torch.inf)])
    best = full.topk(2, dim=0)
    height, width = shape
    told, ahead = restored(full.argmax(0), height, width), restored(best.values[0] - best.values[1], height, width)
    return told.numpy(), ahead.numpy()
