from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from tutelage.data.batch import Batch
from tutelage.models.outputs import Outputs
from tutelage.objectives import Patches, patch_distance


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


def given(outputs: Outputs, teacher: Outputs):
    batch = Batch({"view": torch.zeros(4, 3, 2, 2)}, {"view": 1}, torch.arange(4))
    return batch, {"view": outputs}, {"teacher": {"view": teacher}}


def test_patches_are_projected_to_the_teachers_width() -> None:
    objective = Patches(5, 7)
    student, teacher = torch.randn(4, 5, 2, 2), torch.randn(4, 7, 3, 3)
    found = objective(*given(Outputs(patches=student), Outputs(patches=teacher)))["patches"]
    assert torch.equal(found, patch_distance(objective.projector(student), teacher))
