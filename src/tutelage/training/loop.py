"""The one training loop: adapting, pretraining, distilling and finetuning are this loop with other phases."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from tutelage.data.batch import Batch
from tutelage.errors import TrainingError
from tutelage.ledger import Cost, counted, measured
from tutelage.models.model import Model
from tutelage.models.preprocess import TEXTUAL
from tutelage.models.work import amount_of
from tutelage.progress import Progress
from tutelage.training.average import WeightAverage
from tutelage.training.checkpoint import load_checkpoint, save_checkpoint
from tutelage.training.distributed import World
from tutelage.training.examples import examples
from tutelage.training.memory import keep_freed_memory
from tutelage.training.phase import Phase
from tutelage.training.precision import precision
from tutelage.training.schedule import decayed_groups, learning_rate_factor
from tutelage.training.step import Step

CHECKPOINT_SECONDS = 30.0
"""Time between checkpoints, where they are small; an interrupted stage loses no more than that."""

CHECKPOINT_SHARE = 0.05
"""Share of the time that checkpoints may take where they are large, as with memory banks; they are then rarer."""

HISTORY_POINTS = 200
"""Points kept of each curve."""

State = dict[str, Tensor]


@dataclass
class Trained:
    """What training leaves behind.

    Attributes:
        raw: The last weights.
        average: Their moving average, or ``None``.
        history: Losses and learning rate along the way.
        cost: What it took.
    """

    raw: State
    average: State | None
    history: list[dict[str, float]] = field(default_factory=list)
    cost: Cost = field(default_factory=Cost)

    def variants(self) -> dict[str, State]:
        """Return the weights to choose from: ``raw``, and ``average`` if one was kept."""
        return {"raw": self.raw} if self.average is None else {"raw": self.raw, "average": self.average}


def train(
    phase: Phase,
    model: Model,
    *,
    world: World,
    seed: int,
    progress: Progress,
    checkpoint: Path | None = None,
    every: float = CHECKPOINT_SECONDS,
    snapshots: Sequence[float] = (),
    keep: Callable[[float, State], None] | None = None,
) -> Trained:
    """Train a model in place.

    Args:
        phase: Data, objectives and schedule.
        model: The student (or the teacher being adapted); moved to the world's device.
        world: Device and processes.
        seed: Seed of dropout and whatever else draws numbers in the model.
        progress: Shows where training is.
        checkpoint: Where training state is kept every ``every`` seconds; a file already there is resumed from, and on
            the CPU training then ends with the weights of an uninterrupted one. Removed at the end.
        every: Seconds between checkpoints, or more where they are large; 0 for one after every step.
        snapshots: Shares of the training, in 0..1, after which ``keep`` gets the weights, averaged if they are.
        keep: Called with the share and the weights, by the first process.

    Raises:
        TrainingError: The loss or its gradient is not finite.
        RecipeError, ModelError: The phase lacks something that its objectives need.
    """
    phase.check()
    torch.manual_seed(seed + 7919 * world.rank)
    model.to(world.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    model.requires_grad_(phase.trained == "all")
    # A head that no objective reads would make DDP wait for its gradient.
    model.head.requires_grad_(any("logits" in needs for needs in phase.student_needs().values()))
    trainer = _Trainer(phase, model, world)
    with measured(trainer.cost, world.device):
        for objective, _ in phase.objectives.values():
            objective.prepare(phase.loader.samples, examples(phase, model, world.device))
    if checkpoint is not None and checkpoint.exists():
        trainer.load(load_checkpoint(checkpoint, world.device))
    marks: dict[int, list[float]] = {}
    for share in snapshots:
        marks.setdefault(max(1, round(share * phase.schedule.steps)), []).append(share)
    with measured(trainer.cost, world.device), progress.track(phase.name, phase.schedule.steps) as update:
        saved, pause = time.monotonic(), every
        for batch in trainer.batches():
            losses = trainer.step(batch)
            for share in marks.get(trainer.done, ()):
                trainer.check_finite(checkpoint)
                if keep is not None and world.first:
                    keep(share, trainer.weights())
            if trainer.done % trainer.show_every == 0 or trainer.done == phase.schedule.steps:
                shown = trainer.record(losses, checkpoint)
                update(trainer.done, shown)
            if checkpoint is not None and world.first and time.monotonic() - saved > pause:
                trainer.check_finite(checkpoint)
                began = time.monotonic()
                save_checkpoint(checkpoint, trainer.state())
                for objective, _ in phase.objectives.values():
                    objective.after_checkpoint()
                saved = time.monotonic()
                pause = every and max(every, (saved - began) / CHECKPOINT_SHARE)
    world.barrier()
    if checkpoint is not None and world.first:
        checkpoint.unlink(missing_ok=True)
    return trainer.result()


class _Trainer:
    """The state of one training run; the functions above read top-down."""

    def __init__(self, phase: Phase, model: Model, world: World) -> None:
        keep_freed_memory()
        self.phase, self.model, self.world = phase, model, world
        self.schedule = phase.schedule
        self.inner = Step(phase, model).to(world.device).train()
        groups = decayed_groups([model], self.schedule)
        for objective, _ in phase.objectives.values():
            groups += objective.param_groups(self.schedule.learning_rate)
        self.peaks = [group["lr"] for group in groups]
        self.decays = [group.get("weight_decay", 0.0) for group in groups]
        # What an objective's group does not say is not decayed: torch's default would shrink its scales and biases.
        self.optimizer = torch.optim.AdamW(
            groups, lr=self.schedule.learning_rate, betas=(0.9, 0.999), weight_decay=0.0, fused=True
        )
        self.trainable = [parameter for group in groups for parameter in group["params"]]
        self.module: nn.Module = self.inner
        if world.size > 1:
            # What encoders have behind their dense map gets no gradient where that is all that is read.
            read = {self.inner.model.head.reads} | set().union(*phase.student_needs().values())
            self.module = DistributedDataParallel(
                self.inner,
                device_ids=None if world.device.type == "cpu" else [world.device],
                find_unused_parameters="patches" in read,
            )
        self.average = WeightAverage(model, self.schedule.average) if self.schedule.average else None
        self.done = 0
        self.history: list[dict[str, float]] = []
        self.cost = Cost()
        self.resumed = Cost()  # what an interrupted attempt had spent already
        self.began = time.perf_counter()
        self.flops = 0.0  # of one unit of work
        # Kept on the device: looking at every loss would make a GPU wait at every step.
        self.first_bad = torch.tensor(-1, device=world.device)
        self.show_every = max(1, self.schedule.steps // HISTORY_POINTS)

    def batches(self) -> Iterator[Batch]:
        """Yield what is left of the batches, counting the time that the loop waits for them."""
        loader = self.phase.loader
        source = loader.ready(loader.batches(self.done, self.schedule.steps))
        try:
            while True:
                began = time.perf_counter()
                batch = next(source, None)
                self.cost.waiting += time.perf_counter() - began
                if batch is None:
                    return
                yield batch.to(self.world.device)
        finally:
            source.close()

    def step(self, batch: Batch) -> dict[str, Tensor]:
        """Take one optimizer step."""
        amount = self._amount(batch)
        if self.flops:
            losses = self._forward_backward(batch)
        else:  # every step does the same work, or as much as it has tokens, so the first one's count stands for all
            losses, counts = counted(lambda: self._forward_backward(batch))
            self.flops = counts / amount
        factor = learning_rate_factor(self.done, self.schedule.steps, self.schedule.warmup)
        decaying = self.schedule.weight_decay_factor(self.done)
        for group, peak, decay in zip(self.optimizer.param_groups, self.peaks, self.decays, strict=True):
            group["lr"], group["weight_decay"] = peak * factor, decay * decaying
        for objective, _ in self.phase.objectives.values():
            objective.before_step(self.done / self.schedule.steps)
        clip = math.inf if self.schedule.clip is None else self.schedule.clip
        norm = nn.utils.clip_grad_norm_(self.trainable, clip)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.done += 1
        # The gradient too: a root at 0 has a finite value, and the weights are lost all the same.
        finite = torch.isfinite(losses["loss"].detach()) & torch.isfinite(norm)
        bad = ~finite & (self.first_bad < 0)
        self.first_bad = torch.where(bad, self.done, self.first_bad)
        if self.average is not None:
            self.average.update()
        for objective, _ in self.phase.objectives.values():
            objective.after_step(self.model, self.done / self.schedule.steps)
        self.cost.images += len(batch) * self.world.size
        self.cost.flops += self.flops * amount * self.world.size
        return losses

    def _amount(self, batch: Batch) -> int:
        preprocess = self.model.encoder.preprocess
        return sum(amount_of(batch.inputs[group], preprocess) for group in self.phase.student_needs())

    def _forward_backward(self, batch: Batch) -> dict[str, Tensor]:
        with precision(self.world.device):
            losses: dict[str, Tensor] = self.module(batch, self.phase.targets(batch))
        torch.autograd.backward(losses["loss"])
        return losses

    def record(self, losses: Mapping[str, Tensor], checkpoint: Path | None) -> dict[str, float]:
        """Keep a point of the curves, and return what is worth showing."""
        self.check_finite(checkpoint)
        point = {name: float(value.detach()) for name, value in losses.items()}
        self.history.append({"step": self.done, **point, "learning_rate": self.optimizer.param_groups[0]["lr"]})
        images, waiting = self.cost.images - self.resumed.images, self.cost.waiting - self.resumed.waiting
        seen = TEXTUAL[self.phase.loader.samples.modality]
        return {"loss": point["loss"], seen: float(images), "waiting": waiting}

    def check_finite(self, checkpoint: Path | None) -> None:
        """Raise if a loss or gradient was not finite."""
        if self.first_bad >= 0:
            kept = checkpoint is not None and checkpoint.exists()
            advice = f"the last good checkpoint is {checkpoint}" if kept else "there is no earlier checkpoint"
            raise TrainingError(
                f"{self.phase.name}: the loss or its gradient is not finite at step {int(self.first_bad)} of "
                f"{self.schedule.steps}; {advice}. Try a lower learning rate (now {self.schedule.learning_rate:g})"
            )

    def state(self) -> dict[str, Any]:
        """Return all that resuming needs."""
        return {
            "done": self.done,
            "step": self.inner.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "average": None if self.average is None else [self.average.updates, self.average.state],
            "history": self.history,
            "cost": replace(self.cost, seconds=self.cost.seconds + time.perf_counter() - self.began).as_dict(),
            "flops": self.flops,
            "random": torch.get_rng_state(),
            "cuda": torch.cuda.get_rng_state(self.world.device) if self.world.device.type == "cuda" else None,
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """Go on from :meth:`state`'s data."""
        self.inner.load_state_dict(state["step"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.average is not None:
            self.average.updates, self.average.state = state["average"]
        self.done, self.history, self.flops = state["done"], state["history"], state["flops"]
        self.cost, self.resumed = (
            Cost(**{**state["cost"], "earlier": state["cost"]["seconds"]}),
            Cost(**state["cost"]),
        )
        torch.set_rng_state(state["random"].cpu())
        if state["cuda"] is not None:
            torch.cuda.set_rng_state(state["cuda"].cpu(), self.world.device)

    def weights(self) -> State:
        """Return the weights as they are now, averaged if they are."""
        return self.model.state_dict() if self.average is None else self.average.state

    def result(self) -> Trained:
        """Return the weights and what they cost."""
        raw = {key: value.detach().clone() for key, value in self.model.state_dict().items()}
        return Trained(raw, None if self.average is None else self.average.state, self.history, self.cost)
