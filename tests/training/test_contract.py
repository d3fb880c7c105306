"""No later capability needs a second loop: each of these drives the one there is."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_models import CLASSES, CROPS, WIDTH, StopAt, run, same, tiny_model, tiny_phase, tiny_samples
from torch import Tensor, nn
from torch.nn import functional as F

from tutelage.data.batch import Batch
from tutelage.data.loader import Loader, ViewGroup
from tutelage.data.samples import Samples
from tutelage.models.model import Encoder, Head, LinearHead, Model
from tutelage.models.outputs import Outputs
from tutelage.objectives import Logits, Needs, Objective, Supervised
from tutelage.tasks import Classification
from tutelage.training.phase import LiveTeacher
from tutelage.views import ViewPolicy

AS_IS = {"view": ViewGroup(ViewPolicy(), 8)}


def resumed(tmp_path: Path, make, *, stop: int = 4):
    """Interrupt what ``make`` gives (a phase and a model), and train a second one from the checkpoint."""
    path = tmp_path / "state.checkpoint"
    with pytest.raises(KeyboardInterrupt):
        run(*make(), progress=StopAt(stop), checkpoint=path, every=0)
    phase, model = make()
    run(phase, model, checkpoint=path, every=0)
    return phase, model


# A dense task: logits [B, C, h, w].


class DenseHead(Head):
    reads = "patches"

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(WIDTH, CLASSES, 1)

    def forward(self, patches: Tensor) -> Tensor:
        return self.conv(patches)


class Segmentation(Classification):
    name = "segmentation"

    def loss(self, logits: Tensor, targets: Tensor, *, label_smoothing=0.0, valid=None) -> Tensor:
        losses = F.cross_entropy(logits, targets, label_smoothing=label_smoothing, reduction="none")
        return losses.mean() if valid is None else losses[valid].mean()


class MaskedLoader(Loader):
    """Marks the left half of every image as valid."""

    def epoch(self, number: int, *, start: int = 0) -> Iterator[Batch]:
        for batch in super().epoch(number, start=start):
            valid = torch.zeros(len(batch), 4, 4, dtype=torch.bool)
            valid[:, :, :2] = True
            yield Batch(batch.inputs, batch.counts, batch.indices, batch.targets, valid)


def masks() -> Samples:
    """Each pixel's class is its brightest channel, at half the resolution."""
    samples = tiny_samples(16)
    small = np.stack([np.asarray(image, np.float32).reshape(4, 2, 4, 2, 3).mean((1, 3)) for image in samples.images])
    return Samples(samples.ids, samples.images, targets=small.argmax(-1), classes=samples.classes)


def test_a_dense_task_learns_from_masks() -> None:
    phase = tiny_phase({"supervised": Supervised(Segmentation())}, samples=masks(), groups=AS_IS, steps=60)
    history = run(phase, tiny_model(head=DenseHead())).history
    assert history[-1]["loss"] < 0.75 * history[0]["loss"]


class LoudOutside:
    """A dense teacher that is right inside the mask, and sure of anything outside."""

    def __init__(self, loud: float) -> None:
        self.loud = loud

    def __call__(self, batch, groups, needs):
        generator = torch.Generator().manual_seed(0)
        logits = torch.randn(len(batch), CLASSES, 4, 4, generator=generator)
        logits[:, 0, :, 2:] = self.loud
        return {group: Outputs(logits=logits) for group in groups}


def test_a_dense_student_does_not_hear_its_teacher_outside_the_mask() -> None:
    def student(loud: float) -> dict[str, Tensor]:
        loader = MaskedLoader(tiny_samples(), AS_IS, batch_size=4, seed=0)
        phase = tiny_phase({"logits": Logits()}, loader=loader, teachers={"teacher": LoudOutside(loud)})
        return run(phase, tiny_model(head=DenseHead())).raw

    assert same(student(0.0), student(50.0))


# Text.


class ToyTokenizer:
    """Letters to numbers; 0 pads."""

    def __call__(self, texts: list[str]) -> dict[str, Tensor]:
        length = max(len(text) for text in texts)
        ids = torch.tensor([[ord(letter) - 96 for letter in text] + [0] * (length - len(text)) for text in texts])
        return {"input_ids": ids, "attention_mask": (ids > 0).long()}


