"""Every objective passes these the day it is added: it needs a row in ``MADE``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields

import numpy as np
import pytest
import torch
from tests.models.tiny_clips import RANDOM, tiny_clip
from torch import nn

from tutelage.data.batch import Batch
from tutelage.data.samples import Samples
from tutelage.models.model import Encoder, LinearHead, Model
from tutelage.models.outputs import Outputs
from tutelage.models.preprocess import ImagePreprocess
from tutelage.models.text_towers import build_text_tower
from tutelage.objectives import (
    OBJECTIVES,
    AdaptiveFeatures,
    AdaptiveProduct,
    AffinityMimicking,
    BankContrast,
    BTuning,
    Factor,
    Factors,
    FeatureRegression,
    ImageFeatures,
    ImageText,
    Logits,
    Objective,
    Patches,
    ProductRegression,
    Relations,
    SelfDistillation,
    Supervised,
    factors,
)
from tutelage.tasks import Classification


class Colors(Encoder):
    """Five numbers of an image's mean color."""

    def __init__(self) -> None:
        super().__init__("colors", ImagePreprocess(2), {"features": 5}, pretrained=False)
        self.linear = nn.Linear(3, 5)

    def encode(self, inputs, needs) -> Outputs:
        return Outputs(features=self.linear(inputs.mean((2, 3))))


def tiny_text() -> Encoder:
    tiny_clip()
    return build_text_tower(RANDOM)


FACTORS = [Factor("image_features", 5, {"one": 5}), Factor("text_features", 4, {"timm:other.two": 5})]

MADE: dict[str, Callable[[], Objective]] = {
    "supervised": lambda: Supervised(Classification(), label_smoothing=0.1),
    "logits": lambda: Logits(temperature=2.0),
    "patches": lambda: Patches(5, 5),
    "image": lambda: ImageFeatures(5, {"features": 5}, width=3),
    "crd": lambda: BankContrast(5, {"features": 5}, size=4, width=3),
    "self-distillation": lambda: SelfDistillation(Model(Colors(), LinearHead(5, 3)), 4, hidden=7, bottleneck=3),
    "image-text": lambda: ImageText(5, tiny_text()),
    "affinity": lambda: AffinityMimicking(5, tiny_text(), student_scale=None),
    "aft": lambda: AdaptiveFeatures(5, {"one": 5, "timm:other.two": 5}),
    "aft-product": lambda: AdaptiveProduct(FACTORS),
    "kd-product": lambda: ProductRegression(FACTORS, standardize=True),
    "kd": lambda: FeatureRegression(5, {"one": 5, "timm:other.two": 5}, standardize=True),
    "rkd": lambda: Relations(5, {"one": 5, "timm:other.two": 5}),
    "ft": lambda: Factors(5, {"one": 5, "timm:other.two": 5}),
    "b-tuning": lambda: BTuning(5, {"one": 5, "timm:other.two": 5}, classes=3),
}
OUTPUTS = {field.name for field in fields(Outputs)}
SIZES = {"logits": (4, 3), "features": (4, 5), "embedding": (4, 6), "patches": (4, 5, 2, 2)}
SIZES |= {"image_features": (4, 5), "text_features": (4, 4)}

