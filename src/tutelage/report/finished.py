"""A finished run as its folder keeps it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor

from tutelage.errors import RunError
from tutelage.evaluation.mistakes import MISTAKES
from tutelage.run import MANIFEST, SCHEMA


@dataclass(frozen=True)
class Finished:
    """What a run left behind.

    Attributes:
        folder: The run folder.
        data: The content of ``results.json``.
        stages: The manifest of each stage by name, in order.
        histories: Loss curves by stage and phase.
        predictions: Test logits [N, C] of each model, and ``targets`` [N], by the stage that made them; empty
            without test data.
        mistakes: The student's most confident mistakes as the evaluation describes them, each with its ``picture``,
            encoded; empty if an older version evaluated it.
        recipe: The resolved recipe, as YAML.
    """

    folder: Path
    data: Mapping[str, Any]
    stages: Mapping[str, Mapping[str, Any]]
    histories: Mapping[str, Mapping[str, list[dict[str, float]]]]
    predictions: Mapping[str, Mapping[str, Tensor]]
    mistakes: Sequence[Mapping[str, Any]]
    recipe: str


def read_run(folder: Path) -> Finished:
    """Read a finished run.

    Raises:
        RunError: The run is not finished, its files are damaged, or a newer version wrote them.
    """
    data = _json(folder / "results.json", f"{folder}: holds no results.json; is the run finished? run it again")
    if data.get("schema", 0) > SCHEMA:
        raise RunError(f"{folder / 'results.json'}: written by a newer version of tutelage; update")
    stages: dict[str, Mapping[str, Any]] = {}
    histories: dict[str, Mapping[str, list[dict[str, float]]]] = {}
    predictions: dict[str, Mapping[str, Tensor]] = {}
    for name, part in data["folders"].items():
        place = folder / part
        stages[name] = _json(place / MANIFEST, f"{place / MANIFEST}: missing; run the recipe again")
        if (place / "history.json").exists():
            histories[name] = _json(place / "history.json", "")
        if (place / "predictions.safetensors").exists():
            predictions[name] = _tensors(place / "predictions.safetensors")
    mistakes = _mistakes(folder / data["folders"]["evaluate"])
    try:
        recipe = (folder / "recipe.yaml").read_text()
    except OSError as error:
        raise RunError(
            f"{folder / 'recipe.yaml'}: cannot be read ({error.strerror}); run the recipe again"
        ) from error
    return Finished(folder, data, stages, histories, predictions, mistakes, recipe)


def _json(path: Path, missing: str) -> dict[str, Any]:
    try:
        data: dict[str, Any] = json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise RunError(missing) from error
    except (OSError, ValueError) as error:
        raise RunError(f"{path}: cannot be read ({error}); remove it and run the recipe again") from error
    return data


def _mistakes(place: Path) -> list[Mapping[str, Any]]:
    """Return the mistakes whose pictures are still there."""
    if not (place / MISTAKES).exists():
        return []
    found: list[Mapping[str, Any]] = []
    for mistake in _json(place / MISTAKES, "")["mistakes"]:
        try:
            # Nothing but a file of the stage's own goes into the page.
            picture = (place / Path(mistake["picture"]).name).read_bytes()
        except OSError:
            continue
        found.append({**mistake, "picture": picture})
    return found


def _tensors(path: Path) -> Mapping[str, Tensor]:
    try:
        return load(path.read_bytes())
    except (OSError, SafetensorError) as error:
        raise RunError(f"{path}: damaged ({error}); remove its folder and run the recipe again") from error
