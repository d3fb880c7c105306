"""The case that the speed benchmarks share: a small student, a ViT-S/16 teacher, 4,000 small JPEGs.

The student is timm's ``mobilenetv3_small_050``, the teacher its ``vit_small_patch16_224`` at 64 px, both with random
weights, since what they predict costs the same time. Pictures are 96 px, views 64 px, batches 128. The pictures are
made here, the same ones each time: smooth random fields with shapes and some noise on them, so that JPEG has about as
much to do as on photographs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from multiprocessing.pool import ThreadPool
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw

from tutelage.data.batch import DEFAULT_GROUP, Batch
from tutelage.data.images import short_side
from tutelage.data.loader import Loader, ViewGroup
from tutelage.data.samples import Samples
from tutelage.models import LinearHead, Model, build_encoder
from tutelage.objectives import Logits, Objective, Supervised
from tutelage.progress import Quiet
from tutelage.store.forms import FLOAT16
from tutelage.store.packs import pack_images
from tutelage.store.spec import StoredOutput, target_spec, teacher_identity
from tutelage.store.targets import build_targets
from tutelage.tasks import TASKS
from tutelage.training.distributed import World
from tutelage.training.loop import _Trainer
from tutelage.training.phase import LiveTeacher, Phase, TargetSource
from tutelage.training.schedule import Schedule
from tutelage.views import POLICIES, ViewPolicy

STUDENT = "timm:mobilenetv3_small_050"
TEACHER = "timm:vit_small_patch16_224"
IMAGES = 4000
SIDE = 96
SIZE = 64
BATCH = 128
CLASSES = 10
SEED = 0
VIEWS = 4
"""Cached views of each sample."""
ROOM = 10**12
"""Most bytes of a store: more than any of them takes."""

AUGMENTATIONS: dict[str, ViewPolicy] = {
    # What every peer can do in the same way.
    "plain": ViewPolicy(crop=(0.08, 1.0), flip=0.5),
    # What each recommends for distilling.
    "full": POLICIES["full"],
}


def pictures(folder: Path, count: int = IMAGES, side: int = SIDE) -> Samples:
    """Return labeled JPEGs, making those that are not there yet; one folder a class, as all peers read them."""
    places = [folder / f"class_{number % CLASSES}" / f"{number:06}.jpg" for number in range(count)]
    missing = [number for number, place in enumerate(places) if not place.exists()]
    for name in range(CLASSES if missing else 0):
        (folder / f"class_{name}").mkdir(parents=True, exist_ok=True)
    with ThreadPool() as pool:
        pool.map(partial(_write, places, side), missing)
    return Samples(
        ids=tuple(str(place.relative_to(folder)) for place in places),
        images=places,
        targets=np.arange(count, dtype=np.int64) % CLASSES,
        classes=tuple(f"class_{number}" for number in range(CLASSES)),
        origin=str(folder),
    )


def new_student(classes: int = CLASSES) -> Model:
    """Build the student, at random weights and in the memory format that it trains in."""
    return _model(STUDENT, classes)


def new_teacher(classes: int = CLASSES) -> Model:
    """Build the teacher; its head is random too, so that its predictions differ."""
    teacher = _model(TEACHER, classes)
    assert isinstance(teacher.head, LinearHead)
    torch.nn.init.normal_(teacher.head.linear.weight, std=0.1)
    return teacher.eval().requires_grad_(False)


def new_loader(
    samples: Samples, policy: ViewPolicy, store: Path, *, batch_size: int = BATCH, views: int | None = None
) -> Loader:
    """Return the loader of augmented views, from images packed in a folder of stores; as a run makes it."""
    return Loader(
        samples,
        {DEFAULT_GROUP: ViewGroup(policy, SIZE)},
        batch_size=batch_size,
        seed=SEED,
        images=pack_images(store, ROOM, samples, short_side(SIZE), Quiet()),
        views=views,
        inline=not torch.cuda.is_available(),
    )


def live_phase(loader: Loader, teacher: Model, steps: int) -> Phase:
    """Return distillation with the teacher running on every batch."""
    return _phase("live", loader, Logits(), steps, {"teacher": LiveTeacher(teacher)})


def cached_phase(
    samples: Samples, policy: ViewPolicy, steps: int, store: Path, *, views: int = VIEWS, classes: int = CLASSES
) -> Phase:
    """Return distillation from stored targets, which are made if they are not there; the teacher is gone then."""
    loader, teacher = new_loader(samples, policy, store, views=views), new_teacher(classes)
    outputs = {DEFAULT_GROUP: {"logits": StoredOutput(FLOAT16, (classes,))}}
    spec = target_spec(teacher_identity(teacher), loader, outputs, seed=SEED, device=torch.device("cpu"))
    targets = build_targets(store, ROOM, spec, views, teacher, loader, progress=Quiet())
    return _phase("cached", loader, Logits(), steps, {"teacher": targets})


def supervised_phase(loader: Loader, steps: int) -> Phase:
    """Return training on the labels."""
    return _phase("supervised", loader, Supervised(TASKS["classification"]), steps, {})


def stepper(phase: Phase, model: Model, here: World) -> Callable[[Batch], object]:
    """Return the training loop's step, to be called on one batch at a time."""
    model.to(here.device)
    return _Trainer(phase, model, here).step


def _phase(
    name: str, loader: Loader, objective: Objective, steps: int, teachers: Mapping[str, TargetSource]
) -> Phase:
    schedule = Schedule(steps=steps, batch_size=loader.batch_size, learning_rate=1e-3)
    return Phase(name, loader, {name: (objective, 1.0)}, schedule, teachers=teachers)


def _model(name: str, classes: int) -> Model:
    torch.manual_seed(SEED)
    encoder = build_encoder(name, pretrained=False, size=SIZE)
    model = Model(encoder, TASKS["classification"].head(encoder.widths, classes))
    model.to(memory_format=torch.channels_last)
    return model


def _write(places: list[Path], side: int, number: int) -> None:
    part = places[number].with_suffix(".part")
    _picture(number, side).save(part, "JPEG", quality=90)
    part.replace(places[number])


def _picture(number: int, side: int) -> Image.Image:
    draw = np.random.default_rng([SEED, number])
    field = np.zeros((side, side, 3))
    for cells, strength in ((3, 60.0), (8, 30.0), (24, 12.0)):
        coarse = draw.normal(0, strength, (cells, cells, 3)).astype(np.float32)
        for channel in range(3):
            layer = Image.fromarray(coarse[..., channel]).resize((side, side), Image.Resampling.BICUBIC)
            field[..., channel] += np.asarray(layer)
    picture = Image.fromarray((field + 128).clip(0, 255).astype(np.uint8))
    pen = ImageDraw.Draw(picture)
    for _ in range(draw.integers(2, 6)):
        left, top = draw.integers(0, side, 2).tolist()
        width, height = draw.integers(side // 10, side // 2, 2).tolist()
        color = tuple(draw.integers(0, 256, 3).tolist())
        shape = pen.ellipse if draw.random() < 0.5 else pen.rectangle
        shape((left, top, left + width, top + height), fill=color)
    noise = draw.normal(0, 4, (side, side, 3))
    return Image.fromarray((np.asarray(picture) + noise).clip(0, 255).astype(np.uint8))
