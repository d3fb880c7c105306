"""Students that are held by teachers' features, in the loop."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tiny_models import CLASSES, WIDTH, StopAt, run, same, tiny_model, tiny_phase

from tutelage.models.outputs import Outputs
from tutelage.objectives import (
    AdaptiveFeatures,
    BTuning,
    Factors,
    FeatureObjective,
    FeatureRegression,
    Relations,
    Supervised,
    factors,
)
from tutelage.tasks import Classification
from tutelage.training.phase import Phase

WIDTHS = {"timm:one.two": 4, "other": 5}

MADE = {
    "aft": lambda: AdaptiveFeatures(WIDTH, WIDTHS, standardize=True),
    "aft, bi-level": lambda: AdaptiveFeatures(WIDTH, WIDTHS, inner_steps=3),
    "aft, no kernel": lambda: AdaptiveFeatures(WIDTH, WIDTHS, kernel="none"),
    "aft, dense": lambda: AdaptiveFeatures(WIDTH, WIDTHS, kernel="rbf", weights="dense"),
    "kd": lambda: FeatureRegression(WIDTH, WIDTHS),
    "rkd": lambda: Relations(WIDTH, WIDTHS),
    "ft": lambda: Factors(WIDTH, WIDTHS),
    "b-tuning": lambda: BTuning(WIDTH, WIDTHS, classes=CLASSES),
}


class Rows:
    """A teacher that says numbers of each image."""

    def __init__(self, width: int) -> None:
        self.values = torch.randn(12, width, generator=torch.Generator().manual_seed(width))

    def __call__(self, batch, groups, needs):
        return {group: Outputs(features=self.values[batch.indices]) for group in groups}


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Autoencoders of twelve samples need not be good."""
    monkeypatch.setattr(factors, "EPOCHS", 3)


def held(name: str) -> Phase:
    torch.manual_seed(7)
    objectives = {"supervised": Supervised(Classification()), "held": MADE[name]()}
    return tiny_phase(objectives, teachers={teacher: Rows(width) for teacher, width in WIDTHS.items()})


def objective(phase: Phase) -> FeatureObjective:
    return phase.objectives["held"][0]


@pytest.mark.parametrize("name", sorted(MADE))
def test_a_resumed_student_and_what_holds_it_end_as_without_an_interruption(name: str, tmp_path: Path) -> None:
    # What is fitted to the student at its start must not be fitted to another one.
    whole = held(name)
    expected = run(whole, tiny_model(dropout=0.3)).raw
    path = tmp_path / "state.checkpoint"
    with pytest.raises(KeyboardInterrupt):
        run(held(name), tiny_model(dropout=0.3), progress=StopAt(4), checkpoint=path, every=0)
    again = held(name)
    assert same(run(again, tiny_model(seed=5, dropout=0.3), checkpoint=path, every=0).raw, expected)
    assert same(objective(again).state_dict(), objective(whole).state_dict())


@pytest.mark.parametrize("name", ["aft", "aft, bi-level"])
def test_the_weights_of_features_are_learned(name: str) -> None:
    phase = held(name)
    run(phase, tiny_model())
    weights = objective(phase).feature_weights
    assert weights.shape == (9,)
    assert (weights != 0.5).all()
