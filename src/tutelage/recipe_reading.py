"""Recipes as people give them: files, plain data, and command lines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError

from tutelage.data.settings import DataSettings
from tutelage.errors import RecipeError, UnknownNameError
from tutelage.export import EXPORTERS
from tutelage.methods import METHODS
from tutelage.methods.pseudo_label import check_pseudo_labels
from tutelage.recipe import Recipe
from tutelage.tasks import TASKS


def headline(**flags: object) -> dict[str, Any]:
    """Return the overrides that headline flags stand for: ``labels=10`` is ``data.labels``; ``None`` is not given."""
    data = DataSettings.model_fields
    given = {
        name: str(value) if isinstance(value, Path) else value for name, value in flags.items() if value is not None
    }
    return {f"data.{name}" if name in data else name: value for name, value in given.items()}


def overrides(
    flags: Mapping[str, object], *, max_gb: float | None = None, settings: Sequence[str] | None = None
) -> dict[str, Any]:
    """Return all overrides of a command line: headline flags, ``--max-gb`` and ``--set``, the last one strongest."""
    budget = {} if max_gb is None else {"store.max_gb": max_gb}
    return {**headline(**flags), **budget, **dict(parse_setting(setting) for setting in settings or ())}


def load_recipe(path: str | Path, overrides: Mapping[str, Any] | None = None) -> Recipe:
    """Read a recipe from a YAML file.

    Raises:
        RecipeError: The file is missing or not a recipe.
    """
    path = Path(path)
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RecipeError(f"{path}: cannot be read ({error.strerror})") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path}: not YAML ({_on_one_line(error)})") from error
    if not isinstance(data, dict):
        raise RecipeError(f"{path}: a recipe is a mapping with keys such as data, teacher, student")
    return make_recipe(data, overrides)


def make_recipe(data: Mapping[str, Any], overrides: Mapping[str, Any] | None = None) -> Recipe:
    """Make a recipe from plain data.

    Args:
        data: Keys as in a recipe file.
        overrides: Dotted keys (``distill.epochs``) and the values to put there.

    Raises:
        UnknownNameError: A key, task or method that does not exist.
        RecipeError: A value of the wrong type, or one that is missing.
    """
    merged = {"data": {}, **data}
    for dotted, value in (overrides or {}).items():
        _put(merged, dotted.split("."), value)
    try:
        recipe = Recipe.model_validate(merged)
    except ValidationError as error:
        raise _explained(error) from error
    if recipe.task not in TASKS:
        raise UnknownNameError("task", recipe.task, TASKS)
    for name in (recipe.method, *recipe.baselines):
        if name not in METHODS:
            raise UnknownNameError("method", name, METHODS)
        if recipe.dense and not METHODS[name].dense:
            able = ", ".join(key for key, each in METHODS.items() if each.dense)
            raise RecipeError(f"method {name!r} is for classification; for {recipe.task} there are {able}")
        if METHODS[name].needs_teacher and not recipe.teachers:
            raise RecipeError(f"method {name!r} needs a teacher, such as bundled:efficientnet-lite0")
        if METHODS[name].needs_teacher and not METHODS[name].several_teachers and len(recipe.teachers) > 1:
            several = ", ".join(key for key, each in METHODS.items() if each.several_teachers)
            raise RecipeError(
                f"method {name!r} learns from one teacher, and there are {len(recipe.teachers)}; name one, or use a "
                f"method that takes several ({several})"
            )
        if METHODS[name].held and recipe.finetune.batch_size < 2:
            raise RecipeError(
                f"finetune.batch_size: method {name!r} compares the images of a batch; allow two or more"
            )
        if METHODS[name].rounds:
            check_pseudo_labels(recipe, name)
        if METHODS[name].needs_pretraining and recipe.data.pretraining is None:
            raise RecipeError(f"method {name!r} needs data.pretraining, another labeled data set to learn from first")
        if METHODS[name].pairing is not None and recipe.data.pairs is None:
            raise RecipeError(
                f"method {name!r} needs data.pairs, images with a text each to learn from first: a table with the "
                "columns image and text, or WebDataset shards"
            )
    twice = next((name for place, name in enumerate(recipe.teachers) if name in recipe.teachers[:place]), None)
    if twice is not None:
        raise RecipeError(f"teacher: {twice!r} is named twice; its features would only count double")
    if recipe.curate is not None:
        recipe.curate.check()
        if recipe.data.transfer is not None:
            raise RecipeError(
                "data.transfer and curate: a transfer set is either given or curated; leave one of them out "
                "(--set curate=null)"
            )
        if not recipe.curate.encoders and not recipe.teachers:
            raise RecipeError("curate.encoders: without a teacher, name what images are compared by")
    for name in recipe.export.forms:
        if name not in EXPORTERS:
            raise UnknownNameError("export form", name, EXPORTERS)
    for name in recipe.baseline_finetune:
        if name not in recipe.baselines:
            raise UnknownNameError("baseline", name, recipe.baselines, "in baseline_finetune; name it in baselines")
    return recipe


def parse_setting(text: str) -> tuple[str, Any]:
    """Parse ``key.key=value``, the value as YAML.

    Raises:
        RecipeError: There is no ``=``, or the value is not YAML.
    """
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise RecipeError(f"--set {text!r}: write key=value, such as distill.epochs=50")
    try:
        return key, yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise RecipeError(f"--set {text!r}: the value is not YAML ({_on_one_line(error)})") from error


def _put(data: dict[str, Any], keys: Sequence[str], value: Any) -> None:
    for key in keys[:-1]:
        inner = data.get(key)
        inner = dict(inner) if isinstance(inner, Mapping) else {}
        data[key] = inner
        data = inner
    data[keys[-1]] = value


def _explained(error: ValidationError) -> RecipeError:
    """Turn one of pydantic's complaints into one sentence; a misspelled key may be why another one is missing."""
    first = min(error.errors(), key=lambda each: each["type"] != "extra_forbidden")
    path = [str(part) for part in first["loc"]]
    where = ".".join(path)
    if first["type"] == "extra_forbidden":
        return UnknownNameError("key", where, [".".join([*path[:-1], name]) for name in _keys_at(path[:-1])])
    if first["type"] == "missing":
        return RecipeError(f"{where}: is missing, and has no default")
    reason = first["msg"][0].lower() + first["msg"][1:]
    return RecipeError(f"{where}: {reason}, got {first['input']!r}")


def _on_one_line(error: Exception) -> str:
    return " ".join(str(error).split())


def _keys_at(path: Sequence[str]) -> list[str]:
    """Return the keys that exist at a place in the recipe."""
    model: type[BaseModel] = Recipe
    for part in path:
        annotation = model.model_fields[part].annotation if part in model.model_fields else None
        inner = [kind for kind in (annotation, *get_args(annotation)) if isinstance(kind, type)]
        model = next((kind for kind in inner if issubclass(kind, BaseModel)), model)
    return list(model.model_fields)
