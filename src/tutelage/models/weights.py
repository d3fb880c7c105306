"""Weights in files: safetensors, written whole, loaded strictly."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from safetensors.torch import load_file, save
from torch import Tensor, nn

from tutelage.errors import ModelError
from tutelage.run import write_whole


def save_weights(path: Path, state: Mapping[str, Tensor]) -> None:
    """Write a state dict whole, as safetensors.

    Raises:
        RunError: It cannot be written.
    """
    write_whole(path, save({key: value.detach().cpu().contiguous() for key, value in state.items()}))


def load_weights(path: Path, model: nn.Module) -> None:
    """Load weights written by :func:`save_weights`, every one of them.

    Raises:
        ModelError: They are missing, damaged, or of another model.
    """
    try:
        model.load_state_dict(load_file(path), strict=True)
    except Exception as error:  # safetensors and torch raise many types
        raise ModelError(f"{path}: not the weights of this model ({str(error).splitlines()[0]})") from error
