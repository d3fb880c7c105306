"""How fast images are contrasted with memory banks, beside the student's own step."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import nn

from tutelage.data.batch import Batch
from tutelage.methods.contrast import candidates
from tutelage.methods.job import Job
from tutelage.objectives.image import BankContrast

BANKS = "banks"
"""Names the work in speeds."""

TIMED = 4096
"""Rows that images are compared with when that is timed; the work is in proportion to them."""


def bank_turn(widths: Mapping[str, int], images: int, device: torch.device) -> Callable[[], object]:
    """Return what a step does with memory banks of :data:`TIMED` rows: compare, go back, and update.

    Projections are left out: a step within the batch has them as well.

    Args:
        widths: Of what the teacher gives.
        images: Of the step.
        device: Where it is done.
    """
    objective = BankContrast(1, widths, size=TIMED).to(device)
    batch = Batch({}, {}, torch.arange(images, device=device))
    student, teacher = torch.randn(2, images, objective.space.width, device=device)
    student.requires_grad_()
    teacher.requires_grad_(objective.space.projects_teacher)
    model = nn.Identity()

    def turn() -> float:
        loss = objective.contrast(batch, student, teacher)
        torch.autograd.backward(loss)
        objective.after_step(model, 0.0)
        return loss.item()  # makes a GPU finish

    return turn


def bank_share(job: Job, batch_size: int) -> float:
    """Return how much more work a job's banks are than what was timed.

    Args:
        job: Resolved.
        batch_size: Images a step.
    """
    found = candidates(job.recipe.distill.contrast, images=len(job.transfer), batch_size=batch_size)
    return found / TIMED
