from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from tutelage.data.batch import Batch
from tutelage.models.outputs import Outputs
from tutelage.objectives import ImageFeatures, Patches, info_nce, patch_distance


def drawn(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def cosine(one: list[float], other: list[float]) -> float:
    dot = sum(a * b for a, b in zip(one, other, strict=True))
    return dot / math.sqrt(sum(a * a for a in one)) / math.sqrt(sum(b * b for b in other))


def slow_patch_distance(student: torch.Tensor, teacher: torch.Tensor) -> float:
    """One patch at a time."""
    found = []
    for image in range(student.shape[0]):
        for row in range(student.shape[2]):
            for column in range(student.shape[3]):
                one, other = student[image, :, row, column], teacher[image, :, row, column]
                found.append(1 - cosine(one.tolist(), other.tolist()))
    return sum(found) / len(found)


def slow_info_nce(student: torch.Tensor, teacher: torch.Tensor, temperature: float) -> float:
    """One pair at a time."""
    count = len(student)
    z = [[cosine(s.tolist(), t.tolist()) / temperature for t in teacher] for s in student]
    rows = [math.log(sum(math.exp(z[i][j]) for j in range(count))) - z[i][i] for i in range(count)]
    columns = [math.log(sum(math.exp(z[j][i]) for j in range(count))) - z[i][i] for i in range(count)]
    return (sum(rows) + sum(columns)) / (2 * count)


def test_patch_distance_is_that_of_the_slow_reference() -> None:
    student, teacher = drawn(2, 5, 3, 4, seed=0), drawn(2, 5, 3, 4, seed=1)
    assert patch_distance(student, teacher).item() == pytest.approx(slow_patch_distance(student, teacher), rel=1e-9)


def test_the_teachers_grid_is_resized_to_the_students() -> None:
    student, teacher = drawn(2, 5, 2, 2, seed=0), drawn(2, 5, 4, 4, seed=1)
    smaller = F.interpolate(teacher, (2, 2), mode="bilinear", antialias=True)
    assert patch_distance(student, teacher).item() == pytest.approx(slow_patch_distance(student, smaller), rel=1e-9)


def test_patches_that_point_the_same_way_have_no_distance() -> None:
    patches = drawn(2, 5, 3, 3, seed=0)
    assert patch_distance(3 * patches, patches).item() == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize("shape", [(2, 4, 3, 3), (3, 5, 3, 3), (2, 5, 3)])
def test_patches_of_other_widths_or_batches_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"\[B, D, h, w\]"):
        patch_distance(drawn(2, 5, 3, 3, seed=0), drawn(*shape, seed=1))


@pytest.mark.parametrize("temperature", [0.07, 1.0])
def test_info_nce_is_that_of_the_slow_reference(temperature: float) -> None:
    student, teacher = drawn(6, 4, seed=0), drawn(6, 4, seed=1)
    found = info_nce(student, teacher, temperature=temperature).item()
    assert found == pytest.approx(slow_info_nce(student, teacher, temperature), rel=1e-9)


def test_info_nce_of_embeddings_that_say_nothing_is_that_of_chance() -> None:
    same = torch.ones(8, 3, dtype=torch.float64)
    assert info_nce(same, same).item() == pytest.approx(math.log(8))


def test_info_nce_does_not_see_lengths() -> None:
    student, teacher = drawn(6, 4, seed=0), drawn(6, 4, seed=1)
    assert info_nce(5 * student, teacher).item() == pytest.approx(info_nce(student, teacher).item())


@pytest.mark.parametrize(
    ("student", "teacher", "temperature", "said"),
    [
        ((4, 3), (4, 2), 0.1, "share a shape"),
        ((4, 3, 1), (4, 3, 1), 0.1, "share a shape"),
        ((1, 3), (1, 3), 0.1, "batch of one"),
        ((4, 3), (4, 3), 0.0, "temperature"),
    ],
)
def test_what_cannot_be_contrasted_is_refused(student, teacher, temperature: float, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        info_nce(drawn(*student, seed=0), drawn(*teacher, seed=1), temperature=temperature)


def given(outputs: Outputs, teacher: Outputs):
    batch = Batch({"view": torch.zeros(4, 3, 2, 2)}, {"view": 1}, torch.arange(4))
    return batch, {"view": outputs}, {"teacher": {"view": teacher}}


def test_an_embedding_made_to_be_compared_is_the_target_itself() -> None:
    objective = ImageFeatures(5, {"features": 7, "embedding": 6})
    student, teacher = torch.randn(4, 5), torch.randn(4, 6)
    found = objective(*given(Outputs(features=student), Outputs(embedding=teacher)))["image"]
    assert torch.equal(found, info_nce(objective.projector(student), teacher))


def test_without_an_embedding_both_sides_are_projected() -> None:
    objective = ImageFeatures(5, {"features": 7}, width=3)
    student, teacher = torch.randn(4, 5), torch.randn(4, 7)
    found = objective(*given(Outputs(features=student), Outputs(features=teacher)))["image"]
    assert torch.equal(found, info_nce(objective.projector(student), objective.teacher_projector(teacher)))


def test_patches_are_projected_to_the_teachers_width() -> None:
    objective = Patches(5, 7)
    student, teacher = torch.randn(4, 5, 2, 2), torch.randn(4, 7, 3, 3)
    found = objective(*given(Outputs(patches=student), Outputs(patches=teacher)))["patches"]
    assert torch.equal(found, patch_distance(objective.projector(student), teacher))
