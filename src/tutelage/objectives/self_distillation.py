"""Self-distillation (DINO): a student says of small crops what its own moving average says of large ones."""

from __future__ import annotations

import copy
import math
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tutelage.data.batch import Batch
from tutelage.models.model import Model
from tutelage.objectives.collapse import relative_entropy, spread
from tutelage.objectives.features import full_precision, widened
from tutelage.objectives.objective import Needs, Objective, StudentOutputs, Targets
from tutelage.training.distributed import process_mean
from tutelage.training.schedule import cosine

GLOBAL, LOCAL = "global", "local"
"""View groups: large crops, which the teacher sees too, and small ones."""


def self_distillation(
    student_logits: Tensor,
    teacher_logits: Tensor,
    center: Tensor,
    *,
    student_temperature: float = 0.1,
    teacher_temperature: float | Tensor = 0.04,
) -> Tensor:
    r"""Cross entropy of every view of the student against every view of the teacher but itself.

    .. math:: -\frac{1}{G (V - 1) B} \sum_{g=1}^{G} \sum_{v \ne g} \sum_i \sum_k p_{gik} \log q_{vik}, \quad
              p = \mathrm{softmax}((t - c) / T_t), \; q = \mathrm{softmax}(s / T_s)

    No gradient reaches the teacher. Equation 3 of DINO (Caron et al., ICCV 2021), there summed over pairs of views;
    the mean over them is its released code's.

    Args:
        student_logits: s of V views of B images, [V, B, K]; the first G are those that the teacher sees.
        teacher_logits: t of those G views in the same order, [G, B, K].
        center: c, [K].
        student_temperature: T_s.
        teacher_temperature: T_t; a scalar tensor, too.

    Returns:
        A scalar.

    Raises:
        ValueError: Shapes do not belong together, there is no pair of different views, or a temperature is not
            positive (one in a tensor is not looked at).
    """
    if (
        student_logits.ndim != 3
        or teacher_logits.ndim != 3
        or student_logits.shape[1:] != teacher_logits.shape[1:]
        or center.shape != student_logits.shape[2:]
    ):
        raise ValueError(
            f"logits must be [V, B, K] and [G, B, K], and the center [K]; got {tuple(student_logits.shape)}, "
            f"{tuple(teacher_logits.shape)} and {tuple(center.shape)}"
        )
    views, seen = len(student_logits), len(teacher_logits)
    if not 1 <= seen <= views or views < 2:
        raise ValueError(
            f"the student has {views} views and the teacher {seen}; it needs two or more, the teacher's among them"
        )
    for temperature in (student_temperature, teacher_temperature):
        if not isinstance(temperature, Tensor) and temperature <= 0:
            raise ValueError(f"temperatures must be positive, got {temperature}")
    said = (student_logits / student_temperature).log_softmax(2)
    wanted = ((teacher_logits.detach() - center) / teacher_temperature).softmax(2)
    others = said.sum(0) - said[:seen]  # of each teacher view, all student views but the same
    return -(wanted * others).sum(2).mean() / (views - 1)


