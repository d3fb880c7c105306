"""Exported files as functions from pixels, texts or pairs to logits, and from pixels to masks."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from tutelage.export.graph import Raw
from tutelage.models.preprocess import PairInputs
from tutelage.runtime.inputs import inputs_of
from tutelage.runtime.model import open_file
from tutelage.runtime.session import open_session

Pixels = npt.NDArray[np.uint8]
Logits = npt.NDArray[np.float32]

Sample = Pixels | str | tuple[Pixels, str]
"""One decoded sample: pixels [H, W, 3], a raw text, or both."""

Score = Callable[[Sequence[Any]], Logits]
"""Logits [B, C] of decoded samples, whose images have one size."""

Masks = npt.NDArray[Any]
"""Class numbers [B, H, W], at the images' own size."""

Segment = Callable[[Sequence[Pixels]], tuple[Masks, Logits]]
"""Masks and logits [B, C, h, w] of images uint8 [H, W, 3] of one size."""


def raw_of(samples: Sequence[Any]) -> Raw:
    """Return decoded samples, whose images have one size, as models read them."""
    first = samples[0]
    if isinstance(first, str):
        return list(samples)
    if isinstance(first, tuple):
        images, texts = zip(*samples, strict=True)
        return PairInputs(torch.from_numpy(np.stack(images)), list(texts))
    return torch.from_numpy(np.stack(samples))


def open_onnx(path: Path, threads: int | None = None, *, output: str = "logits") -> Score:
    """Open an ONNX file on the CPU; one of a model of texts with the tokenizer beside it.

    Args:
        path: The file.
        threads: How many threads compute; ONNX Runtime's choice where not given.
        output: What is asked for: ``logits``, or a segmentation model's ``mask``.

    Raises:
        ModelError: It is no ONNX file, or damaged.
    """
    opened = open_file(path, threads=threads)
    session, inputs = opened.session, opened.inputs
    names = [each.name for each in session.get_inputs()]

    def score(samples: Sequence[Any]) -> Logits:
        feed = inputs.feed(samples)
        (found,) = session.run([output], {name: feed[name] for name in names})
        return np.asarray(found)

    return score


def open_onnx_masks(path: Path) -> Segment:
    """Open a segmentation model's ONNX file on the CPU.

    Raises:
        ModelError: It is no ONNX file, or damaged.
    """
    session = open_session(path)

    def segment(images: Sequence[Pixels]) -> tuple[Masks, Logits]:
        masks, logits = session.run(["mask", "logits"], {"images": np.asarray(images)})
        return np.asarray(masks), np.asarray(logits)

    return segment


def open_torch(path: Path) -> Score:
    """Open a ``torch.export`` file; one of a model of texts with the tokenizer beside it."""
    about = {"preprocess": "", "modality": "", "tokens": ""}
    module = torch.export.load(io.BytesIO(path.read_bytes()), extra_files=about).module()
    inputs = inputs_of(path, about["modality"] or "image", json.loads(about["preprocess"]), workers=1)

    tokens = json.loads(about["tokens"] or "[]")

    @torch.no_grad()
    def score(samples: Sequence[Any]) -> Logits:
        feed = {name: torch.from_numpy(values) for name, values in inputs.feed(samples).items()}
        images = [feed["images"]] if "images" in feed else []
        logits: Logits = module(*images, *([{name: feed[name] for name in tokens}] if tokens else [])).numpy()
        return logits

    return score


def open_torch_masks(path: Path) -> Segment:
    """Open a segmentation model's ``torch.export`` file."""
    module = torch.export.load(io.BytesIO(path.read_bytes())).module()

    @torch.no_grad()
    def segment(images: Sequence[Pixels]) -> tuple[Masks, Logits]:
        masks, logits = module(raw_of(images))
        return masks.numpy(), logits.numpy()

    return segment
