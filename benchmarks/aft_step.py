"""A step of Adaptive Feature Transfer, against the same student's step on the labels alone.

    python benchmarks/aft_step.py                 # the table in docs/performance.md
    python benchmarks/aft_step.py --json          # one JSON object on stdout

The student is timm's ``vit_small_patch16_224`` at 64 px with random weights, the teachers' features are 1,024 numbers
an image, read from a store. Both steps are the training loop's own, each with a student and an optimizer of its own
that start alike and see the same batch each time; they are taken in turns. The batch is doubled from 128 images until
the step on labels takes half a second, so that a clock's or a scheduler's noise is small beside it. At 64 px the
student itself has a twelfth of the work that it has at 224 px, and the objective has all of it: the comparison is a
strict one. The upper 95 % bound of the ratio of seconds is to be at most 1.02.

The second comparison is of memory: bytes that a kernel distance keeps for its gradient, over B² + B·(dφ + dψ), for a
batch of 512 and features of 2,048 against a batch of 128 and features of 512. What would keep all pairs of rows,
B²·d, would reach about eight; the ratio is to be at most 1.05, for both kernels. Bytes do not vary: once is enough.

Keys of the JSON: ``ratio`` (of seconds a step, ours over the reference), ``reference``, ``runs`` (pairs), ``spread``,
``bound``, ``confidence`` and ``goal`` are those of the first of ``comparisons``, ``met`` is for all of them;
``comparisons`` has the same keys for each, and ``ours``; ``rows`` has for each kind of ``step`` its ``milliseconds``
(median) and ``std``; ``batch_size``, ``machine``, ``command``.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from case import AUGMENTATIONS, CLASSES, ROOM, SEED, SIZE, TEACHER, new_loader, pictures, stepper
from side_by_side import command, compare, in_turns, machine, seconds, show
from torch import Tensor, nn
from torch.nn import functional as F

from tutelage.data.batch import DEFAULT_GROUP
from tutelage.data.loader import Loader
from tutelage.models import LinearHead, Model, build_encoder
from tutelage.models.model import Encoder
from tutelage.models.outputs import Outputs
from tutelage.models.preprocess import ImagePreprocess
from tutelage.objectives import AdaptiveFeatures, Supervised, kernel_distance
from tutelage.objectives.kernels import Kernel
from tutelage.progress import Quiet
from tutelage.store.forms import FLOAT16
from tutelage.store.spec import StoredOutput, target_spec, teacher_identity
from tutelage.store.targets import CachedTargets, build_targets
from tutelage.tasks import TASKS
from tutelage.training.distributed import World, world
from tutelage.training.phase import Phase
from tutelage.training.schedule import Schedule

STUDENT = TEACHER
WIDTH = 1024
LEAST = 0.5
"""Seconds that a step is to take."""
SIZES = ((512, 2048), (128, 512))
"""Batch and features, of the larger and the smaller kernel distance."""
KERNELS: tuple[Kernel, ...] = ("linear", "rbf")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--pairs", type=int, default=60)
    parser.add_argument("--batch", type=int, help="images a step; found if not given")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--data", type=Path, default=Path("runs/peers/jpegs"))
    parser.add_argument("--work", type=Path, default=Path("runs/aft"))
    parser.add_argument("--json", action="store_true")
    told = parser.parse_args()
    with world(told.device) as here:
        batch, cases = both_steps(told.data, told.work / "store", told.pairs, here, told.batch)
        found = in_turns(cases, told.pairs, seconds)
        device = str(here.device)
    steps = compare(found["aft"], found["labels"], reference="the step on labels", side="at_most", goal=1.02)
    comparisons: list[dict[str, Any]] = [{"ours": "the step with features", **steps}]
    for kernel in KERNELS:
        large, small = (kept_bytes(*size, kernel) / (size[0] ** 2 + 2 * size[0] * size[1]) for size in SIZES)
        reference = "those of a batch of {} with {} features".format(*SIZES[1])
        memory = compare([large], [small], reference=reference, side="at_most", goal=1.05)
        comparisons.append({"ours": f"bytes kept by the {kernel} kernel, over B² + B·d", **memory})
    result = {
        **{key: value for key, value in comparisons[0].items() if key != "ours"},
        "met": all(comparison["met"] for comparison in comparisons),
        "comparisons": comparisons,
        "rows": [
            {
                "step": name,
                "milliseconds": 1e3 * statistics.median(times),
                "std": 1e3 * statistics.stdev(times) if len(times) > 1 else 0.0,
            }
            for name, times in found.items()
        ],
        "batch_size": batch,
        "machine": machine(device),
        "command": command(),
    }
    show(result, told.json)


def both_steps(
    data: Path, store: Path, pairs: int, here: World, batch: int | None
) -> tuple[int, dict[str, Callable[[], object]]]:
    """Return the size of the batch, and both steps on it."""
    size = batch or 128
    while True:
        samples = pictures(data, size).subset(np.arange(size))
        loader = new_loader(samples, AUGMENTATIONS["plain"], store, batch_size=size, views=1)
        views = next(loader.batches(0, 1)).to(here.device)
        supervised = {"supervised": (Supervised(TASKS["classification"]), 1.0)}
        schedule = Schedule(steps=2 * pairs + 100, batch_size=size, learning_rate=1e-4)
        step = partial(stepper(Phase("labels", loader, supervised, schedule), new_student(), here), views)
        step()
        if batch or seconds(step) >= LEAST:
            break
        size *= 2
    teachers = {"teacher": stored_features(loader, store)}
    objectives = {
        "supervised": (Supervised(TASKS["classification"]), 1.0),
        "aft": (AdaptiveFeatures(new_student().encoder.widths["features"], {"teacher": WIDTH}), 10.0),
    }
    phase = Phase("aft", loader, objectives, schedule, teachers=teachers)
    return size, {"labels": step, "aft": partial(stepper(phase, new_student(), here), views)}


def new_student() -> Model:
    """Build the student, at random weights."""
    torch.manual_seed(SEED)
    encoder = build_encoder(STUDENT, pretrained=False, size=SIZE)
    return Model(encoder, TASKS["classification"].head(encoder.widths, CLASSES))


class Wide(Encoder):
    """A teacher that costs nothing: a fixed random map of small pixels."""

    def __init__(self) -> None:
        super().__init__("wide", ImagePreprocess(8), {"features": WIDTH}, pretrained=False)
        self.map = nn.Linear(3 * 8 * 8, WIDTH)

    def encode(self, inputs: Any, needs: Any) -> Outputs:
        """Return the features."""
        return Outputs(features=F.gelu(self.map(inputs.flatten(1))))


def stored_features(loader: Loader, store: Path) -> CachedTargets:
    """Store what the teacher makes of the loader's images, if it is not there."""
    torch.manual_seed(SEED)
    teacher = Model(Wide(), LinearHead(WIDTH, CLASSES)).eval().requires_grad_(False)
    outputs = {DEFAULT_GROUP: {"features": StoredOutput(FLOAT16, (WIDTH,))}}
    spec = target_spec(teacher_identity(teacher), loader, outputs, seed=SEED, device=torch.device("cpu"))
    return build_targets(store, ROOM, spec, 1, teacher, loader, progress=Quiet())


def kept_bytes(batch: int, width: int, kernel: Kernel) -> float:
    """Return the bytes that a kernel distance keeps for its gradient; what is kept twice counts once."""
    draw = torch.Generator().manual_seed(SEED)
    student, teacher = (torch.randn(batch, width, generator=draw) for _ in range(2))
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        distance = kernel_distance(
            student.requires_grad_(), teacher, torch.zeros(width, requires_grad=True), kernel=kernel
        )
    assert distance.requires_grad
    return float(sum(kept.values()))


if __name__ == "__main__":
    main()
