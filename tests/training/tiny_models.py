"""Models, samples and phases small enough that a training run takes milliseconds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tutelage.data.loader import Loader, ViewGroup
from tutelage.data.samples import Samples
from tutelage.models.model import Encoder, Head, LinearHead, Model
from tutelage.models.outputs import Outputs
from tutelage.models.preprocess import ClipTextPreprocess, ImagePreprocess
from tutelage.objectives import BankContrast, ImageText, Patches, Supervised
from tutelage.progress import Quiet, Update
from tutelage.tasks import Classification
from tutelage.training.distributed import World
from tutelage.training.loop import Trained, train
from tutelage.training.phase import Phase
from tutelage.training.schedule import Schedule
from tutelage.views import ViewPolicy

WIDTH, CLASSES = 6, 3
CROPS = ViewPolicy(crop=(0.5, 1.0), flip=0.5)
CPU = World(torch.device("cpu"))


class TinyEncoder(Encoder):
    def __init__(self, *, norm: str = "batch", dropout: float = 0.0, behind: bool = False) -> None:
        super().__init__("tiny", ImagePreprocess(8), {"features": WIDTH, "patches": WIDTH}, pretrained=False)
        self.conv = nn.Conv2d(3, WIDTH, 3, stride=2, padding=1)
        self.norm: nn.Module = nn.BatchNorm2d(WIDTH) if norm == "batch" else nn.GroupNorm(1, WIDTH)
        self.dropout = nn.Dropout(dropout)
        # What many encoders have between their dense map and what they pool.
        self.behind: nn.Module = nn.Linear(WIDTH, WIDTH) if behind else nn.Identity()

    def encode(self, inputs: Any, needs: Any) -> Outputs:
        patches = self.dropout(self.norm(self.conv(inputs)).relu())
        features = self.behind(patches.mean((2, 3))) if "features" in needs else None
        return Outputs(features=features, patches=patches)


class TinyText(Encoder):
    """Gives four numbers of the words of a text."""

    def __init__(self) -> None:
        super().__init__("tiny text", ClipTextPreprocess(8), {"embedding": 4}, pretrained=False)
        self.words = nn.Embedding(49_408, 4)

    def encode(self, inputs: Any, needs: Any) -> Outputs:
        return Outputs(embedding=self.words(inputs["input_ids"]).mean(1))


def tiny_model(*, seed: int = 0, head: Head | None = None, **options: Any) -> Model:
    torch.manual_seed(seed)
    return Model(TinyEncoder(**options), head or LinearHead(WIDTH, CLASSES))


def tiny_samples(count: int = 12, *, labeled: bool = True) -> Samples:
    generator = np.random.default_rng(0)
    return Samples(
        tuple(f"image-{number}" for number in range(count)),
        images=[generator.integers(0, 256, (8, 8, 3), dtype=np.uint8) for _ in range(count)],
        targets=np.arange(count) % CLASSES if labeled else None,
        classes=("a", "b", "c") if labeled else (),
    )


def tiny_phase(
    objectives: Mapping[str, Any] | None = None,
    *,
    samples: Samples | None = None,
    groups: Mapping[str, ViewGroup] | None = None,
    seed: int = 0,
    loader: Loader | None = None,
    trained: Any = "all",
    statistics: Any = "batch",
    teachers: Mapping[str, Any] | None = None,
    **schedule: Any,
) -> Phase:
    plan = Schedule(**{"steps": 6, "batch_size": 4, "learning_rate": 0.05, "average": 0.9, **schedule})
    if loader is None:
        groups = groups or {"view": ViewGroup(CROPS, 8)}
        loader = Loader(samples or tiny_samples(), groups, batch_size=plan.batch_size, seed=seed)
    weighted = {
        name: objective if isinstance(objective, tuple) else (objective, 1.0)
        for name, objective in (objectives or {"supervised": Supervised(Classification())}).items()
    }
    return Phase("tiny", loader, weighted, plan, trained, statistics, teachers or {})


def tiny_patches_phase(**options: Any) -> Phase:
    """One that reads patches alone; its teacher says something else about each image."""
    torch.manual_seed(3)
    objective = Patches(WIDTH, 5)

    def teacher(batch: Any, groups: Any, needs: Any) -> dict[str, Outputs]:
        values = torch.sin(batch.indices[:, None] + torch.arange(5.0))
        return {group: Outputs(patches=values[:, :, None, None].expand(-1, -1, 4, 4)) for group in groups}

    return tiny_phase({"patches": objective}, teachers={"teacher": teacher}, **options)


def tiny_bank_phase(*, options: Mapping[str, Any] | None = None, **how: Any) -> Phase:
    """One that learns image embeddings against memory banks; its teacher says something else about each image."""
    torch.manual_seed(3)
    objective = BankContrast(WIDTH, {"features": 5}, size=12, width=4, **(options or {}))

    def teacher(batch: Any, groups: Any, needs: Any) -> dict[str, Outputs]:
        values = torch.sin(batch.indices[:, None] * torch.arange(1.0, 6.0))
        return {group: Outputs(features=values) for group in groups}

    return tiny_phase({"crd": objective}, teachers={"teacher": teacher}, **how)


def tiny_captioned() -> Samples:
    """The samples, each with a caption of its own."""
    return replace(tiny_samples(), texts=[f"image number {number}" for number in range(12)])


def tiny_pairs_phase(**how: Any) -> Phase:
    """One that learns which caption belongs to which image."""
    torch.manual_seed(3)
    objective = ImageText(WIDTH, TinyText())
    if "loader" not in how:
        how["samples"] = tiny_captioned()
    return tiny_phase({"image-text": objective}, **how)


def run(phase: Phase, model: Model, *, seed: int = 0, progress: Any = None, **options: Any) -> Trained:
    return train(phase, model, world=CPU, seed=seed, progress=progress or Quiet(), **options)


class StopAt(Quiet):
    """Interrupts training, as a user does, once a step is done and before its checkpoint is written."""

    def __init__(self, step: int) -> None:
        self.step = step

    @contextmanager
    def track(self, label: str, total: int) -> Iterator[Update]:
        def update(done: int, numbers: Mapping[str, float]) -> None:
            if done == self.step:
                raise KeyboardInterrupt

        yield update


def same(first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)
