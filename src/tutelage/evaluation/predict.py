"""Predictions of a model on samples, each seen once in its evaluation view."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

from tutelage.data.batch import moved_to
from tutelage.data.images import decode
from tutelage.data.samples import ImageSource, IntArray, Samples
from tutelage.errors import DataError
from tutelage.ledger import Cost, counted
from tutelage.models.model import Model
from tutelage.models.preprocess import PairInputs, RawInputs, image_size_of
from tutelage.models.tokens import Corpus, TextInputs
from tutelage.models.work import amount_of
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


def evaluation_inputs(
    samples: Samples, *, size: int | None, crop: float = 1.0
) -> Iterator[tuple[IntArray, RawInputs]]:
    """Yield samples in their evaluation view, in batches: their rows, and what a model reads.

    Texts alone come by their length, so that those of a batch are about equally long; images in their order.

    Args:
        samples: Images, texts or both.
        size: Side of the images, in pixels; ``None`` where only texts are read.
        crop: Share of the short side that is seen of an image.

    Raises:
        DataError: There is nothing to read.
    """
    corpus = None if samples.texts is None else Corpus(samples.texts)
    if size is None:
        if corpus is None:
            raise DataError(f"{samples.origin}: no texts to predict on")
        order = np.argsort(corpus.lengths, kind="stable")
        for start in range(0, len(samples), BATCH):
            rows = order[start : start + BATCH]
            yield rows, TextInputs(corpus, rows)
        return
    if samples.images is None:
        raise DataError(f"{samples.origin}: no images to predict on")
    start = 0
    for views in evaluation_views(samples.images, size, crop):
        rows = np.arange(start, start + len(views))
        yield rows, views if corpus is None else PairInputs(views, TextInputs(corpus, rows))
        start += len(views)


@torch.no_grad()
def predict_outputs(
    model: Model,
    samples: Samples,
    *,
    size: int | None = None,
    crop: float = 1.0,
    output: str = "logits",
    cost: Cost | None = None,
) -> Tensor:
    """Return an output of a model for every sample, float32 [N, ...] on the CPU.

    Args:
        model: On its device; its mode is restored.
        samples: What it reads.
        size: Side of the raw views of images; the model resizes them to its own input, which is the size if none is
            given.
        crop: Share of the short side that is seen.
        output: ``logits``, ``features``, …
        cost: Gets the samples and FLOPs.

    Raises:
        DataError: The samples lack what the model reads.
    """
    device = next(model.parameters()).device
    training = model.training
    model.eval()
    preprocess = model.encoder.preprocess
    found: Tensor | None = None
    spent, rate = 0.0, 0.0
    for rows, inputs in evaluation_inputs(samples, size=size or image_size_of(preprocess), crop=crop):
        moved = moved_to(inputs, device)
        if rate:
            outputs = model(moved, {output})
        else:
            outputs, flops = counted(lambda moved=moved: model(moved, {output}))  # type: ignore[misc]
            rate = flops / amount_of(moved, preprocess)
        spent += rate * amount_of(moved, preprocess)
        values = outputs.require(output).float().cpu()
        if found is None:
            found = torch.empty(len(samples), *values.shape[1:])
        found[torch.from_numpy(rows)] = values
    model.train(training)
    if cost is not None:
        cost.add(Cost(images=len(samples), flops=spent))
    assert found is not None
    return found
