"""Whether an exported file says what the trained model says."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from tutelage.errors import ExportError
from tutelage.export.graph import Deployable, inference_copy, restored, upsampled
from tutelage.export.scoring import Logits, Masks, Pixels, Score, Segment, open_onnx, open_onnx_masks
from tutelage.models.model import Model

Answer = TypeVar("Answer")
Answers = TypeVar("Answers")

TOGETHER = 2
"""Images that go through a file of masks together: enough to see whether they influence each other."""


@dataclass(frozen=True)
class Parity:
    """How far an exported file's logits are from the model's.

    Attributes:
        images: Number of images compared.
        difference: Largest absolute difference of a logit.
        relative: ``difference`` over the model's largest absolute logit.
        agreement: Share of images, or of their pixels, with the same top-1 class.
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
    images: Sequence[Pixels],
    *,
    tolerance: float = 1e-3,
    opener: Callable[[Path], Score] = open_onnx,
) -> Parity:
    """Compare an exported file with the trained model, not reparameterized, on ``images``.

    Images of one size go through the file together, and through the model one by one, so that a batch in which
    images influence each other shows as well.

    Args:
        model: The trained model; its state is left as it is.
        path: The exported file.
        images: Pixels, each uint8 [H, W, 3]; sizes may differ.
        tolerance: Largest difference to accept, relative to the largest logit. Rounding alone gives about 1e-5.
        opener: Opens a file of its form.

    Raises:
        ExportError: The file cannot be run, or does not agree.
    """
    expected = _expected(model, path, images)
    found = _run(path, images, opener, lambda logits, row: logits[row])
    return _judged(path, np.stack(found), expected, tolerance)


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
    size = Deployable(model).preprocess.size
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


def _expected(model: Model, path: Path, images: Sequence[Pixels]) -> Logits:
    if not images:
        raise ExportError(f"{path}: no images to compare on; give at least one")
    deployable = Deployable(inference_copy(model))
    with torch.no_grad():
        return np.concatenate([deployable(torch.from_numpy(image.copy())[None]).numpy() for image in images])


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
            f"{path}: does not agree with the trained model on {parity.images} images: logits differ by up to "
            f"{difference:.3g} ({parity.relative:.2%} of the largest, {tolerance:.2%} allowed), and "
            f"{parity.agreement:.1%} have the same top-1 class; do not use the file, export it again"
        )
    return parity


def _run(
    path: Path,
    images: Sequence[Pixels],
    opener: Callable[[Path], Callable[[Pixels], Answers]],
    of: Callable[[Answers, int], Answer],
    together: int | None = None,
) -> list[Answer]:
    """Return what a file says of each image; those of one size go through it together, or as many as may.

    Args:
        path: The file.
        images: Pixels.
        opener: Opens it.
        of: Returns one image's part of an answer.
        together: How many images at most.
    """
    groups: dict[tuple[int, ...], list[int]] = {}
    for row, image in enumerate(images):
        groups.setdefault(image.shape, []).append(row)
    answers: dict[int, Answer] = {}
    try:
        score = opener(path)
        for same in groups.values():
            step = together or len(same)
            for rows in (same[start : start + step] for start in range(0, len(same), step)):
                found = score(np.stack([images[row] for row in rows]))
                answers.update((row, of(found, place)) for place, row in enumerate(rows))
    # The errors of ONNX Runtime and of torch.export share no root but Exception.
    except Exception as error:
        raise ExportError(f"{path}: cannot be run ({str(error).splitlines()[0]}); export it again") from error
    return [answers[row] for row in range(len(images))]


def _top(logits: Tensor, shape: tuple[int, ...], size: int) -> tuple[Masks, Logits]:
    """Return each pixel's most probable class, and how far its logit is ahead of the next, both [H, W]."""
    (full,) = upsampled(logits[None], size)
    if len(full) == 1:
        full = torch.cat([full, torch.full_like(full, -torch.inf)])
    best = full.topk(2, dim=0)
    height, width = shape
    told, ahead = restored(full.argmax(0), height, width), restored(best.values[0] - best.values[1], height, width)
    return told.numpy(), ahead.numpy()
