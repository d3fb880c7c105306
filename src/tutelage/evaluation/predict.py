"""Predictions of a model on samples, each seen once in its evaluation view."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

from tutelage.data.images import decode
from tutelage.data.samples import ImageSource, Samples
from tutelage.errors import DataError
from tutelage.ledger import Cost, counted
from tutelage.models.model import Model
from tutelage.views import center_views, render

BATCH = 128


def evaluation_views(images: Sequence[ImageSource], size: int, crop: float) -> Iterator[Tensor]:
    """Yield every image's center square, float [b, 3, size, size] in 0..1, in batches.

    It is cut from the image at its full size and resized once, as the exported model does.

    Args:
        images: What to decode.
        size: Side of the views, in pixels.
        crop: Share of the short side that the square keeps.
    """

    def view(image: ImageSource) -> Tensor:
        picture = decode(image)
        aspect = np.array([picture.shape[2] / picture.shape[1]])
        return render([picture], center_views(aspect, crop), size, exact=True)

    with ThreadPoolExecutor(max_workers=min(8, torch.get_num_threads() + 1), thread_name_prefix="decode") as pool:
        for start in range(0, len(images), BATCH):
            yield torch.cat(list(pool.map(view, images[start : start + BATCH])))


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
    for views in evaluation_views(samples.images, size, crop):
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
