"""Learning from images and the texts that belong to them: which belongs to which, alone or as a teacher has it."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tutelage.data.batch import DEFAULT_GROUP, Batch
from tutelage.data.samples import Samples
from tutelage.models.model import Encoder
from tutelage.models.preprocess import ClipTextPreprocess, TextPreprocess
from tutelage.models.tokens import Tokens, tokenize
from tutelage.objectives.contrast import info_nce
from tutelage.objectives.features import full_precision, widened
from tutelage.objectives.objective import Needs, Objective, StudentOutputs, Targets
from tutelage.training.distributed import gathered, gathered_with_gradient

FIRST_SCALE = 1 / 0.07
"""Of a learned logit scale."""

LARGEST_SCALE = 100.0
"""A learned one goes no further: its logarithm is clamped at ln 100."""


def image_text_contrast(images: Tensor, texts: Tensor, logit_scale: float | Tensor) -> Tensor:
    r"""Cross entropy of finding each image's text among those of the batch, and each text's image (CLIP's loss).

    .. math:: -\frac{1}{2B} \sum_i \left[ \log \frac{e^{\tau z_{ii}}}{\sum_j e^{\tau z_{ij}}} +
              \log \frac{e^{\tau z_{ii}}}{\sum_j e^{\tau z_{ji}}} \right], \quad
              z_{ij} = \frac{I_i \cdot T_j}{\|I_i\| \|T_j\|}

    Figure 3 of CLIP (Radford et al., ICML 2021); :func:`info_nce` at the temperature 1/τ.

    Args:
        images: I, embeddings of images, [B, D]; B is two or more.
        texts: T, those of their texts, [B, D].
        logit_scale: τ itself, not its logarithm; a scalar tensor, too.

    Returns:
        A scalar.

    Raises:
        ValueError: Shapes differ, there is no other pair, or the scale is not positive (one in a tensor is not looked
            at).
    """
    _check_scale(logit_scale)
    return info_nce(images, texts, temperature=1 / logit_scale)


def affinity_mimicking(
    student_images: Tensor,
    student_texts: Tensor,
    teacher_images: Tensor,
    teacher_texts: Tensor,
    *,
    student_scale: float | Tensor,
    teacher_scale: float | Tensor,
) -> Tensor:
    r"""Cross entropy of the student's affinities of images and texts against the teacher's.

    .. math:: -\frac{1}{2B} \sum_{i,j} \left[ p_{ij} \log q_{ij} + p'_{ij} \log q'_{ij} \right], \quad
              p = \mathrm{softmax}_j(\tau_t A^t_{ij}),\; q = \mathrm{softmax}_j(\tau_s A^s_{ij}),\;
              p' = \mathrm{softmax}_j(\tau_t A^t_{ji}),\; q' = \mathrm{softmax}_j(\tau_s A^s_{ji})

    with the cosines A = cos(I_i, T_j) of each model; over the texts for each image, over the images for each text.
    Affinity mimicking of TinyCLIP (Wu et al., ICCV 2023). The two models' widths may differ.

    Args:
        student_images: I of the student, [B, D]; B is two or more.
        student_texts: T of the student, [B, D].
        teacher_images: I of the teacher, [B, D'].
        teacher_texts: T of the teacher, [B, D'].
        student_scale: τ_s itself, not its logarithm; a scalar tensor, too.
        teacher_scale: τ_t, likewise.

    Returns:
        A scalar.

    Raises:
        ValueError: Shapes do not belong together, there is no other pair, or a scale is not positive (one in a tensor
            is not looked at).
    """
    _check_pairs("the student's", student_images, student_texts)
    _check_pairs("the teacher's", teacher_images, teacher_texts)
    if len(student_images) != len(teacher_images):
        raise ValueError(f"the student has {len(student_images)} pairs and the teacher {len(teacher_images)}")
    if len(student_images) < 2:
        raise ValueError("a batch of one pair has nothing to compare; use a batch size of two or more")
    _check_scale(student_scale)
    _check_scale(teacher_scale)
    said = student_scale * _cosines(student_images, student_texts)
    wanted = teacher_scale * _cosines(teacher_images, teacher_texts)
    by_image = F.cross_entropy(said, wanted.softmax(1))
    return (by_image + F.cross_entropy(said.T, wanted.T.softmax(1))) / 2


def _cosines(images: Tensor, texts: Tensor) -> Tensor:
    return F.normalize(images, dim=1) @ F.normalize(texts, dim=1).T


def _check_pairs(whose: str, images: Tensor, texts: Tensor) -> None:
    if images.ndim != 2 or images.shape != texts.shape:
        raise ValueError(
            f"{whose} images and texts must share a shape [B, D]; got {tuple(images.shape)} and {tuple(texts.shape)}"
        )


def _check_scale(scale: float | Tensor) -> None:
    if not isinstance(scale, Tensor) and scale <= 0:
        raise ValueError(f"a logit scale must be positive, got {scale}")


class PairObjective(Objective):
    """Brings a student's images and their texts into one space.

    The student's pooled features are projected linearly. Texts go through a text tower that learns beside the student
    and is training state alone. All texts are tokenized once, before the first step.

    With several processes, the pairs of all of them are a batch.

    Args:
        student_width: Of the student's pooled features.
        text: The text tower; its ``embedding`` gives the width of the space. It is trained in place.
        logit_scale: The factor of cosines; if not given it is learned, from 1/0.07 and up to 100.
        weight_decay: Of matrices.
    """

    watched: ClassVar[frozenset[str]] = frozenset({"logit_scale"})

    fixed_scale: Tensor

    def __init__(
        self, student_width: int, text: Encoder, *, logit_scale: float | None = None, weight_decay: float = 0.0
    ) -> None:
        super().__init__()
        if logit_scale is not None:
            _check_scale(logit_scale)
        self.needs = Needs(student=frozenset({"features"}), texts=True)
        self.projector = nn.Linear(student_width, text.widths["embedding"], bias=False)
        self.text = text.requires_grad_(True)
        self._learned = logit_scale is None
        if self._learned:
            self.log_scale = nn.Parameter(torch.tensor(math.log(FIRST_SCALE)))
        else:
            self.register_buffer("fixed_scale", torch.tensor(logit_scale))
        self._weight_decay = weight_decay
        self._tokens: Tokens | None = None

    @property
    def cut(self) -> int:
        """How many texts are longer than the text tower reads, once they have been looked at."""
        return 0 if self._tokens is None else int(self._tokens.cut.sum())

    @property
    def scale(self) -> Tensor:
        """The factor of cosines, a scalar."""
        scale: Tensor = self.log_scale.exp() if self._learned else self.fixed_scale
        return scale

    def prepare(self, samples: Samples, examples: Iterable[tuple[Batch, StudentOutputs, Targets]]) -> None:
        """Tokenize all texts."""
        assert samples.texts is not None
        assert isinstance(self.text.preprocess, TextPreprocess | ClipTextPreprocess)
        self._tokens = tokenize(self.text.preprocess, samples.texts)

    def embeddings(self, batch: Batch, student: StudentOutputs) -> tuple[Tensor, Tensor]:
        """Return the embeddings of all images of a step and of their texts, [B, D], of any length."""
        assert self._tokens is not None
        rows = batch.indices.cpu().numpy() if batch.rows is None else batch.rows
        texts = self.text.encode(self._tokens.of(rows), frozenset({"embedding"})).require("embedding")
        images = self.projector(student[DEFAULT_GROUP].require("features"))
        return gathered_with_gradient(widened(images)), gathered_with_gradient(widened(texts))

    def param_groups(self, learning_rate: float) -> list[dict[str, Any]]:
        """Return the matrices, and the biases, norms and scale, which are not decayed."""
        parameters = [parameter for parameter in self.parameters() if parameter.requires_grad]
        groups = [
            {"params": [each for each in parameters if each.ndim > 1], "weight_decay": self._weight_decay},
            {"params": [each for each in parameters if each.ndim <= 1], "weight_decay": 0.0},
        ]
        return [{**group, "lr": learning_rate} for group in groups if group["params"]]

    @torch.no_grad()
    def after_step(self, model: nn.Module, progress: float) -> None:
        """Keep a learned scale from growing past :data:`LARGEST_SCALE`."""
        if self._learned:
            self.log_scale.clamp_(max=math.log(LARGEST_SCALE))


class ImageText(PairObjective):
    """Find each image's text in the batch, and each text's image (see :func:`image_text_contrast`).

    Args:
        student_width: As for every :class:`PairObjective`.
        text: Likewise.
        weight_decay: Likewise.
    """

    def __init__(self, student_width: int, text: Encoder, *, weight_decay: float = 0.0) -> None:
        super().__init__(student_width, text, weight_decay=weight_decay)

    def forward(self, batch: Batch, student: StudentOutputs, targets: Targets) -> dict[str, Tensor]:
        """Return ``image-text``; the scale is watched."""
        images, texts = self.embeddings(batch, student)
        with full_precision(images):
            loss = image_text_contrast(images, texts, self.scale)
        return {"image-text": loss, "logit_scale": self.scale.detach()}


class AffinityMimicking(PairObjective):
    """Find images and texts as alike as a teacher of both does (see :func:`affinity_mimicking`).

    Args:
        student_width: As for every :class:`PairObjective`.
        text: Likewise.
        student_scale: Likewise (``logit_scale``).
        teacher_scale: The factor of the teacher's cosines.
        weight_decay: As for every :class:`PairObjective`.
        teacher: The name, in the phase, of the teacher's image tower.
        teacher_text: That of its text tower.
    """

    def __init__(
        self,
        student_width: int,
        text: Encoder,
        *,
        student_scale: float | None = 50.0,
        teacher_scale: float = 50.0,
        weight_decay: float = 0.0,
        teacher: str = "teacher",
        teacher_text: str = "teacher-text",
    ) -> None:
        super().__init__(student_width, text, logit_scale=student_scale, weight_decay=weight_decay)
        _check_scale(teacher_scale)
        embedding = frozenset({"embedding"})
        self.needs = Needs(
            student=frozenset({"features"}), teachers={teacher: embedding, teacher_text: embedding}, texts=True
        )
        self._teacher_scale = teacher_scale
        self._teachers = (teacher, teacher_text)

    def forward(self, batch: Batch, student: StudentOutputs, targets: Targets) -> dict[str, Tensor]:
        """Return ``affinity``; the student's scale is watched."""
        images, texts = self.embeddings(batch, student)
        wanted = [gathered(widened(targets[name][DEFAULT_GROUP].require("embedding"))) for name in self._teachers]
        with full_precision(images):
            loss = affinity_mimicking(
                images, texts, *wanted, student_scale=self.scale, teacher_scale=self._teacher_scale
            )
        return {"affinity": loss, "logit_scale": self.scale.detach()}
