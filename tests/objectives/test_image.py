"""Contrast of image embeddings: the targets and projections, and memory banks step by step."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from rows import drawn
from torch import Tensor, nn

from tutelage.data.batch import Batch
from tutelage.errors import RunError
from tutelage.models.outputs import Outputs
from tutelage.objectives import BankContrast, Draw, ImageFeatures, info_nce
from tutelage.objectives import image as module

CLIP, DINO = {"features": 7, "embedding": 3}, {"features": 7}
"""Widths of a teacher with an embedding that is made to be compared, and of one without."""

SIZE, WIDTH = 5, 3


def given(outputs: Outputs, teacher: Outputs):
    batch = Batch({"view": torch.zeros(4, 3, 2, 2)}, {"view": 1}, torch.arange(4))
    return batch, {"view": outputs}, {"teacher": {"view": teacher}}


def test_an_embedding_made_to_be_compared_is_the_target_itself() -> None:
    objective = ImageFeatures(5, CLIP)
    student, teacher = torch.randn(4, 5), torch.randn(4, 3)
    found = objective(*given(Outputs(features=student), Outputs(embedding=teacher)))["image"]
    assert torch.equal(found, info_nce(objective.projector(student), teacher))


def test_without_an_embedding_both_sides_are_projected() -> None:
    objective = ImageFeatures(5, DINO, width=3)
    student, teacher = torch.randn(4, 5), torch.randn(4, 7)
    found = objective(*given(Outputs(features=student), Outputs(features=teacher)))["image"]
    assert torch.equal(found, info_nce(objective.projector(student), objective.teacher_projector(teacher)))


def shapes(objective: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(parameter.shape) for name, parameter in objective.named_parameters()}


@pytest.mark.parametrize("made", [ImageFeatures, lambda *widths: BankContrast(*widths, size=SIZE)])
def test_with_clip_the_student_alone_is_projected_to_the_embedding_s_width(made: Any) -> None:
    assert shapes(made(5, {"features": 1024, "embedding": 640})) == {
        "projector.weight": (640, 5),
        "projector.bias": (640,),
    }


@pytest.mark.parametrize("made", [ImageFeatures, lambda *widths: BankContrast(*widths, size=SIZE)])
def test_with_dinov2_both_are_projected_to_768(made: Any) -> None:
    assert shapes(made(5, {"features": 1024})) == {
        "projector.weight": (768, 5),
        "projector.bias": (768,),
        "teacher_projector.weight": (768, 1024),
        "teacher_projector.bias": (768,),
    }


# Memory banks.


class Slow:
    """Contrastive representation distillation by its definition, one number at a time, in Python's own floats."""

    def __init__(self, sides: tuple[str, ...], temperature: float, momentum: float, negatives: int) -> None:
        self.rows = {side: [[0.0] * WIDTH for _ in range(SIZE)] for side in sides}
        self.z: dict[str, float] = {}
        self.temperature, self.momentum, self.negatives = temperature, momentum, negatives

    def loss(self, own: list[int], embedded: Mapping[str, list[list[float]]], draw: Draw) -> float:
        total = 0.0
        for side, bank in self.rows.items():
            anchors = [unit(each) for each in embedded["student" if side == "teacher" else "teacher"]]
            positive, negative = [], []
            for place, (anchor, row) in enumerate(zip(anchors, own, strict=True)):
                met = bank[row] if any(bank[row]) else unit(embedded[side][place])
                positive.append(math.exp(dot(anchor, met) / self.temperature))
                for candidate, often in zip(draw.rows.tolist(), draw.counts[place].tolist(), strict=True):
                    score = math.exp(dot(anchor, bank[candidate]) / self.temperature)
                    negative += int(often) * [score]
            if side not in self.z:
                every = positive + negative
                self.z[side] = SIZE * sum(every) / len(every)
            noise, z = self.negatives / SIZE, self.z[side]
            total -= sum(math.log(each / z / (each / z + noise)) for each in positive) / len(own)
            total -= sum(math.log(1 - each / z / (each / z + noise)) for each in negative) / len(own)
        return total

    def update(self, own: list[int], embedded: Mapping[str, list[list[float]]]) -> None:
        for side, bank in self.rows.items():
            for row, newest in dict(zip(own, embedded[side], strict=True)).items():  # the last of each row
                moved = zip(bank[row], unit(newest), strict=True)
                bank[row] = unit([self.momentum * old + (1 - self.momentum) * new for old, new in moved])


