"""Checkpoints of training state, written whole; read without unpickling code."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import torch

from tutelage.errors import RunError
from tutelage.run import write_whole


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write a checkpoint.

    Raises:
        RunError: It cannot be written.
    """
    buffer = io.BytesIO()
    torch.save(state, buffer)
    write_whole(path, buffer.getvalue())


def load_checkpoint(path: Path, device: torch.device) -> dict[str, Any]:
    """Read a checkpoint onto ``device``.

    Raises:
        RunError: It is damaged.
    """
    try:
        state: dict[str, Any] = torch.load(path, map_location=device, weights_only=True)
        return state
    except Exception as error:  # torch raises many types on a damaged file
        raise RunError(f"{path}: damaged checkpoint ({error}); remove it to start this stage again") from error
