"""Exported files as functions from pixels to logits, and to masks."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from tutelage.runtime.session import open_session

Pixels = npt.NDArray[np.uint8]
Logits = npt.NDArray[np.float32]

Score = Callable[[Pixels], Logits]
"""Logits [B, C] of images uint8 [B, H, W, 3]."""

Masks = npt.NDArray[Any]
"""Class numbers [B, H, W], at the images' own size."""

Segment = Callable[[Pixels], tuple[Masks, Logits]]
"""Masks and logits [B, C, h, w] of images uint8 [B, H, W, 3]."""


def open_onnx(path: Path, threads: int | None = None, *, output: str = "logits") -> Score:
    """Open an ONNX file on the CPU.

    Args:
        path: The file.
        threads: How many threads compute; ONNX Runtime's choice where not given.
        output: What is asked for: ``logits``, or a segmentation model's ``mask``.

    Raises:
        ModelError: It is no ONNX file, or damaged.
    """
    session = open_session(path, threads)

    def score(images: Pixels) -> Logits:
        (found,) = session.run([output], {"images": images})
        return np.asarray(found)

    return score


def open_onnx_masks(path: Path) -> Segment:
    """Open a segmentation model's ONNX file on the CPU.

    Raises:
        ModelError: It is no ONNX file, or damaged.
    """
    session = open_session(path)

    def segment(images: Pixels) -> tuple[Masks, Logits]:
        masks, logits = session.run(["mask", "logits"], {"images": images})
        return np.asarray(masks), np.asarray(logits)

    return segment


def open_torch(path: Path) -> Score:
    """Open a ``torch.export`` file."""
    module = torch.export.load(io.BytesIO(path.read_bytes())).module()

    @torch.no_grad()
    def score(images: Pixels) -> Logits:
        logits: Logits = module(torch.from_numpy(images)).numpy()
        return logits

    return score


def open_torch_masks(path: Path) -> Segment:
    """Open a segmentation model's ``torch.export`` file."""
    module = torch.export.load(io.BytesIO(path.read_bytes())).module()

    @torch.no_grad()
    def segment(images: Pixels) -> tuple[Masks, Logits]:
        masks, logits = module(torch.from_numpy(images))
        return masks.numpy(), logits.numpy()

    return segment
