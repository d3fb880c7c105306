from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.training.tiny_models import CLASSES, CPU, WIDTH, TinyEncoder, tiny_model, tiny_samples

from tutelage.methods.job import Job
from tutelage.models.model import LinearHead, Model
from tutelage.models.outputs import Outputs
from tutelage.progress import Quiet
from tutelage.recipe_reading import make_recipe
from tutelage.run import Run
from tutelage.store.packs import Packs
from tutelage.store.probe import probe
from tutelage.tasks import Classification

SLOW = 0.05


class SlowEncoder(TinyEncoder):
    """Takes fifty milliseconds longer than it needs."""

    def encode(self, inputs: Any, needs: Any) -> Outputs:
        time.sleep(SLOW)
        return super().encode(inputs, needs)


class SlowTeacher(Job):
    def new_teacher(self) -> Model:
        return Model(SlowEncoder(), LinearHead(WIDTH, CLASSES))

    def new_student(self) -> Model:
        return tiny_model(seed=1)


@pytest.fixture
def job(tmp_path: Path) -> SlowTeacher:
    recipe = make_recipe(
        {
            "data": {"labeled": "digits"},
            "teacher": "bundled:efficientnet-lite0",
            "student": "timm:lcnet_050",
            "views": {"policy": {"crop": [0.5, 1.0], "mixup": 0.5}, "size": 8},
            "distill": {"batch_size": 8},
        }
    ).resolved(short_side=8, labels=12, transfer=12, classes=CLASSES)
    labeled, transfer = tiny_samples(), tiny_samples(labeled=False)
    packs = Packs(tmp_path / "store", 10**9, (transfer,), Quiet())
    return SlowTeacher(recipe, Classification(), labeled, None, transfer, Run(tmp_path), CPU, Quiet(), packs)


def test_a_slow_teacher_is_told_from_the_rest(job: SlowTeacher) -> None:
    timing = probe(job, seconds=0.1).timing
    assert timing.teacher > SLOW / 8
    assert 0 < timing.student < timing.teacher
    assert timing.pack > 0
    assert timing.view > 0


def test_the_outputs_asked_for_are_measured(job: SlowTeacher) -> None:
    found = probe(job, frozenset({"logits", "features", "patches"}), seconds=0.01)
    assert dict(found.shapes) == {"logits": (CLASSES,), "features": (WIDTH,), "patches": (WIDTH, 4, 4)}


def test_features_alone_can_be_measured(job: SlowTeacher) -> None:
    assert dict(probe(job, frozenset({"features"}), seconds=0.01).shapes) == {"features": (WIDTH,)}


def test_nothing_is_kept(job: SlowTeacher, tmp_path: Path) -> None:
    probe(job, seconds=0.01)
    assert not list(tmp_path.iterdir())
    assert torch.is_grad_enabled()
