"""Learning a teacher's feature of the whole image by contrast (the source's task-agnostic transfer of global ones).

Which of the teacher's outputs is the target, and what is projected, is the same whatever the negatives are.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tutelage.data.batch import DEFAULT_GROUP, Batch
from tutelage.errors import RunError
from tutelage.objectives.banks import Bank, DiskBank, Form, MemoryBank
from tutelage.objectives.contrast import (
    NEGATIVES,
    Draw,
    Draws,
    blended_rows,
    check_momentum,
    draw_negatives,
    info_nce,
    last_places,
    log_normalizer,
    nce_loss,
)
from tutelage.objectives.features import full_precision, widened
from tutelage.objectives.objective import Needs, Objective, StudentOutputs, Targets
from tutelage.training.distributed import gathered, process_mean

OTHER = {"student": "teacher", "teacher": "student"}
"""Whose anchors meet a side's bank."""


@dataclass(frozen=True)
class CommonSpace:
    """Where both models' embeddings of an image are compared.

    Attributes:
        reads: The teacher's output.
        width: Numbers in an embedding.
        projects_teacher: Whether the teacher's output is projected, too; the student's always is.
    """

    reads: str
    width: int
    projects_teacher: bool


def common_space(widths: Mapping[str, int], *, width: int = 768) -> CommonSpace:
    """Return the space for a teacher of these widths.

    An embedding that is made to be compared (CLIP's) is the target itself, in its own width. Pooled features
    (DINOv2's CLS token) are projected (Vemulapalli et al., ICML 2024, appendix A.3).

    Args:
        widths: The teacher's (``Encoder.widths``).
        width: Where it brings none.
    """
    if "embedding" in widths:
        return CommonSpace("embedding", widths["embedding"], projects_teacher=False)
    return CommonSpace("features", width, projects_teacher=True)


class ImageObjective(Objective):
    """Brings both models' features of the whole image into a common space.

    The student's pooled features are projected linearly, and so may be the teacher's (see :func:`common_space`).

    Args:
        student_width: Of the student's pooled features.
        widths: The teacher's (``Encoder.widths``).
        width: Of the common space, where the teacher brings none.
        teacher: The teacher's name in the phase.

    Attributes:
        space: The common space.
    """

    def __init__(
        self, student_width: int, widths: Mapping[str, int], *, width: int = 768, teacher: str = "teacher"
    ) -> None:
        super().__init__()
        self.space = common_space(widths, width=width)
        self.needs = Needs(student=frozenset({"features"}), teachers={teacher: frozenset({self.space.reads})})
        self.projector = nn.Linear(student_width, self.space.width)
        self.teacher_projector = (
            nn.Linear(widths["features"], width) if self.space.projects_teacher else nn.Identity()
        )
        self._teacher = teacher

    def embeddings(self, student: StudentOutputs, targets: Targets) -> tuple[Tensor, Tensor]:
        """Return the student's and the teacher's embeddings, [B, width], of any length."""
        teacher = self.teacher_projector(targets[self._teacher][DEFAULT_GROUP].require(self.space.reads))
        return self.projector(student[DEFAULT_GROUP].require("features")), teacher


