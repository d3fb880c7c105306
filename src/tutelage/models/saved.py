"""Finished models in folders: where ``model.json`` is, and what it says."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from tutelage.errors import ModelError, RunError
from tutelage.models.preprocess import (
    ClipTextPreprocess,
    PairPreprocess,
    Preprocess,
    TextPreprocess,
    preprocess_from_dict,
)

SCHEMA = 1
"""Version of ``model.json``; it grows when an older Tutelage could not read a new one."""


def find_model(path: Path) -> Path:
    """Return the model folder at ``path``, in it (a run folder), or around it (a weights file).

    Raises:
        RunError: There is none.
    """
    if path.suffix == ".safetensors":
        path = path.parent
    if not path.is_dir():
        raise RunError(f"{path}: no such folder; give a run folder, or the model/ folder in it")
    for folder in (path, path / "model"):
        if (folder / "model.json").is_file():
            return folder
    raise RunError(
        f"{path}: holds no model.json, here or in model/; is the run finished? the same command resumes it"
    )


def read_description(folder: Path) -> dict[str, Any]:
    """Return the content of a model folder's ``model.json``.

    Raises:
        ModelError: It is damaged, or was written by a newer Tutelage.
    """
    path = folder / "model.json"
    try:
        data: dict[str, Any] = json.loads(path.read_bytes())
        schema = data["schema"]
        newer = schema > SCHEMA
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{path}: not a model description ({error}); copy or make the model again") from error
    if newer:
        raise ModelError(f"{path}: written by a newer Tutelage (schema {schema}, known {SCHEMA}); update Tutelage")
    return data


def preprocess_of(folder: Path, description: Mapping[str, Any]) -> Preprocess:
    """Return the preprocess of a finished model, with the tokenizer that lies beside it.

    Args:
        folder: The model folder.
        description: The content of its ``model.json``.

    Raises:
        ModelError: There is no preprocess, or it is damaged.
    """
    if not isinstance(description.get("preprocess"), Mapping):
        raise ModelError(f"{folder / 'model.json'}: says nothing of a preprocess; copy or make the model again")
    return _beside(folder, preprocess_from_dict(description["preprocess"]))


def _beside(folder: Path, preprocess: Preprocess) -> Preprocess:
    if isinstance(preprocess, PairPreprocess):
        text = _beside(folder, preprocess.text)
        assert isinstance(text, TextPreprocess | ClipTextPreprocess)
        return replace(preprocess, text=text)
    if isinstance(preprocess, TextPreprocess) and (folder / preprocess.tokenizer).is_dir():
        return replace(preprocess, tokenizer=str(folder / preprocess.tokenizer))
    return preprocess
