"""Batches, targets and samples for objectives on pooled features."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from tutelage.data.batch import Batch
from tutelage.data.samples import Samples
from tutelage.models.outputs import Outputs


def drawn(*shape: int, seed: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def labeled(count: int, classes: int = 3) -> Samples:
    return Samples(
        tuple(f"sample-{number}" for number in range(count)),
        texts=["text"] * count,
        targets=np.arange(count) % classes,
        classes=tuple(f"class-{number}" for number in range(classes)),
    )


def example(student: Tensor, teachers: Mapping[str, Tensor], rows: Tensor | None = None):
    """A batch, what the student gives for it, and what each teacher gives; all of them float32, as in training."""
    rows = torch.arange(len(student)) if rows is None else rows
    batch = Batch({"view": ["text"] * len(rows)}, {"view": 1}, rows)
    targets = {name: {"view": Outputs(features=values.float())} for name, values in teachers.items()}
    return batch, {"view": Outputs(features=student.float())}, targets


def examples(student: Tensor, teachers: Mapping[str, Tensor], *, size: int = 4, order: Tensor | None = None):
    """All samples in batches, in an order that is not that of the samples."""
    order = torch.arange(len(student)).flip(0) if order is None else order
    for rows in order.split(size):
        yield example(student[rows], {name: values[rows] for name, values in teachers.items()}, rows)