def dot(one: list[float], other: list[float]) -> float:
    return sum(a * b for a, b in zip(one, other, strict=True))


def unit(values: list[float]) -> list[float]:
    length = math.sqrt(dot(values, values))
    return [value / length for value in values]


def batch_of(rows: list[int], view: int = 0) -> Batch:
    return Batch({}, {}, torch.tensor(rows), view=view)


BATCHES = ([0, 1], [2, 3], [4, 0], [1, 2], [3, 3], [3, 1])


def embedded(step: int) -> tuple[Tensor, Tensor]:
    """What both models make of a batch of two."""
    return drawn(2, WIDTH, seed=step), drawn(2, WIDTH, seed=100 + step)


def contrasted(objective: BankContrast, steps: range) -> list[float]:
    """Train on some batches; returns their losses."""
    losses = []
    for step in steps:
        loss = objective.contrast(batch_of(BATCHES[step], view=step), *embedded(step))
        objective.after_step(nn.Identity(), 0.0)
        losses.append(loss.item())
    return losses


def made(widths: Mapping[str, int] = DINO, **options: Any) -> BankContrast:
    """One that computes in float64."""
    return BankContrast(2, widths, size=SIZE, width=WIDTH, **{"temperature": 0.5, **options}).double()


def kept(objective: BankContrast) -> dict[str, Tensor]:
    return objective.get_extra_state()["rows"]


@pytest.mark.parametrize("widths", [CLIP, DINO])
@pytest.mark.parametrize(
    ("negatives", "draws"), [(16_384, "shared"), (2, "shared"), (4, "separate"), (3, "separate")]
)
def test_banks_are_those_of_the_slow_reference(
    monkeypatch: pytest.MonkeyPatch, widths: Mapping[str, int], negatives: int, draws: Any
) -> None:
    draw: list[Draw] = []
    real = module.draw_negatives
    monkeypatch.setattr(module, "draw_negatives", lambda *args, **how: draw.append(real(*args, **how)) or draw[-1])
    objective = made(widths, negatives=negatives, draws=draws, momentum=0.7)
    slow = Slow(("teacher",) if widths is CLIP else ("teacher", "student"), 0.5, 0.7, min(negatives, SIZE - 1))
    for step, own in enumerate(BATCHES):
        (found,) = contrasted(objective, range(step, step + 1))
        values = {side: each.tolist() for side, each in zip(("student", "teacher"), embedded(step), strict=True)}
        assert found == pytest.approx(slow.loss(own, values, draw[-1]), rel=1e-10)
        slow.update(own, values)
    assert kept(objective).keys() == slow.rows.keys()
    for side, rows in kept(objective).items():
        torch.testing.assert_close(rows, torch.tensor(slow.rows[side], dtype=torch.float64))


def test_the_normalizer_of_the_first_batch_stays() -> None:
    objective = made()
    contrasted(objective, range(1))
    first = {side: value.item() for side, value in objective.get_extra_state()["log_z"].items()}
    contrasted(objective, range(1, len(BATCHES)))
    assert {side: value.item() for side, value in objective.get_extra_state()["log_z"].items()} == first


def test_banks_are_constants_to_the_gradient() -> None:
    # The loss of embeddings that are looked up again and again, banks and normalizer fixed.
    objective = made()
    contrasted(objective, range(3))
    student, teacher = (each.requires_grad_() for each in embedded(7))
    assert torch.autograd.gradcheck(lambda *each: objective.contrast(batch_of([0, 3]), *each), (student, teacher))


