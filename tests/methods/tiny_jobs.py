"""Jobs of every method whose models take milliseconds."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from tests.models.tiny_clips import CLIP, RANDOM, tiny_clip
from tests.training.tiny_models import CLASSES, CPU, WIDTH, tiny_model, tiny_samples

from tutelage.data.samples import Samples
from tutelage.methods import METHODS
from tutelage.methods.job import Job
from tutelage.models.model import LinearHead, Model
from tutelage.pipeline import run_method
from tutelage.progress import Progress, Quiet
from tutelage.recipe_reading import make_recipe
from tutelage.run import Run, Stage
from tutelage.store.packs import Packs
from tutelage.tasks import Classification

TEACHER = "timm:test_efficientnet"


@dataclass(frozen=True)
class TinyJob(Job):
    """Builds tiny models in place of the recipe's, and keeps count of the teachers.

    What a teacher knows nothing of the task with is its shapes, which the recipe says: of such lessons it is the
    recipe's own, with random weights.
    """

    teachers: list[Model] = field(default_factory=list)

    def new_student(self, classes: int | None = None) -> Model:
        # No BatchNorm: AdamW blows the rounding of a gradient up that is zero, as of a bias before one.
        return tiny_model(seed=1, norm="group", head=LinearHead(WIDTH, classes or CLASSES))

    def new_teacher(self, name: str | None = None) -> Model:
        lesson, names = METHODS[self.recipe.method].lesson, self.recipe.teachers
        if METHODS[self.recipe.method].pairing is not None:
            self.teachers.append(super().new_teacher(name))
        elif lesson is None or lesson.adapted:
            self.teachers.append(tiny_model(seed=5 + (names.index(name) if name else 0)))
        else:
            self.teachers.append(self._build(names[0], pretrained=False, size=self.recipe.views.teacher_size))
        return self.teachers[-1]


def tiny_pairs(count: int = 12) -> Samples:
    """Images of noise, each with a caption of its own."""
    colors = ("red", "green", "blue", "white")
    captions = [f"{colors[number % 4]} noise, number {number}" for number in range(count)]
    return replace(tiny_samples(count, labeled=False), texts=captions)


def tiny_job(
    folder: Path,
    method: str = "task-oriented",
    *,
    labels: int = 12,
    transfer: int = 12,
    pretraining: Samples | None = None,
    pairs: Samples | None = None,
    validation: Samples | None = None,
    progress: Progress | None = None,
    store: str = "run",
    **changes: Any,
) -> TinyJob:
    """Return a job in a run folder; changes are dotted keys of the recipe, with ``__`` for a dot."""
    tiny_clip()
    recipe = make_recipe(
        {
            "data": {"labeled": "digits", "pretraining": "digits", "pairs": "digits"},
            "method": method,
            "teacher": CLIP if METHODS[method].pairing == "mimic" else TEACHER,
            "student": "timm:lcnet_050",
            "folds": 2,
            "views": {
                "policy": {"crop": [0.5, 1.0], "flip": 0.5, "mixup": 0.5},
                "size": 8,
                "teacher_size": 32,
                "student_size": 32,
            },
            "store": {"folder": store},
            "adapt": {"epochs": 1, "learning_rates": [1e-3], "penalties": [0.1], "probe_views": 1},
            "pretrain": {"epochs": 2, "batch_size": 4, "learning_rate": 0.01},
            "distill": {"epochs": 2, "batch_size": 4, "learning_rate": 0.01},
            "dino": {
                "epochs": 2,
                "batch_size": 4,
                "learning_rate": 0.01,
                "prototypes": 8,
                "hidden": 16,
                "bottleneck": 8,
                "local_views": 2,
            },
            "clip": {"epochs": 2, "batch_size": 4, "learning_rate": 0.01, "text": {"tower": RANDOM}},
            "pseudo_label": {"epochs": 2, "batch_size": 4, "rounds": 2},
            "finetune": {"epochs": 2, "learning_rates": [1e-3], "penalties": [0.1], "probe_views": 1},
        },
        {key.replace("__", "."): value for key, value in changes.items()},
    )
    other = tiny_samples() if pretraining is None else pretraining
    told = tiny_pairs() if pairs is None else pairs
    unlabeled = tiny_samples(transfer, labeled=False)
    resolved = recipe.resolved(
        short_side=8,
        labels=labels,
        transfer=transfer,
        classes=CLASSES,
        pretraining=len(other),
        pairs=len(told),
    )
    packs = Packs(resolved.store.root(folder), resolved.store.max_bytes, (unlabeled,), Quiet())
    folder.mkdir(parents=True, exist_ok=True)
    return TinyJob(
        resolved,
        Classification(),
        tiny_samples().subset(np.arange(labels)),
        validation,
        unlabeled,
        Run(folder),
        CPU,
        progress or Quiet(),
        packs,
        other,
        told,
    )


def tiny_run(folder: Path, method: str = "task-oriented", **how: Any) -> dict[str, Stage]:
    """Run a method's stages, and return them by name."""
    return run_method(tiny_job(folder, method, **how))
