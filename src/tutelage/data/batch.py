"""What a training step gets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from tutelage.models.preprocess import PairInputs, RawInputs

DEFAULT_GROUP = "view"
"""The view group of methods that have only one."""


@dataclass(frozen=True)
class Batch:
    """B samples as named groups of raw views.

    Attributes:
        inputs: Raw views of each group; with ``counts[g]`` = n views a sample, [n·B, ...], all first views before
            all second ones.
        counts: Views a sample in each group.
        indices: Rows of the samples, int64 [B].
        targets: The task's targets (classification: class numbers [B], or shares [B, C] of mixed views; dense tasks:
            class numbers of pixels, int64 [n·B, s, s], ``IGNORED`` where nothing counts), if any.
        valid: Which rows count, bool [B], or of dense views which pixels are of the image, not padding, bool
            [n·B, s, s]; ``None`` for all.
        view: Number of the view that each sample is seen in; stored targets are found by it.
        rows: ``indices`` in the CPU's memory, so that a GPU need not be waited for to read by them.
    """

    inputs: Mapping[str, RawInputs]
    counts: Mapping[str, int]
    indices: Tensor
    targets: Tensor | None = None
    valid: Tensor | None = None
    view: int = 0
    rows: npt.NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return len(self.indices)

    def to(self, device: torch.device) -> Batch:
        """Return the batch with its tensors on ``device``; texts stay as they are."""
        return replace(
            self,
            inputs={name: moved_to(value, device) for name, value in self.inputs.items()},
            indices=self.indices.to(device),
            targets=None if self.targets is None else self.targets.to(device),
            valid=None if self.valid is None else self.valid.to(device),
        )


def moved_to(inputs: RawInputs, device: torch.device) -> RawInputs:
    """Return raw views with their tensors on ``device``; texts stay as they are."""
    if isinstance(inputs, Tensor):
        return inputs.to(device, non_blocking=True)
    if isinstance(inputs, PairInputs):
        return PairInputs(inputs.image.to(device, non_blocking=True), inputs.text)
    return inputs