def test_a_loss_that_is_looked_at_leaves_the_banks_alone() -> None:
    objective = made()
    contrasted(objective, range(3))
    before = {side: rows.clone() for side, rows in kept(objective).items()}
    objective.contrast(batch_of([0, 3]), *embedded(7))
    assert all(torch.equal(rows, before[side]) for side, rows in kept(objective).items())


@pytest.mark.parametrize("draws", ["shared", "separate"])
def test_negatives_are_those_of_the_seed_and_the_batch(draws: Any) -> None:
    def losses(seed: int, view: int) -> float:
        objective = made(negatives=1, draws=draws, seed=seed)
        contrasted(objective, range(3))
        return sum(
            objective.contrast(batch_of(rows, view), *embedded(7)).item() for rows in ([0, 1], [2, 3], [4, 1], [2, 0])
        )

    assert losses(0, 0) == losses(0, 0)
    assert len({losses(0, 0), losses(1, 0), losses(0, 1)}) == 3


def test_it_goes_on_from_its_state() -> None:
    whole, first, second = made(negatives=2), made(negatives=2), made(negatives=2)
    expected = contrasted(whole, range(6))
    contrasted(first, range(3))
    second.load_state_dict(first.state_dict())
    contrasted(first, range(3, 5))  # what goes on elsewhere does not reach it
    assert contrasted(second, range(3, 6)) == expected[3:]


@pytest.mark.parametrize("form", ["float32", "float16", "disk"])
def test_every_form_learns_alike(tmp_path: Path, form: Any) -> None:
    expected = contrasted(made(), range(6))
    found = contrasted(made(form=form, folder=tmp_path), range(6))
    assert found == pytest.approx(expected, rel=1e-2)
    assert (found == expected) == (form == "float32")  # of float64 here


def test_banks_on_disk_are_those_in_half_precision(tmp_path: Path) -> None:
    on_disk, in_memory = (made(form=form, folder=tmp_path, negatives=2) for form in ("disk", "float16"))
    assert contrasted(on_disk, range(6)) == contrasted(in_memory, range(6))


@pytest.mark.parametrize("form", ["float32", "float16", "disk"])
def test_what_is_left_after_a_checkpoint_goes_on_from_it(tmp_path: Path, form: Any) -> None:
    def new() -> BankContrast:
        return made(form=form, folder=tmp_path, negatives=2)

    expected = contrasted(made(form="float16" if form == "disk" else form, negatives=2), range(6))
    left = new()
    contrasted(left, range(2))
    state = {name: value.clone() for name, value in left.state_dict().items() if isinstance(value, Tensor)}
    state["_extra_state"] = copied(left.get_extra_state())
    left.after_checkpoint()
    contrasted(left, range(2, 5))
    again = new()
    again.load_state_dict(state)
    assert contrasted(again, range(2, 6)) == expected[2:]


def copied(state: Any) -> Any:
    if isinstance(state, dict):
        return {name: copied(value) for name, value in state.items()}
    return state.clone() if isinstance(state, Tensor) else state


def test_banks_of_another_form_are_refused(tmp_path: Path) -> None:
    first, second = made(form="float16"), made(form="disk", folder=tmp_path)
    contrasted(first, range(1))
    with pytest.raises(RunError, match=r"with its banks as float16, .* set distill\.contrast\.form=float16, or"):
        second.load_state_dict(first.state_dict())


def test_banks_are_not_sent_round_with_buffers() -> None:
    objective = made()
    contrasted(objective, range(1))
    assert not list(objective.buffers())


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"size": 1}, "a single sample has nothing to contrast with"),
        ({"negatives": 0}, "negatives must be 1 to 4"),
        ({"momentum": -0.1}, r"momentum must be in 0\.\.1"),
        ({"momentum": 1.0}, r"momentum must be in 0\.\.1"),
        ({"temperature": 0.0}, "temperature must be positive"),
        ({"form": "float64"}, "form must be"),
        ({"form": "disk"}, "'disk' with a folder"),
        ({"draws": "all"}, "draws must be"),
    ],
)
def test_banks_that_make_no_sense_are_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        BankContrast(2, DINO, **{"size": SIZE, **options})
