from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from tests.training.tiny_models import WIDTH, tiny_model
from torch import Tensor

from tutelage.data.batch import Batch
from tutelage.models.model import Model
from tutelage.models.outputs import Outputs
from tutelage.objectives import SelfDistillation, self_distillation
from tutelage.objectives.self_distillation import PrototypeHead

IMAGES, PROTOTYPES = 3, 5


def drawn(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def softmax(values: list[float], temperature: float) -> list[float]:
    powers = [math.exp(value / temperature) for value in values]
    return [power / sum(powers) for power in powers]


def slow(student: Tensor, teacher: Tensor, center: Tensor, student_temperature: float, teacher_temperature: float):
    """One image and one pair of views at a time, every pair of the same view left out."""
    found = []
    for g in range(len(teacher)):
        for v in range(len(student)):
            if v == g:
                continue
            for image in range(teacher.shape[1]):
                p = softmax((teacher[g, image] - center).tolist(), teacher_temperature)
                q = softmax(student[v, image].tolist(), student_temperature)
                found.append(-sum(a * math.log(b) for a, b in zip(p, q, strict=True)))
    return sum(found) / len(found)


@pytest.mark.parametrize(("views", "seen"), [(2, 2), (2, 1), (10, 2), (4, 3)])
@pytest.mark.parametrize("temperatures", [(0.1, 0.04), (1.0, 0.5)])
def test_the_loss_is_that_of_the_slow_reference(views: int, seen: int, temperatures: tuple[float, float]) -> None:
    student, teacher = drawn(views, IMAGES, PROTOTYPES, seed=0), drawn(seen, IMAGES, PROTOTYPES, seed=1)
    center = drawn(PROTOTYPES, seed=2)
    found = self_distillation(
        student, teacher, center, student_temperature=temperatures[0], teacher_temperature=temperatures[1]
    )
    assert found.item() == pytest.approx(slow(student, teacher, center, *temperatures), rel=1e-9)


def test_an_example_by_hand() -> None:
    # Two views of one image, the first of which the teacher sees. Of two prototypes it says 4/5 and 1/5 once its
    # center is taken off; the student says 3/4 and 1/4 of its second view. What it says of the first does not count.
    student = torch.tensor([[[7.0, -7.0]], [[0.1 * math.log(3), 0.0]]], dtype=torch.float64)
    teacher = torch.tensor([[[0.04 * math.log(4) + 0.3, -0.2]]], dtype=torch.float64)
    center = torch.tensor([0.3, -0.2], dtype=torch.float64)
    expected = -(0.8 * math.log(3 / 4) + 0.2 * math.log(1 / 4))
    assert self_distillation(student, teacher, center).item() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("view", range(4))
def test_a_view_learns_from_every_view_of_the_teacher_but_itself(view: int) -> None:
    student = drawn(4, IMAGES, PROTOTYPES, seed=0).requires_grad_()
    center = drawn(PROTOTYPES, seed=2)

    def gradient(teacher: Tensor) -> Tensor:
        (found,) = torch.autograd.grad(self_distillation(student, teacher, center), student)
        return found[view]

    teacher = drawn(2, IMAGES, PROTOTYPES, seed=1)
    heard = []
    for other in range(2):
        changed = teacher.clone()
        changed[other] = drawn(IMAGES, PROTOTYPES, seed=3)
        heard.append(not torch.allclose(gradient(changed), gradient(teacher)))
    assert heard == [other != view for other in range(2)]


def test_no_gradient_reaches_the_teacher() -> None:
    student = drawn(2, IMAGES, PROTOTYPES, seed=0).requires_grad_()
    teacher = drawn(2, IMAGES, PROTOTYPES, seed=1).requires_grad_()
    self_distillation(student, teacher, drawn(PROTOTYPES, seed=2)).backward()
    assert teacher.grad is None


def test_a_temperature_may_be_a_tensor() -> None:
    given = drawn(2, IMAGES, PROTOTYPES, seed=0), drawn(2, IMAGES, PROTOTYPES, seed=1), drawn(PROTOTYPES, seed=2)
    found = self_distillation(*given, teacher_temperature=torch.tensor(0.5, dtype=torch.float64))
    assert found.item() == pytest.approx(self_distillation(*given, teacher_temperature=0.5).item())


@pytest.mark.parametrize(
    ("student", "teacher", "center", "said"),
    [
        ((4, 3), (2, 4, 3), (3,), r"\[V, B, K\]"),
        ((2, 4, 3), (2, 4, 2), (3,), r"\[V, B, K\]"),
        ((2, 4, 3), (2, 5, 3), (3,), r"\[V, B, K\]"),
        ((2, 4, 3), (2, 4, 3), (2,), r"the center \[K\]"),
        ((2, 4, 3), (2, 4, 3), (4, 3), r"the center \[K\]"),
        ((2, 4, 3), (3, 4, 3), (3,), "2 views and the teacher 3"),
        ((1, 4, 3), (1, 4, 3), (3,), "two or more"),
        ((2, 4, 3), (0, 4, 3), (3,), "the teacher 0"),
    ],
)
def test_shapes_that_do_not_belong_together_are_refused(student, teacher, center, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        self_distillation(drawn(*student, seed=0), drawn(*teacher, seed=1), drawn(*center, seed=2))


@pytest.mark.parametrize("name", ["student_temperature", "teacher_temperature"])
def test_temperatures_are_positive(name: str) -> None:
    given = drawn(2, 4, 3, seed=0), drawn(2, 4, 3, seed=1), drawn(3, seed=2)
    with pytest.raises(ValueError, match="temperatures must be positive"):
        self_distillation(*given, **{name: 0.0})


# The head.


def head(seed: int = 0) -> PrototypeHead:
    torch.manual_seed(seed)
    return PrototypeHead(WIDTH, PROTOTYPES, hidden=7, bottleneck=4).double()


def gelu(value: float) -> float:
    return value * 0.5 * (1 + math.erf(value / math.sqrt(2)))


def slow_head(made: PrototypeHead, features: list[float]) -> tuple[list[float], list[float]]:
    """One number at a time."""
    first, _, second, _, third = made.projector
    values = features
    for layer, activated in ((first, True), (second, True), (third, False)):
        values = [
            sum(w * x for w, x in zip(row, values, strict=True)) + bias
            for row, bias in zip(layer.weight.tolist(), layer.bias.tolist(), strict=True)
        ]
        values = [gelu(value) for value in values] if activated else values
    length = math.sqrt(sum(value * value for value in values))
    embedding = [value / length for value in values]
    logits = []
    for prototype in made.prototypes.tolist():
        norm = math.sqrt(sum(value * value for value in prototype))
        logits.append(sum(a * b for a, b in zip(embedding, prototype, strict=True)) / norm)
    return embedding, logits


def test_the_head_is_three_layers_then_cosines() -> None:
    made, features = head(), drawn(IMAGES, WIDTH, seed=0)
    embeddings, logits = made(features)
    for row in range(IMAGES):
        expected = slow_head(made, features[row].tolist())
        assert embeddings[row].tolist() == pytest.approx(expected[0], rel=1e-9)
        assert logits[row].tolist() == pytest.approx(expected[1], rel=1e-9)


def test_the_length_of_a_prototype_means_nothing() -> None:
    made, features = head(), drawn(IMAGES, WIDTH, seed=0)
    before = made(features)[1]
    with torch.no_grad():
        made.prototypes.mul_(torch.tensor([3.0, 0.1, 5.0, 1.0, 40.0])[:, None])
    torch.testing.assert_close(made(features)[1], before)


# The objective.


def made(**how: Any) -> tuple[SelfDistillation, Model]:
    torch.manual_seed(0)
    student = tiny_model().double()
    objective = SelfDistillation(student, PROTOTYPES, hidden=7, bottleneck=4, **how).double()
    return objective.train(), student.train()


def batch(*, local: int = 3) -> Batch:
    inputs = {
        "global": drawn(2 * IMAGES, 3, 8, 8, seed=0).sigmoid(),
        "local": drawn(local * IMAGES, 3, 4, 4, seed=1).sigmoid(),
    }
    return Batch(inputs, {"global": 2, "local": local}, torch.arange(IMAGES))


def stepped(objective: SelfDistillation, student: Model, given: Batch | None = None) -> dict[str, Tensor]:
    """Return the losses of a batch, as the loop has them computed."""
    given = batch() if given is None else given
    needs = objective.needs
    outputs = {group: student(given.inputs[group], needs.student) for group in needs.groups}
    return objective(given, outputs, {})


def moved(student: Model) -> None:
    """Change the student as a step of the optimizer does."""
    with torch.no_grad():
        for parameter in student.parameters():
            parameter.add_(0.1)


def test_the_loss_is_that_of_the_definition() -> None:
    objective, student = made()
    objective.center.copy_(drawn(PROTOTYPES, seed=5))
    given = batch()
    found = stepped(objective, student, given)["self-distillation"]
    views = [student(given.inputs[group], {"features"}).features.split(IMAGES) for group in ("global", "local")]
    said = torch.stack([objective.head(view)[1] for group in views for view in group])
    large = objective.teacher(given.inputs["global"], {"features"}).features.split(IMAGES)
    wanted = torch.stack([objective.teacher_head(view)[1] for view in large])
    temperature = objective.temperature.item()  # 0.04, as float32 holds it
    assert said.shape[0] == 5
    assert found.item() == pytest.approx(slow(said, wanted, objective.center, 0.1, temperature), rel=1e-9)


def test_without_small_crops_two_large_ones_learn_from_each_other() -> None:
    objective, student = made(local=False)
    assert objective.needs.groups == ("global",)
    assert stepped(objective, student)["self-distillation"].isfinite()


def test_the_teacher_starts_as_the_student() -> None:
    objective, student = made()
    pairs = [(objective.teacher, student.encoder), (objective.teacher_head, objective.head)]
    for teacher, learner in pairs:
        for one, other in zip(teacher.parameters(), learner.parameters(), strict=True):
            assert torch.equal(one, other)
            assert not one.requires_grad


@pytest.mark.parametrize(
    ("progress", "kept"),
    [(0.0, 0.9), (0.25, 1 - 0.1 * (1 + math.cos(math.pi / 4)) / 2), (0.5, 0.95), (1.0, 1.0)],
)
def test_the_teacher_follows_ever_more_slowly_along_a_cosine(progress: float, kept: float) -> None:
    objective, student = made(momentum=0.9)
    stepped(objective, student)
    before = [parameter.clone() for parameter in objective.teacher.parameters()]
    moved(student)
    objective.after_step(student, progress)
    for old, new, learner in zip(before, objective.teacher.parameters(), student.encoder.parameters(), strict=True):
        torch.testing.assert_close(new, kept * old + (1 - kept) * learner)


def test_the_head_of_the_teacher_follows_too() -> None:
    objective, student = made(momentum=0.5)
    stepped(objective, student)
    before = objective.teacher_head.prototypes.clone()
    with torch.no_grad():
        objective.head.prototypes.add_(1.0)
    objective.after_step(student, 0.0)
    torch.testing.assert_close(objective.teacher_head.prototypes, before + 0.5)


def test_the_teacher_follows_parameters_alone() -> None:
    # Its BatchNorm has seen its own batches: of large crops, once a step, where the student has seen two groups.
    objective, student = made(momentum=0.0)
    stepped(objective, student)
    objective.after_step(student, 0.0)
    teacher, learner = objective.teacher.norm, student.encoder.norm
    assert (teacher.num_batches_tracked, learner.num_batches_tracked) == (1, 2)
    assert not torch.equal(teacher.running_mean, learner.running_mean)


def test_the_teacher_normalizes_by_its_batch() -> None:
    objective, student = made()
    objective.teacher.norm.running_mean.fill_(100.0)
    again, other = made()
    assert stepped(objective, student)["self-distillation"] == stepped(again, other)["self-distillation"]


def test_the_center_moves_after_the_loss() -> None:
    objective, student = made(center_momentum=0.75)
    objective.center.fill_(2.0)
    stepped(objective, student)
    assert torch.equal(objective.center, torch.full_like(objective.center, 2.0))
    objective.after_step(student, 0.0)
    large = objective.teacher(batch().inputs["global"], {"features"}).features
    mean = objective.teacher_head(large)[1].mean(0)
    torch.testing.assert_close(objective.center, 0.75 * 2.0 + 0.25 * mean)


@pytest.mark.parametrize(("progress", "temperature"), [(0.0, 0.02), (0.1, 0.03), (0.2, 0.04), (0.9, 0.04)])
def test_the_temperature_warms_up(progress: float, temperature: float) -> None:
    objective, student = made(warmup_temperature=0.02, warmup=0.2)
    assert objective.temperature.item() == pytest.approx(0.02)
    stepped(objective, student)
    objective.after_step(student, progress)
    assert objective.temperature.item() == pytest.approx(temperature)


def test_a_temperature_that_does_not_warm_up_is_the_last_one() -> None:
    assert made(warmup_temperature=0.02)[0].temperature.item() == pytest.approx(0.04)


@pytest.mark.parametrize(("progress", "frozen"), [(0.0, True), (0.24, True), (0.25, False), (1.0, False)])
def test_prototypes_are_frozen_at_first(progress: float, frozen: bool) -> None:
    objective, student = made(frozen=0.25)
    stepped(objective, student)["self-distillation"].backward()
    objective.before_step(progress)
    assert (objective.head.prototypes.grad is None) == frozen
    assert objective.head.projector[0].weight.grad is not None


def test_matrices_of_the_head_decay_and_biases_do_not() -> None:
    matrices, biases = made(weight_decay=0.04)[0].param_groups(0.1)
    assert {parameter.ndim for parameter in matrices["params"]} == {2}
    assert {parameter.ndim for parameter in biases["params"]} == {1}
    assert (matrices["weight_decay"], biases["weight_decay"]) == (0.04, 0.0)


def test_what_is_watched_is_not_minimized() -> None:
    objective, student = made()
    found = stepped(objective, student)
    assert found.keys() - objective.watched == {"self-distillation"}
    assert not any(found[name].requires_grad for name in objective.watched)


def test_the_loss_is_the_teachers_entropy_and_what_the_student_is_from_it() -> None:
    objective, student = made()
    found = stepped(objective, student)
    entropy = found["teacher_entropy"] * math.log(PROTOTYPES)
    assert found["divergence"].item() > 0
    assert (entropy + found["divergence"]).item() == pytest.approx(found["self-distillation"].item())


def test_the_spread_is_over_images_and_not_over_views() -> None:
    # Two images, each the same in all of its views.
    objective, _ = made()
    features = drawn(2, WIDTH, seed=4)
    given = Batch({"global": drawn(4, 3, 8, 8, seed=0)}, {"global": 2, "local": 3}, torch.arange(2))
    outputs = {"global": Outputs(features=features.repeat(2, 1)), "local": Outputs(features=features.repeat(3, 1))}
    one, other = objective.head(features)[0]
    found = objective(given, outputs, {})["spread"].item()
    assert found == pytest.approx(((one - other).norm() / 2).item())


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"prototypes": 1}, "two prototypes"),
        ({"student_temperature": 0.0}, "temperatures"),
        ({"teacher_temperature": -0.1}, "temperatures"),
        ({"warmup_temperature": 0.0, "warmup": 0.5}, "temperatures"),
        ({"momentum": 1.5}, r"in 0\.\.1"),
        ({"center_momentum": -0.1}, r"in 0\.\.1"),
        ({"frozen": 2.0}, r"in 0\.\.1"),
    ],
)
def test_what_makes_no_sense_is_refused(how: dict[str, float], said: str) -> None:
    settings: dict[str, Any] = {"prototypes": PROTOTYPES, **how}
    with pytest.raises(ValueError, match=said):
        SelfDistillation(tiny_model(), **settings)
