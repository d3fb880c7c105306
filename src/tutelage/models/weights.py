"""Weights in files: safetensors, written whole, loaded strictly."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from tutelage.errors import ModelError
from tutelage.run import write_whole


def save_weights(path: Path, state: Mapping[str, Tensor]) -> None:
    """Write a state dict whole, as safetensors.

    Raises:
        RunError: It cannot be written.
    """
    # Copies: safetensors refuses tensors that share memory, and tied weights do.
    write_whole(path, save({key: value.detach().cpu().clone().contiguous() for key, value in state.items()}))


def load_weights(path: Path, model: nn.Module, *, prefix: str = "") -> None:
    """Load weights written by :func:`save_weights`, every one of them.

    Args:
        path: The file.
        model: What to load into.
        prefix: Where in the file's names the model begins; the rest of the file is left.

    Raises:
        ModelError: They are missing, damaged, or of another model.
    """
    try:
        state = load(path.read_bytes())
        part = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
        model.load_state_dict(part, strict=True)
    except FileNotFoundError as error:
        raise ModelError(f"{path}: missing; copy or make it again") from error
    except (OSError, SafetensorError) as error:
        raise ModelError(f"{path}: damaged or cut short ({error}); copy or make it again") from error
    except RuntimeError as error:
        first = " ".join(str(error).split())[:300]
        raise ModelError(f"{path}: weights do not fit this model ({first}); was it copied whole?") from error