objectives = pytest.mark.parametrize("name", sorted(OBJECTIVES))


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Autoencoders of four samples need not be good."""
    monkeypatch.setattr(factors, "EPOCHS", 3)


def outputs(names: frozenset[str], seed: int, *, grad: bool = False) -> Outputs:
    generator = torch.Generator().manual_seed(seed)
    return Outputs(**{name: torch.randn(SIZES[name], generator=generator).requires_grad_(grad) for name in names})


def example(objective: Objective):
    """Return a batch of four views with all that the objective asks for and nothing else."""
    needs = objective.needs
    targets = torch.tensor([0, 1, 2, 1]) if needs.labels else None
    groups = {group: torch.zeros(4, 3, 2, 2) for group in needs.groups}
    # Small crops beside large ones: two views of two images in each group.
    views = 2 if "local" in groups else 1
    batch = Batch(groups, dict.fromkeys(groups, views), torch.arange(4 // views), targets)
    student = {group: outputs(needs.student, 0, grad=True) for group in needs.groups}
    seen = needs.teacher_groups or needs.groups
    teachers = {
        teacher: {group: outputs(names, seed) for group in seen}
        for seed, (teacher, names) in enumerate((needs.teachers or {}).items(), start=1)
    }
    return batch, student, teachers


def prepared(name: str, *, seed: int = 0) -> Objective:
    """Return an objective that has seen the training samples: that batch."""
    torch.manual_seed(seed)
    objective = MADE[name]()
    batch, student, targets = example(objective)
    labels = np.array([0, 1, 2, 1]) if objective.needs.labels else None
    texts = ["red", "green", "blue", "none"]
    samples = Samples(("a", "b", "c", "d"), texts=texts, targets=labels, classes=("x", "y", "z"))
    fixed = {group: given.detach() for group, given in student.items()}
    objective.prepare(samples, iter([(batch, fixed, targets)]))
    return objective


def call(objective: Objective):
    """Return the losses of a batch of four, and the student's outputs that they were computed from."""
    batch, student, targets = example(objective)
    objective.inner_step(batch, {group: given.detach() for group, given in student.items()}, targets)
    return objective(batch, student, targets), student


def test_every_objective_is_here() -> None:
    assert MADE.keys() == OBJECTIVES.keys()


@objectives
def test_it_is_what_its_name_stands_for(name: str) -> None:
    assert type(MADE[name]()) is OBJECTIVES[name]


@objectives
def test_it_needs_outputs_that_exist(name: str) -> None:
    needs = MADE[name]().needs
    asked = needs.student.union(*(needs.teachers or {}).values())
    assert asked
    assert asked <= OUTPUTS


@objectives
def test_what_it_needs_is_enough_for_a_finite_loss(name: str) -> None:
    # The call gives no other output, teacher, group or label than it asks for.
    losses, _ = call(prepared(name))
    assert losses
    assert all(loss.ndim == 0 and loss.isfinite() for loss in losses.values())


@objectives
def test_its_gradient_reaches_every_output_of_the_student_that_it_needs(name: str) -> None:
    losses, student = call(prepared(name))
    sum(losses.values()).backward()
    for given in student.values():
        for each in (value for value in vars(given).values() if value is not None):
            assert each.grad is not None
            assert each.grad.abs().sum() > 0


@objectives
def test_its_groups_hold_each_of_its_parameters_once(name: str) -> None:
    objective = prepared(name)
    grouped = [id(parameter) for group in objective.param_groups(0.1) for parameter in group["params"]]
    trained = [id(parameter) for parameter in objective.parameters() if parameter.requires_grad]
    assert sorted(grouped) == sorted(trained)


@objectives
def test_its_groups_bring_their_learning_rate(name: str) -> None:
    assert all(group["lr"] > 0 for group in prepared(name).param_groups(0.1))


@objectives
def test_it_leaves_no_name_to_the_total_loss(name: str) -> None:
    assert "loss" not in call(prepared(name))[0]


@objectives
def test_preparing_leaves_the_random_numbers_of_training_alone(name: str) -> None:
    torch.manual_seed(0)
    MADE[name]()
    before = torch.get_rng_state()
    prepared(name)
    assert torch.equal(torch.get_rng_state(), before)


@objectives
def test_all_that_it_has_prepared_is_in_its_state(name: str) -> None:
    # One that was made and prepared otherwise loses the same once it has the other's state, as after a resume.
    first, second = prepared(name), prepared(name, seed=1)
    second.load_state_dict(first.state_dict())
    losses, again = (call(objective)[0] for objective in (first, second))
    assert {each: value.item() for each, value in losses.items()} == {
        each: value.item() for each, value in again.items()
    }