class PrototypeHead(nn.Module):
    """Compares a projection of features with prototypes: three linear layers with GELU, then cosines.

    Both sides are of unit length, as with a weight-normalized last layer whose gains are fixed at 1. The cosines are
    computed in full precision: a temperature of 0.04 would make the steps of bfloat16 visible.

    Args:
        width: Of the features.
        prototypes: K.
        hidden: Width of the two hidden layers.
        bottleneck: Of the embedding that is compared.

    Attributes:
        projector: The linear layers.
        prototypes: [K, bottleneck], of any length.
    """

    def __init__(self, width: int, prototypes: int, *, hidden: int = 2048, bottleneck: int = 256) -> None:
        super().__init__()
        self.projector = nn.Sequential(
            nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, hidden), nn.GELU(), nn.Linear(hidden, bottleneck)
        )
        for layer in self.projector:
            if isinstance(layer, nn.Linear):
                nn.init.trunc_normal_(layer.weight, std=0.02)
                nn.init.zeros_(layer.bias)
        self.prototypes = nn.Parameter(torch.empty(prototypes, bottleneck))
        nn.init.uniform_(self.prototypes, -1 / math.sqrt(bottleneck), 1 / math.sqrt(bottleneck))

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Return the embeddings [N, bottleneck] of features [N, width], and their logits [N, K], in -1..1."""
        projected = self.projector(features)
        with full_precision(features):
            embeddings = F.normalize(widened(projected), dim=1)
            return embeddings, embeddings @ F.normalize(self.prototypes, dim=1).mT


class SelfDistillation(Objective):
    """Learn from a moving average of the student itself (see :func:`self_distillation`).

    The teacher is the student's encoder and head, followed by its parameters alone. It stays in train mode, without
    gradients: its BatchNorm normalizes by each batch of large crops, for running statistics that belong to weights of
    long ago would be stale. Teacher and center are training state.

    Beside the loss are watched ``teacher_entropy`` (:func:`~tutelage.objectives.collapse.relative_entropy`), the
    ``spread`` of the student's embeddings (:func:`~tutelage.objectives.collapse.spread`), and ``divergence``, by how
    much the loss is above the teacher's entropy, in nats.

    Args:
        student: At its start; its encoder is copied.
        prototypes: K; two or more.
        local: Whether there is a group of small crops.
        hidden: As in :class:`PrototypeHead`.
        bottleneck: As in :class:`PrototypeHead`.
        student_temperature: T_s.
        teacher_temperature: T_t.
        warmup_temperature: T_t at the start.
        warmup: Share of the training in which it becomes ``teacher_temperature``, linearly.
        momentum: Decay of the teacher's moving average at the start; it becomes 1 by the last step, along a cosine.
        center_momentum: Decay of the center's.
        frozen: Share of the training in which the student's prototypes stay as they are.
        weight_decay: Of the head's matrices.

    Raises:
        ValueError: There are fewer than two prototypes, a temperature is not positive, or a share or decay is not in
            0..1.
    """

    watched: ClassVar[frozenset[str]] = frozenset({"teacher_entropy", "divergence", "spread"})

    center: Tensor
    temperature: Tensor

    def __init__(
        self,
        student: Model,
        prototypes: int,
        *,
        local: bool = True,
        hidden: int = 2048,
        bottleneck: int = 256,
        student_temperature: float = 0.1,
        teacher_temperature: float = 0.04,
        warmup_temperature: float | None = None,
        warmup: float = 0.0,
        momentum: float = 0.996,
        center_momentum: float = 0.9,
        frozen: float = 0.0,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__()
        first = teacher_temperature if warmup_temperature is None or not warmup else warmup_temperature
        if prototypes < 2:
            raise ValueError(f"there must be two prototypes or more, got {prototypes}")
        if min(student_temperature, teacher_temperature, first) <= 0:
            raise ValueError("temperatures must be positive")
        if not all(0 <= share <= 1 for share in (warmup, momentum, center_momentum, frozen)):
            raise ValueError("warmup, frozen and both momenta must be in 0..1")
        self.needs = Needs(student=frozenset({"features"}), groups=(GLOBAL, LOCAL) if local else (GLOBAL,))
        self.head = PrototypeHead(
            student.encoder.widths["features"], prototypes, hidden=hidden, bottleneck=bottleneck
        )
        self.teacher = copy.deepcopy(student.encoder).requires_grad_(False)
        self.teacher_head = copy.deepcopy(self.head).requires_grad_(False)
        self.register_buffer("center", torch.zeros(prototypes))
        self.register_buffer("temperature", torch.tensor(first))
        self._student_temperature = student_temperature
        self._temperatures, self._warmup = (first, teacher_temperature), warmup
        self._momentum, self._center_momentum = momentum, center_momentum
        self._frozen, self._weight_decay = frozen, weight_decay
        self._seen: Tensor | None = None

    def forward(self, batch: Batch, student: StudentOutputs, targets: Targets) -> dict[str, Tensor]:
        """Return ``self-distillation``, and what is watched."""
        images = len(batch)
        features = torch.cat([student[group].require("features") for group in self.needs.groups])
        embeddings, logits = self.head(features)
        with torch.no_grad():
            large = self.teacher(batch.inputs[GLOBAL], frozenset({"features"})).require("features")
            wanted = self.teacher_head(large)[1].unflatten(0, (-1, images))
        with full_precision(features):
            loss = self_distillation(
                logits.unflatten(0, (-1, images)),
                wanted,
                self.center,
                student_temperature=self._student_temperature,
                teacher_temperature=self.temperature,
            )
            self._seen = wanted.mean((0, 1))
            entropy = relative_entropy(wanted, self.center, self.temperature)
            return {
                "self-distillation": loss,
                "teacher_entropy": entropy,
                "divergence": loss.detach() - entropy * math.log(len(self.center)),
                "spread": spread(embeddings.detach().unflatten(0, (-1, images))),
            }

    def param_groups(self, learning_rate: float) -> list[dict[str, Any]]:
        """Return the head's matrices, and its biases, which are not decayed."""
        parameters = [*self.head.parameters()]
        return [
            {
                "params": [each for each in parameters if each.ndim > 1],
                "lr": learning_rate,
                "weight_decay": self._weight_decay,
            },
            {"params": [each for each in parameters if each.ndim <= 1], "lr": learning_rate, "weight_decay": 0.0},
        ]

    def before_step(self, progress: float) -> None:
        """Drop the gradient of prototypes that are frozen, so that not even the optimizer's state moves."""
        if progress < self._frozen:
            self.head.prototypes.grad = None

    @torch.no_grad()
    def after_step(self, model: nn.Module, progress: float) -> None:
        """Move the center towards what the teacher has said, and the teacher towards the student."""
        assert isinstance(model, Model)
        assert self._seen is not None
        self.center.lerp_(process_mean(self._seen), 1 - self._center_momentum)
        self.temperature.fill_(self._temperature_at(progress))
        follows: list[Tensor] = [*self.teacher.parameters(), *self.teacher_head.parameters()]
        leads: list[Tensor] = [*model.encoder.parameters(), *self.head.parameters()]
        torch._foreach_lerp_(follows, leads, 1 - cosine(self._momentum, 1.0, progress))

    def _temperature_at(self, progress: float) -> float:
        """Return the teacher's temperature for the step after a share of the training."""
        first, last = self._temperatures
        return first + (last - first) * min(1.0, progress / self._warmup) if self._warmup else last
