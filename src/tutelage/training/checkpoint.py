"""Checkpoints of training state, written whole; read without unpickling code."""

from __future__ import annotations

from pathlib import Path
from typing import Any, BinaryIO

import torch

from tutelage.errors import RunError
from tutelage.run import write_whole


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write a checkpoint.

    Raises:
        RunError: It cannot be written.
    """

    def write(file: BinaryIO) -> None:
        try:
            torch.save(state, file)
        except RuntimeError as error:  # torch finds its file shorter than what it wrote, and hides why
            if isinstance(error.__context__, OSError):
                raise error.__context__ from None
            raise

    write_whole(path, write)  # not by way of memory: with memory banks a state may be as large as what is left of it


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
