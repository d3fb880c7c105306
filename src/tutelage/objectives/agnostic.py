"""Learning a teacher's features, whatever the task (the source's task-agnostic transfer)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
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


def info_nce(student: Tensor, teacher: Tensor, *, temperature: float = 0.07) -> Tensor:
    r"""Contrast each sample's two embeddings against the other samples of the batch (InfoNCE, arXiv:1807.03748).

    .. math:: -\frac{1}{2B} \sum_i \left[ \log \frac{e^{z_{ii}}}{\sum_j e^{z_{ij}}} +
              \log \frac{e^{z_{ii}}}{\sum_j e^{z_{ji}}} \right], \quad
              z_{ij} = \frac{s_i \cdot t_j}{T \|s_i\| \|t_j\|}

    The light variant of the source's contrastive loss, whose negatives come from memory banks.

    Args:
        student: Embeddings, [B, D]; B is two or more.
        teacher: Embeddings of the same samples, [B, D].
        temperature: T.

    Returns:
        A scalar.

    Raises:
        ValueError: Shapes differ, there is no other sample, or the temperature is not positive.
    """
    if student.ndim != 2 or student.shape != teacher.shape:
        raise ValueError(
            f"embeddings must share a shape [B, D]; got {tuple(student.shape)} and {tuple(teacher.shape)}"
        )
    if len(student) < 2:
        raise ValueError("a batch of one has nothing to contrast with; use a batch size of two or more")
    if temperature <= 0:
        raise ValueError(f"temperature must be positive, got {temperature}")
    scores = F.normalize(student, dim=1) @ F.normalize(teacher, dim=1).T / temperature
    same = torch.arange(len(scores), device=scores.device)
    return (F.cross_entropy(scores, same) + F.cross_entropy(scores.T, same)) / 2


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


class ImageFeatures(Objective):
    """Match a teacher's feature of the whole image by contrast within the batch (see :func:`info_nce`).

    The student's pooled features are projected to ``width``. So are the teacher's, unless it brings an embedding
    that is made to be compared (CLIP's), which is then the target itself.

    Args:
        student_width: Of the student's pooled features.
        widths: The teacher's (``Encoder.widths``).
        width: Of the common space, where the teacher brings none.
        temperature: T.
        teacher: The teacher's name in the phase.
    """

    def __init__(
        self,
        student_width: int,
        widths: Mapping[str, int],
        *,
        width: int = 768,
        temperature: float = 0.07,
        teacher: str = "teacher",
    ) -> None:
        super().__init__()
        self._reads = "embedding" if "embedding" in widths else "features"
        self.needs = Needs(student=frozenset({"features"}), teachers={teacher: frozenset({self._reads})})
        self.projector = nn.Linear(student_width, widths.get("embedding", width))
        self.teacher_projector = nn.Identity() if self._reads == "embedding" else nn.Linear(widths["features"], width)
        self._temperature = temperature
        self._teacher = teacher

    def forward(self, batch: Batch, student: StudentOutputs, targets: Targets) -> dict[str, Tensor]:
        """Return ``image``."""
        teacher = self.teacher_projector(targets[self._teacher][DEFAULT_GROUP].require(self._reads))
        projected = self.projector(student[DEFAULT_GROUP].require("features"))
        return {"image": info_nce(projected, teacher, temperature=self._temperature)}
