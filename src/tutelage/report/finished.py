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
from tutelage.evaluation.worst import WORST
from tutelage.report.tasks import task_words
from tutelage.run import MANIFEST, SCHEMA


@dataclass(frozen=True)
class Finished:
    """What a run left behind.

    Attributes:
        folder: The run folder.
        data: The content of ``results.json``.
        stages: The manifest of each stage by name, in order.
        histories: Loss curves by stage and phase.
        predictions: Test logits [N, C] of each model, and ``targets`` [N], by the stage that made them; of a task
            that is told for every pixel, pixels in intersection, prediction and truth [N, C, 3]. Empty without test
            data.
        mistakes: The student's most confident mistakes as the evaluation describes them, each with its ``picture``,
            encoded, or ``None`` for a text alone; empty if an older version evaluated it.
        worst: The test images whose pixels the student tells worst, as the evaluation describes them, each with its
            ``pictures``, encoded; empty but for a task that is told for every pixel.
        recipe: The resolved recipe, as YAML.
    """

    folder: Path
    data: Mapping[str, Any]
    stages: Mapping[str, Mapping[str, Any]]
    histories: Mapping[str, Mapping[str, list[dict[str, float]]]]
    predictions: Mapping[str, Mapping[str, Tensor]]
    mistakes: Sequence[Mapping[str, Any]]
    worst: Sequence[Mapping[str, Any]]
    recipe: str

    @property
    def dense(self) -> bool:
        """Whether every pixel is told apart."""
        return task_words(self.data).dense


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
    evaluated = folder / data["folders"]["evaluate"]
    mistakes, worst = _mistakes(evaluated), _worst(evaluated)
    try:
        recipe = (folder / "recipe.yaml").read_text()
    except OSError as error:
        raise RunError(
            f"{folder / 'recipe.yaml'}: cannot be read ({error.strerror}); run the recipe again"
        ) from error
    return Finished(folder, data, stages, histories, predictions, mistakes, worst, recipe)


def _json(path: Path, missing: str) -> dict[str, Any]:
    try:
        data: dict[str, Any] = json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise RunError(missing) from error
    except (OSError, ValueError) as error:
        raise RunError(f"{path}: cannot be read ({error}); remove it and run the recipe again") from error
    return data


def _mistakes(place: Path) -> list[Mapping[str, Any]]:
    """Return the mistakes whose pictures are still there, and those that have none but texts."""
    if not (place / MISTAKES).exists():
        return []
    listed = _json(place / MISTAKES, "")["mistakes"]
    found = [(each, None if each["picture"] is None else _picture(place, each["picture"])) for each in listed]
    return [{**each, "picture": picture} for each, picture in found if picture is not None or each["picture"] is None]


def _worst(place: Path) -> list[Mapping[str, Any]]:
    """Return the worst images whose pictures are all still there."""
    if not (place / WORST).exists():
        return []
    found: list[Mapping[str, Any]] = []
    for each in _json(place / WORST, "")["worst"]:
        pictures = {part: _picture(place, name) for part, name in each["pictures"].items()}
        if None not in pictures.values():
            found.append({**each, "pictures": pictures})
    return found


def _picture(place: Path, name: str) -> bytes | None:
    """Return the content of a stage's own file: no other gets into the page; ``None`` if it is gone."""
    try:
        return (place / Path(name).name).read_bytes()
    except OSError:
        return None


def _tensors(path: Path) -> Mapping[str, Tensor]:
    try:
        return load(path.read_bytes())
    except (OSError, SafetensorError) as error:
        raise RunError(f"{path}: damaged ({error}); remove its folder and run the recipe again") from error
