"""Learning a teacher's patch features (the source's task-agnostic transfer of them)."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from tutelage.data.batch import DEFAULT_GROUP, Batch
from tutelage.objectives.objective import Needs, Objective, StudentOutputs, Targets


def patch_distance(student_patches: Tensor, teacher_patches: Tensor) -> Tensor:
    r"""One minus the cosine similarity of patch features.

    .. math:: \frac{1}{B h w} \sum_{i,u} 1 - \frac{s_{iu} \cdot t_{iu}}{\|s_{iu}\| \|t_{iu}\|}

    with the teacher's grid resized (bilinear) to the student's. The loss on patches of task-agnostic transfer
    (Vemulapalli et al., ICML 2024, appendix A.3).

    Args:
        student_patches: [B, D, h, w], projected to the teacher's width.
        teacher_patches: [B, D, h', w'].

    Returns:
        A scalar in 0..2.

    Raises:
        ValueError: Batches or widths differ.
    """
    if (
        student_patches.ndim != 4
        or teacher_patches.ndim != 4
        or student_patches.shape[:2] != teacher_patches.shape[:2]
    ):
        raise ValueError(
            f"patches must be [B, D, h, w] with the same B and D; got {tuple(student_patches.shape)} and "
            f"{tuple(teacher_patches.shape)}"
        )
    grid = student_patches.shape[-2:]
    if teacher_patches.shape[-2:] != grid:
        teacher_patches = F.interpolate(teacher_patches, grid, mode="bilinear", align_corners=False, antialias=True)
    return (1 - F.cosine_similarity(student_patches, teacher_patches, dim=1)).mean()


class Patches(Objective):
    """Match a teacher's patch features through a linear projection of the student's (see :func:`patch_distance`).

    Args:
        student_width: D' of the student's patches.
        teacher_width: D of the teacher's.
        teacher: The teacher's name in the phase.
    """

    def __init__(self, student_width: int, teacher_width: int, *, teacher: str = "teacher") -> None:
        super().__init__()
        patches = frozenset({"patches"})
        self.needs = Needs(student=patches, teachers={teacher: patches})
        self.projector = nn.Conv2d(student_width, teacher_width, 1)
        self._teacher = teacher

    def forward(self, batch: Batch, student: StudentOutputs, targets: Targets) -> dict[str, Tensor]:
        """Return ``patches``."""
        projected = self.projector(student[DEFAULT_GROUP].require("patches"))
        return {"patches": patch_distance(projected, targets[self._teacher][DEFAULT_GROUP].require("patches"))}
