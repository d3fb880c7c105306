"""Exported files as functions from pixels to logits."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from tutelage.runtime.session import open_session

Pixels = npt.NDArray[np.uint8]
Logits = npt.NDArray[np.float32]

Score = Callable[[Pixels], Logits]
"""Logits [B, C] of images uint8 [B, H, W, 3]."""


def open_onnx(path: Path, threads: int | None = None) -> Score:
    """Open an ONNX file on the CPU.

    Args:
        path: The file.
        threads: How many threads compute; ONNX Runtime's choice where not given.

    Raises:
        ModelError: It is no ONNX file, or damaged.
    """
    session = open_session(path, threads)

    def score(images: Pixels) -> Logits:
        (logits,) = session.run(["logits"], {"images": images})
        return np.asarray(logits)

    return score


def open_torch(path: Path) -> Score:
    """Open a ``torch.export`` file."""
    module = torch.export.load(io.BytesIO(path.read_bytes())).module()

    @torch.no_grad()
    def score(images: Pixels) -> Logits:
        logits: Logits = module(torch.from_numpy(images)).numpy()
        return logits

    return score