class ImageFeatures(ImageObjective):
    """Match a teacher's feature of the whole image by contrast within the batch (see :func:`info_nce`).

    The light variant of :class:`BankContrast`.

    Args:
        student_width: As for every :class:`ImageObjective`.
        widths: Likewise.
        width: Likewise.
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
        super().__init__(student_width, widths, width=width, teacher=teacher)
        self._temperature = temperature

    def forward(self, batch: Batch, student: StudentOutputs, targets: Targets) -> dict[str, Tensor]:
        """Return ``image``."""
        return {"image": info_nce(*self.embeddings(student, targets), temperature=self._temperature)}


class BankContrast(ImageObjective):
    r"""Match a teacher's feature of the whole image by contrast against memory banks (CRD, arXiv:1910.10699).

    A bank has a row for every training sample: its last embeddings, blended (see :func:`blended_rows`) after every
    step. A student anchor must find its sample's row among the teacher's rows, and a teacher anchor among the
    student's (see :func:`nce_loss`); both losses add up. Negatives are rows drawn uniformly (see
    :func:`draw_negatives`), and the noise is m / N. Each side's Z is that of the first batch.

    Where nothing of the teacher's is learned (CLIP's embedding), a loss on its anchors has no gradient, for banks
    have none: that side is left out, and the student's bank with it.

    Banks start empty, where those of the released code start from random rows: until a sample is seen its row is
    zero, whose cosine is what a random row's is on average, and its first positive is the embedding that becomes its
    row. Else all positives of the first epoch would be noise, and some trainings have few epochs.

    A row is of one sample: views must not be mixed.

    Args:
        student_width: As for every :class:`ImageObjective`.
        widths: Likewise.
        size: N, the training samples; batches name them by ``indices``.
        negatives: m, of each anchor; all other samples, if there are not so many.
        temperature: T.
        momentum: Share of a row that stays in an update.
        draws: As for :func:`draw_negatives`; ``separate`` is the released code's way.
        form: How banks are kept. In half precision a row's numbers are off by up to 2⁻¹¹ of them.
        folder: Where files are, with ``form="disk"``.
        seed: Of the draws: they are a function of it and of the batch, and so the same after a resume.
        width: As for every :class:`ImageObjective`.
        teacher: The teacher's name in the phase.

    Raises:
        ValueError: There is no other sample, no negative, or no folder for banks on disk; or a temperature, momentum,
            form or kind of draw is not possible.
    """

    def __init__(
        self,
        student_width: int,
        widths: Mapping[str, int],
        *,
        size: int,
        negatives: int = NEGATIVES,
        temperature: float = 0.07,
        momentum: float = 0.5,
        draws: Draws = "shared",
        form: Form = "float32",
        folder: Path | None = None,
        seed: int = 0,
        width: int = 768,
        teacher: str = "teacher",
    ) -> None:
        super().__init__(student_width, widths, width=width, teacher=teacher)
        if temperature <= 0:
            raise ValueError(f"temperature must be positive, got {temperature}")
        if form not in get_args(Form) or (form == "disk" and folder is None):
            raise ValueError(f"form must be 'float32', 'float16', or 'disk' with a folder; got {form!r}, {folder}")
        check_momentum(momentum)
        self._size, self._seed, self._draws, self._form = size, seed, draws, form
        self._negatives = min(negatives, size - 1)
        self._draw(torch.zeros(1, dtype=torch.int64), [0])  # raises what a first batch would
        self._temperature, self._momentum, self._folder = temperature, momentum, folder
        self._banks: dict[str, Bank] = {}
        self._log_z: dict[str, Tensor] = {}
        self._updates = 0
        self._seen: tuple[Tensor, dict[str, Tensor]] | None = None

    def forward(self, batch: Batch, student: StudentOutputs, targets: Targets) -> dict[str, Tensor]:
        """Return ``crd``."""
        return {"crd": self.contrast(batch, *self.embeddings(student, targets))}

    def contrast(self, batch: Batch, student: Tensor, teacher: Tensor) -> Tensor:
        """Return the loss of both models' embeddings of a batch, [B, width] each."""
        with full_precision(student):
            student = F.normalize(widened(student), dim=1)
            embedded = {"student": student, "teacher": F.normalize(teacher.to(student.dtype), dim=1)}
            banks = self._opened(student)
            draw = self._draw(batch.indices, _key(self._seed, batch))
            losses = [self._against(side, bank, batch.indices, embedded, draw) for side, bank in banks.items()]
        self._seen = batch.indices, {side: embedded[side].detach() for side in banks}
        return torch.stack(losses).sum()

    @torch.no_grad()
    def after_step(self, model: nn.Module, progress: float) -> None:
        """Blend what the last batch was embedded as into the banks, the same in every process.

        Where a batch has a sample more than once, its last embedding counts, in the order of the processes.
        """
        if self._seen is None:
            return
        (rows, embedded), self._seen = self._seen, None
        rows = gathered(rows)
        last = last_places(rows)
        for side, bank in self._banks.items():
            newest = gathered(embedded[side])[last]
            bank.write(rows, blended_rows(bank.read(rows).to(newest.dtype), newest, momentum=self._momentum))
        self._updates += 1

    def after_checkpoint(self) -> None:
        """Let banks on disk forget what they were before."""
        for bank in self._banks.values():
            bank.checkpointed(self._updates)

    def get_extra_state(self) -> dict[str, Any]:
        """Return banks and normalizers: not buffers, which DDP would send to all processes at every step."""
        return {
            "form": self._form,
            "updates": self._updates,
            "log_z": dict(self._log_z),
            "rows": {side: bank.state() for side, bank in self._banks.items()},
        }

    def set_extra_state(self, state: Any) -> None:
        """Go back to what :meth:`get_extra_state` gave.

        Raises:
            RunError: It belongs to other banks.
        """
        if state["form"] != self._form:
            raise RunError(
                f"memory banks: this stage was interrupted with its banks as {state['form']}, and now they are to be "
                f"{self._form}; set distill.contrast.form={state['form']}, or remove its checkpoint to start it again"
            )
        self._updates, self._log_z, self._seen = state["updates"], dict(state["log_z"]), None
        self._banks = {}
        if state["rows"]:
            for side, bank in self._opened(self.projector.weight).items():
                bank.restore(state["rows"].get(side), self._updates)

    def _against(self, side: str, bank: Bank, rows: Tensor, embedded: Mapping[str, Tensor], draw: Draw) -> Tensor:
        """Return the loss of the other side's anchors against a side's bank."""
        anchors, current = embedded[OTHER[side]], embedded[side].detach()
        own = bank.read(rows).to(anchors.dtype)
        own = torch.where(own.any(dim=1, keepdim=True), own, current)
        positive = (anchors * own).sum(1) / self._temperature
        negative = anchors @ bank.read(draw.rows).to(anchors.dtype).T / self._temperature
        if side not in self._log_z:
            found = log_normalizer(positive.detach(), negative.detach(), size=self._size, counts=draw.counts)
            self._log_z[side] = process_mean(found.double().exp()).log().to(found.dtype)
        noise = self._negatives / self._size
        return nce_loss(positive, negative, noise=noise, log_z=self._log_z[side], counts=draw.counts)

    def _draw(self, own: Tensor, key: list[int]) -> Draw:
        return draw_negatives(own, self._negatives, self._size, key=key, draws=self._draws)

    def _opened(self, like: Tensor) -> dict[str, Bank]:
        if not self._banks:
            sides = ("teacher", "student") if self.space.projects_teacher else ("teacher",)
            self._banks = {side: self._new_bank(side, like) for side in sides}
        return self._banks

    def _new_bank(self, side: str, like: Tensor) -> Bank:
        if self._form == "disk":
            assert self._folder is not None
            return DiskBank(self._folder, side, self._size, self.space.width)
        full = torch.promote_types(like.dtype, torch.float32)
        dtype = full if self._form == "float32" else torch.float16
        return MemoryBank(self._size, self.space.width, dtype, like.device)


def _key(seed: int, batch: Batch) -> list[int]:
    rows = batch.indices.cpu().numpy() if batch.rows is None else batch.rows
    digest = hashlib.blake2b(np.ascontiguousarray(rows, dtype="<i8").tobytes(), digest_size=8).digest()
    return [seed, batch.view, int.from_bytes(digest, "big")]
