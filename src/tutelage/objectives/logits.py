"""Learning from a teacher's task predictions."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor
from torch.nn import functional as F

from tutelage.data.batch import DEFAULT_GROUP, Batch
from tutelage.objectives.objective import Needs, Objective, StudentOutputs, Targets


def prediction_divergence(
    student_logits: Tensor, teacher_logits: Tensor, *, temperature: float = 1.0, valid: Tensor | None = None
) -> Tensor:
    r"""KL divergence of the student's from the teacher's predictions.

    .. math:: \frac{T^2}{|V|} \sum_{i \in V} \sum_c p_{ic} (\log p_{ic} - \log q_{ic}), \quad
              p = \mathrm{softmax}(t / T),\; q = \mathrm{softmax}(s / T)

    summed over classes, mean over samples (or valid pixels). The loss of task-oriented transfer (Vemulapalli et
    al., ICML 2024, section 2), there at T = 1.

    Args:
        student_logits: [B, C], or [B, C, h, w] for a dense task.
        teacher_logits: The same shape.
        temperature: T; the factor T² keeps the size of gradients.
        valid: Bool [B] or [B, h, w]; what is False does not count. ``None`` counts all.

    Returns:
        A scalar; 0 where nothing is valid.

    Raises:
        ValueError: Shapes differ, or the temperature is not positive.
    """
    if student_logits.shape != teacher_logits.shape or student_logits.ndim < 2:
        raise ValueError(
            f"student and teacher logits must share a shape [B, C, ...]; got {tuple(student_logits.shape)} "
            f"and {tuple(teacher_logits.shape)}"
        )
    expected = student_logits.shape[:1] + student_logits.shape[2:]
    if valid is not None and valid.shape != expected:
        raise ValueError(f"valid must be {tuple(expected)}, got {tuple(valid.shape)}")
    if temperature <= 0:
        raise ValueError(f"temperature must be positive, got {temperature}")
    student = F.log_softmax(student_logits / temperature, dim=1)
    teacher = F.log_softmax(teacher_logits / temperature, dim=1)
    divergence = (teacher.exp() * (teacher - student)).sum(1) * temperature**2
    if valid is None:
        return divergence.mean()
    return (divergence * valid).sum() / valid.sum().clamp(min=1)


class Logits(Objective):
    """Match a teacher's predictions on the same view (see :func:`prediction_divergence`).

    Of a dense task they are compared at the resolution of the student's head, to which the teacher's are brought; a
    cell counts where at least half of its pixels are valid.
    """

    def __init__(self, *, temperature: float = 1.0, teacher: str = "teacher") -> None:
        super().__init__()
        self.needs = Needs(student=frozenset({"logits"}), teachers={teacher: frozenset({"logits"})})
        self._temperature = temperature
        self._teacher = teacher

    def forward(self, batch: Batch, student: StudentOutputs, targets: Targets) -> dict[str, Tensor]:
        """Return ``logits``."""
        ours = student[DEFAULT_GROUP].require("logits")
        theirs = targets[self._teacher][DEFAULT_GROUP].require("logits")
        valid = batch.valid
        if ours.ndim == 4:
            grid = ours.shape[-2:]
            theirs = theirs if theirs.shape[-2:] == grid else _on_grid(theirs, grid)
            valid = None if valid is None else mostly_valid(valid, grid)
        return {"logits": prediction_divergence(ours, theirs, temperature=self._temperature, valid=valid)}


def mostly_valid(valid: Tensor, grid: Sequence[int]) -> Tensor:
    """Return which cells of a coarser grid hold valid pixels by half or more.

    Args:
        valid: Which pixels count, bool [B, H, W].
        grid: Height and width of the grid.

    Returns:
        bool [B, h, w].
    """
    return F.interpolate(valid[:, None].float(), tuple(grid), mode="area")[:, 0] >= 0.5


def _on_grid(logits: Tensor, grid: Sequence[int]) -> Tensor:
    return F.interpolate(logits, tuple(grid), mode="bilinear", align_corners=False, antialias=True)
