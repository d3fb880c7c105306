"""Whether an exported file says what the trained model says."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from tutelage.errors import ExportError
from tutelage.export.graph import Deployable, inference_copy
from tutelage.export.scoring import Score, open_onnx
from tutelage.models.model import Model


@dataclass(frozen=True)
class Parity:
    """How far an exported file's logits are from the model's.

    Attributes:
        images: Number of images compared.
        difference: Largest absolute difference of a logit.
        relative: ``difference`` over the model's largest absolute logit.
        agreement: Share of images with the same top-1 class.
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
    images: Sequence[npt.NDArray[np.uint8]],
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
    if not images:
        raise ExportError(f"{path}: no images to compare on; give at least one")
    deployable = Deployable(inference_copy(model))
    with torch.no_grad():
        expected = np.concatenate([deployable(torch.from_numpy(image.copy())[None]).numpy() for image in images])
    actual = _run(path, images, opener)
    if actual.shape != expected.shape:
        raise ExportError(f"{path}: gives logits {actual.shape}, the model {expected.shape}; export it again")
    difference = float(np.abs(actual - expected).max())
    scale = float(np.abs(expected).max())
    parity = Parity(
        images=len(images),
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
    path: Path, images: Sequence[npt.NDArray[np.uint8]], opener: Callable[[Path], Score]
) -> npt.NDArray[np.float32]:
    groups: dict[tuple[int, ...], list[int]] = {}
    for row, image in enumerate(images):
        groups.setdefault(image.shape, []).append(row)
    logits: dict[int, npt.NDArray[np.float32]] = {}
    try:
        score = opener(path)
        for rows in groups.values():
            logits.update(zip(rows, score(np.stack([images[row] for row in rows])), strict=True))
    # The errors of ONNX Runtime and of torch.export share no root but Exception.
    except Exception as error:
        raise ExportError(f"{path}: cannot be run ({str(error).splitlines()[0]}); export it again") from error
    return np.stack([logits[row] for row in range(len(images))])
