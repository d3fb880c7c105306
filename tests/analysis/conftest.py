"""A finished run of Adaptive Feature Transfer on colored squares, and what analyzing one takes, in seconds."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.ranking.toys import add_toys, paint_colors

from tutelage.analysis import of_run
from tutelage.analysis.inference import inference_times
from tutelage.analysis.overhead import training_overhead
from tutelage.evaluation.results import Result
from tutelage.pipeline import run
from tutelage.recipe_reading import make_recipe


@pytest.fixture(scope="module", autouse=True)
def _toys_and_short_looks() -> Iterator[None]:
    """Toys as teachers; and no more than a short look at how fast anything is."""
    with pytest.MonkeyPatch.context() as patch:
        add_toys(patch)
        short = functools.partial(training_overhead, rounds=2, seconds=0.01)
        patch.setattr(of_run, "training_overhead", short)
        patch.setattr(of_run, "inference_times", functools.partial(inference_times, rounds=2, seconds=0.1))
        yield


@pytest.fixture(scope="module")
def colors(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("colors")
    paint_colors(root / "train", 6)
    paint_colors(root / "test", 4, seed=1)
    return root


@pytest.fixture(scope="module")
def aft(colors: Path, tmp_path_factory: pytest.TempPathFactory) -> Result:
    """A finished run."""
    settings = {
        "method": "aft",
        "data": {"labeled": str(colors / "train"), "labels": 4, "test": str(colors / "test")},
        "teacher": ["toy:color", "toy:noise"],
        "student": "timm:test_efficientnet",
        "start": "random",
        "folds": 2,
        "device": "cpu",
        "views": {"teacher_size": 16, "student_size": 32},
        "finetune": {"epochs": 2, "learning_rates": [1e-3]},
        "regularize": {"betas": [10.0], "noise": 7},
    }
    return run(make_recipe(settings), tmp_path_factory.mktemp("aft"))
