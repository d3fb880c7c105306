"""Predictions of a model on samples, each seen once in its evaluation view."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from tutelage.data.images import ImageBank
from tutelage.data.samples import Samples
from tutelage.errors import DataError
from tutelage.ledger import Cost, counted
from tutelage.models.model import Model
from tutelage.views import center_views, render

BATCH = 128


def evaluation_views(bank: ImageBank, size: int, crop: float) -> Iterator[Tensor]:
    """Yield every image's center square, float [b, 3, size, size] in 0..1, in batches.

    Args:
        bank: The images.
        size: Side of the views, in pixels.
        crop: Share of the short side that the square keeps.
    """
    for start in range(0, len(bank), BATCH):
        pictures = bank.get(range(start, min(start + BATCH, len(bank))))
        aspects = np.array([picture.shape[2] / picture.shape[1] for picture in pictures])
        yield render(pictures, center_views(aspects, crop), size, exact=True)


@torch.no_grad()
def predict_outputs(
    model: Model, samples: Samples, *, size: int, crop: float, output: str = "logits", cost: Cost | None = None
) -> Tensor:
    """Return an output of a model for every sample, float32 [N, ...] on the CPU.

    Args:
        model: On its device; its mode is restored.
        samples: Images.
        size: Side of the raw views; the model resizes them to its own input.
        crop: Share of the short side that is seen.
        output: ``logits``, ``features``, …
        cost: Gets the images and FLOPs.

    Raises:
        DataError: The samples have no images.
    """
    if samples.images is None:
        raise DataError(f"{samples.origin}: no images to predict on")
    device = next(model.parameters()).device
    training = model.training
    model.eval()
    found: list[Tensor] = []
    flops = 0.0
    bank = ImageBank(samples.images, size, budget=0)
    for views in evaluation_views(bank, size, crop):
        moved = views.to(device)
        if found:
            outputs = model(moved, {output})
        else:
            outputs, flops = counted(lambda moved=moved: model(moved, {output}))  # type: ignore[misc]
            flops /= len(views)
        found.append(outputs.require(output).float().cpu())
    model.train(training)
    if cost is not None:
        cost.add(Cost(images=len(samples), flops=flops * len(samples)))
    return torch.cat(found)