class TextEncoder(Encoder):
    def __init__(self) -> None:
        tokenizer: Any = ToyTokenizer()
        super().__init__("toy", tokenizer, {"features": WIDTH}, pretrained=False)
        self.embedding = nn.Embedding(27, WIDTH)

    def encode(self, inputs: Any, needs: Any) -> Outputs:
        mask = inputs["attention_mask"].unsqueeze(-1)
        return Outputs(features=(self.embedding(inputs["input_ids"]) * mask).sum(1) / mask.sum(1))


def test_texts_train_a_text_encoder() -> None:
    texts = ["aab", "ab", "aaba", "ccd", "cd", "cdcd", "eef", "fe", "feef"]
    samples = Samples(tuple(texts), texts=texts, targets=np.arange(9) // 3, classes=("a", "c", "e"))
    torch.manual_seed(0)
    model = Model(TextEncoder(), LinearHead(WIDTH, 3))
    run(tiny_phase(samples=samples, groups=AS_IS, steps=60), model)
    assert model.eval()(texts).logits.argmax(1).tolist() == samples.targets.tolist()


# Self-distillation with many crops: two view groups, a momentum teacher, a center (DINO, arXiv:2104.14294).


class SelfDistillation(Objective):
    needs = Needs(
        student=frozenset({"logits"}),
        teachers={"momentum": frozenset({"logits"})},
        groups=("global", "local"),
        teacher_groups=("global",),
    )

    def __init__(self, student: Model, momentum: float = 0.8) -> None:
        super().__init__()
        self.teacher = copy.deepcopy(student).requires_grad_(False)
        self.momentum = momentum
        self.register_buffer("center", torch.zeros(CLASSES))
        self.pairs: list[int] = []

    def see(self, batch: Batch, groups: Any, needs: Any) -> dict[str, Outputs]:
        with torch.no_grad():
            return {group: self.teacher(batch.inputs[group], needs) for group in groups}

    def forward(self, batch, student, targets) -> dict[str, Tensor]:
        seen = torch.cat([student[group].require("logits") for group in self.needs.groups]).split(len(batch))
        wanted = targets["momentum"]["global"].require("logits")
        self.batch_center = wanted.mean(0)
        shares = ((wanted - self.center) / 0.04).softmax(1).split(len(batch))
        losses = [
            -(share * (logits / 0.1).log_softmax(1)).sum(1).mean()
            for number, share in enumerate(shares)
            for other, logits in enumerate(seen)
            if number != other
        ]
        self.pairs.append(len(losses))
        return {"self_distillation": torch.stack(losses).mean()}

    @torch.no_grad()
    def after_step(self, model: nn.Module, progress: float) -> None:
        self.center.lerp_(self.batch_center, 0.1)
        for mine, theirs in zip(self.teacher.parameters(), model.parameters(), strict=True):
            mine.lerp_(theirs, 1 - self.momentum)


def self_distillation(**schedule: Any):
    model = tiny_model()
    nn.init.normal_(model.head.linear.weight)
    objective = SelfDistillation(model)
    groups = {"global": ViewGroup(CROPS, 8, count=2), "local": ViewGroup(CROPS, 4, count=8)}
    phase = tiny_phase(
        {"dino": objective},
        samples=tiny_samples(labeled=False),
        groups=groups,
        teachers={"momentum": objective.see},
        **schedule,
    )
    return phase, model


def test_every_student_view_meets_every_teacher_view_but_itself() -> None:
    phase, model = self_distillation()
    run(phase, model)
    assert phase.objectives["dino"][0].pairs == [2 * 10 - 2] * 6


def test_a_momentum_teacher_follows_the_student() -> None:
    phase, model = self_distillation(steps=1)
    start = model.encoder.conv.weight.detach().clone()
    run(phase, model)
    followed = phase.objectives["dino"][0].teacher.encoder.conv.weight
    torch.testing.assert_close(followed, 0.8 * start + 0.2 * model.encoder.conv.weight.detach())


def test_a_momentum_teacher_sees_its_own_batch_statistics() -> None:
    phase, model = self_distillation(steps=1)
    run(phase, model)
    assert phase.objectives["dino"][0].teacher.encoder.norm.num_batches_tracked == 1


def test_self_distillation_resumes_with_its_student_teacher_and_center(tmp_path: Path) -> None:
    phase, model = self_distillation()
    run(phase, model)
    again, other = resumed(tmp_path, self_distillation)
    assert same(model.state_dict(), other.state_dict())
    assert same(phase.objectives["dino"][0].state_dict(), again.objectives["dino"][0].state_dict())


# A memory bank: a row a sample, made before the first step.


class MemoryBank(Objective):
    needs = Needs(student=frozenset({"features"}), teachers={"teacher": frozenset({"features"})})

    def prepare(self, samples, examples) -> None:
        self.register_buffer("bank", torch.zeros(len(samples), WIDTH))
        for batch, _, targets in examples:
            self.bank[batch.indices] = targets["teacher"]["view"].require("features")

    def forward(self, batch, student, targets) -> dict[str, Tensor]:
        features = student["view"].require("features")
        loss = F.cross_entropy(F.normalize(features) @ F.normalize(self.bank).T / 0.1, batch.indices)
        self.bank[batch.indices] = self.bank[batch.indices].lerp(features.detach(), 0.5)
        return {"bank": loss}


def with_bank(steps: int = 6):
    teacher = LiveTeacher(tiny_model(seed=7))
    samples = tiny_samples(labeled=False)
    return tiny_phase(
        {"bank": MemoryBank()}, samples=samples, teachers={"teacher": teacher}, steps=steps
    ), tiny_model()


def test_a_memory_bank_has_every_sample_before_the_first_step() -> None:
    phase, model = with_bank()
    objective = phase.objectives["bank"][0]
    objective.register_forward_pre_hook(lambda module, _: seen.append(module.bank.abs().sum(1).clone()))
    seen: list[Tensor] = []
    run(phase, model)
    assert seen[0].shape == (12,)
    assert (seen[0] > 0).all()


def test_a_memory_bank_resumes_as_it_was(tmp_path: Path) -> None:
    phase, model = with_bank()
    run(phase, model)
    again, other = resumed(tmp_path, with_bank)
    assert torch.equal(phase.objectives["bank"][0].bank, again.objectives["bank"][0].bank)
    assert same(model.state_dict(), other.state_dict())


# Bi-level: the objective learns in steps of its own, in which the student is fixed.


class BiLevel(Objective):
    """Weights of the features, fitted to the labels in five steps before each of the student's."""

    needs = Needs(student=frozenset({"features", "logits"}), labels=True)

    def __init__(self, weight: float) -> None:
        super().__init__()
        self.scores = nn.Parameter(torch.zeros(WIDTH, CLASSES))
        self.weight = weight
        self.inner: list[list[float]] = []

    def param_groups(self, learning_rate: float) -> list[dict[str, Any]]:
        return []

    def inner_step(self, batch, student, targets) -> None:
        self.inner.append([])
        features = student["view"].require("features")
        assert not features.requires_grad
        for _ in range(5):
            loss = F.cross_entropy(features @ self.scores, batch.targets)
            (gradient,) = torch.autograd.grad(loss, self.scores)
            with torch.no_grad():
                self.scores -= 0.5 * gradient
            self.inner[-1].append(float(loss.detach()))

    def forward(self, batch, student, targets) -> dict[str, Tensor]:
        given = student["view"]
        wanted = (given.require("features") @ self.scores.detach()).softmax(1)
        return {"bi-level": self.weight * F.cross_entropy(given.require("logits"), wanted)}


def bi_level(weight: float = 1.0):
    return tiny_phase({"bi-level": BiLevel(weight)}, weight_decay=0.0), tiny_model()


def test_inner_steps_leave_the_student_fixed() -> None:
    # With no loss of its own, the student stays where it was, whatever the inner steps do.
    phase, model = bi_level(weight=0.0)
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    run(phase, model)
    assert same(dict(model.named_parameters()), before)


def test_inner_steps_learn() -> None:
    phase, model = bi_level(weight=0.0)
    run(phase, model)
    inner = phase.objectives["bi-level"][0].inner
    assert [len(losses) for losses in inner] == [5] * 6
    assert all(losses[-1] < losses[0] for losses in inner)


def test_the_student_learns_from_what_inner_steps_found() -> None:
    phase, model = bi_level()
    run(phase, model)
    assert model.head.linear.weight.abs().max() > 0


def test_inner_steps_resume_where_they_were(tmp_path: Path) -> None:
    phase, model = bi_level()
    run(phase, model)
    again, other = resumed(tmp_path, bi_level)
    assert torch.equal(phase.objectives["bi-level"][0].scores, again.objectives["bi-level"][0].scores)
    assert same(model.state_dict(), other.state_dict())
