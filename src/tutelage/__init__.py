"""Tutelage: a foundation model, a few labels and unlabeled data in; a small model for one task out.

>>> import tutelage
>>> result = tutelage.transfer(labeled="data/train", labels=10, test="data/test",
...                            teacher="timm:vit_large_patch14_dinov2.lvd142m", student="timm:fastvit_s12")
>>> result.metrics["test"]["accuracy"]
>>> model = tutelage.load_model(result.folder)
>>> model.predict("picture.jpg")
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tutelage.api import analyze as analyze
    from tutelage.api import compare as compare
    from tutelage.api import curate as curate
    from tutelage.api import rank as rank
    from tutelage.api import transfer as transfer
    from tutelage.comparison.table import Comparison as Comparison
    from tutelage.comparison.verdict import verdicts as verdicts
    from tutelage.curation.record import CuratedSet as CuratedSet
    from tutelage.errors import DataError as DataError
    from tutelage.errors import ExportError as ExportError
    from tutelage.errors import ModelError as ModelError
    from tutelage.errors import RecipeError as RecipeError
    from tutelage.errors import RunError as RunError
    from tutelage.errors import TrainingError as TrainingError
    from tutelage.errors import TutelageError as TutelageError
    from tutelage.errors import UnknownNameError as UnknownNameError
    from tutelage.evaluation.results import Result as Result
    from tutelage.export.folder import load_model as load_model
    from tutelage.export.predict import LoadedModel as LoadedModel
    from tutelage.export.predict import Prediction as Prediction
    from tutelage.recipe import Recipe as Recipe
    from tutelage.recipe_reading import load_recipe as load_recipe
    from tutelage.recipe_reading import make_recipe as make_recipe

# Where each public name lives; imported when first asked for, so that `tutelage --help` need not wait for torch.
_PUBLIC = {
    "Comparison": "tutelage.comparison.table",
    "CuratedSet": "tutelage.curation.record",
    "DataError": "tutelage.errors",
    "ExportError": "tutelage.errors",
    "LoadedModel": "tutelage.export.predict",
    "ModelError": "tutelage.errors",
    "Prediction": "tutelage.export.predict",
    "Recipe": "tutelage.recipe",
    "RecipeError": "tutelage.errors",
    "Result": "tutelage.evaluation.results",
    "RunError": "tutelage.errors",
    "TrainingError": "tutelage.errors",
    "TutelageError": "tutelage.errors",
    "UnknownNameError": "tutelage.errors",
    "analyze": "tutelage.api",
    "compare": "tutelage.api",
    "curate": "tutelage.api",
    "load_model": "tutelage.export.folder",
    "load_recipe": "tutelage.recipe_reading",
    "make_recipe": "tutelage.recipe_reading",
    "rank": "tutelage.api",
    "transfer": "tutelage.api",
    "verdicts": "tutelage.comparison.verdict",
}

__all__ = [
    "Comparison",
    "CuratedSet",
    "DataError",
    "ExportError",
    "LoadedModel",
    "ModelError",
    "Prediction",
    "Recipe",
    "RecipeError",
    "Result",
    "RunError",
    "TrainingError",
    "TutelageError",
    "UnknownNameError",
    "analyze",
    "compare",
    "curate",
    "load_model",
    "load_recipe",
    "make_recipe",
    "rank",
    "transfer",
    "verdicts",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("tutelage")
    if name in _PUBLIC:
        return getattr(importlib.import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'tutelage' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
