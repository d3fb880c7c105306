from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from tiny_models import CROPS, StopAt, run, same, tiny_model, tiny_phase, tiny_samples
from torch import Tensor

from tutelage.data.loader import Loader, ViewGroup
from tutelage.models.outputs import Outputs
from tutelage.objectives import Needs, Objective

FEATURES = frozenset({"features"})


class Looks(Objective):
    """Does with the examples what it is told to, and learns nothing of them."""

    needs = Needs(student=FEATURES | {"logits"}, teachers={"teacher": FEATURES})

    def __init__(self, look: Callable[[Any], Any]) -> None:
        super().__init__()
        self.look = look

    def prepare(self, samples, examples) -> None:
        self.look(examples)

    def forward(self, batch, student, targets) -> dict[str, Tensor]:
        wanted = targets["teacher"]["view"].require("features")
        return {"looks": (student["view"].require("logits").mean(1) - wanted[:, 0]).square().mean()}


class Teacher:
    """Says a number of each image, and counts how often it was asked."""

    def __init__(self) -> None:
        self.asked = 0

    def __call__(self, batch, groups, needs):
        self.asked += 1
        return {group: Outputs(features=batch.indices[:, None].float()) for group in groups}


def looked(look: Callable[[Any], Any], model=None, *, teacher: Teacher | None = None, **options) -> None:
    """Let an objective look at the examples, and stop after the first step."""
    phase = tiny_phase({"looks": Looks(look)}, teachers={"teacher": teacher or Teacher()}, **options)
    with pytest.raises(KeyboardInterrupt):
        run(phase, model or tiny_model(), progress=StopAt(1))


def test_every_sample_is_shown_once_with_its_targets() -> None:
    # 12 is no multiple of 5: training leaves two out in every epoch.
    rows, targets = [], []

    def look(examples) -> None:
        for batch, _, wanted in examples:
            rows.extend(batch.indices.tolist())
            targets.extend(wanted["teacher"]["view"].require("features")[:, 0].tolist())

    looked(look, batch_size=5)
    assert sorted(rows) == list(range(12))
    assert targets == rows


def test_every_process_is_shown_every_sample() -> None:
    groups = {"view": ViewGroup(CROPS, 8)}
    loader = Loader(tiny_samples(), groups, batch_size=4, seed=0, rank=1, world=2)
    rows: list[int] = []
    looked(
        lambda examples: rows.extend(row for batch, _, _ in examples for row in batch.indices.tolist()), loader=loader
    )
    assert sorted(rows) == list(range(12))


def test_the_student_is_shown_as_it_is_when_it_predicts() -> None:
    model = tiny_model(dropout=0.5)
    found: list[tuple[Tensor, Tensor]] = []

    def look(examples) -> None:
        found.extend((batch.inputs["view"], student["view"].require("features")) for batch, student, _ in examples)

    reference = tiny_model(dropout=0.5).eval()
    looked(look, model)
    for inputs, features in found:
        assert not features.requires_grad
        torch.testing.assert_close(features, reference(inputs, FEATURES).require("features").detach())


def test_looking_at_the_student_leaves_its_batch_statistics() -> None:
    model = tiny_model()
    before = {name: value.clone() for name, value in model.named_buffers()}
    after: dict[str, Tensor] = {}

    def look(examples) -> None:
        for _, student, _ in examples:
            student["view"]
        after.update({name: value.clone() for name, value in model.named_buffers()})

    looked(look, model)
    assert same(before, after)


@pytest.mark.parametrize("options", [{}, {"statistics": "kept"}, {"trained": "head"}])
def test_looking_at_the_student_leaves_the_mode_of_all_its_modules(options) -> None:
    model = tiny_model()
    modes: list[list[bool]] = []

    def look(examples) -> None:
        modes.append([module.training for module in model.modules()])
        for _, student, _ in examples:
            student["view"]
        modes.append([module.training for module in model.modules()])

    looked(look, model, **options)
    assert modes[0] == modes[1]


def test_looking_does_not_change_the_training() -> None:
    def all_of_it(examples) -> None:
        for _, student, _ in examples:
            student["view"]

    looking, blind = (
        run(tiny_phase({"looks": Looks(look)}, teachers={"teacher": Teacher()}), tiny_model(dropout=0.3)).raw
        for look in (all_of_it, lambda examples: None)
    )
    assert same(looking, blind)


def test_nothing_is_computed_for_an_objective_that_does_not_look() -> None:
    teacher = Teacher()
    looked(lambda examples: None, teacher=teacher)
    assert teacher.asked == 1  # by the step


def test_the_student_does_not_run_for_an_objective_that_looks_at_targets_alone() -> None:
    model, ran = tiny_model(), []
    model.register_forward_hook(lambda *_: ran.append(model.training))
    looked(lambda examples: [targets for _, _, targets in examples], model)
    assert ran == [True]  # in the step


def test_the_student_runs_once_for_a_view_group_that_is_looked_up_twice() -> None:
    model, ran = tiny_model(), []
    model.register_forward_hook(lambda *_: ran.append(model.training))
    looked(lambda examples: [(student["view"], student["view"]) for _, student, _ in examples], model)
    assert ran == [False] * 3 + [True]


def test_the_view_groups_that_the_objectives_see_are_all_there() -> None:
    found: list[list[str]] = []
    looked(lambda examples: found.extend(list(student) for _, student, _ in examples))
    assert found == [["view"]] * 3
