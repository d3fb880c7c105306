"""What objectives on pooled features share: reading them, and looking at them once before training."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from typing import Any, ClassVar, Literal, get_args

import torch
from torch import Tensor, distributed

from tutelage.data.batch import DEFAULT_GROUP, Batch
from tutelage.data.samples import Samples
from tutelage.errors import ModelError
from tutelage.objectives.objective import Needs, Objective, StudentOutputs, Targets

Variant = Literal["code", "paper"]
"""Which is followed where a paper and its authors' released code differ."""

EPSILON = 1e-8
"""Added to norms that something is divided by."""


def check_rows(student: Tensor, teacher: Tensor, *, least: int = 1, width: bool = False) -> None:
    """Check that two tensors hold features of the same samples.

    Args:
        student: [B, D].
        teacher: [B, D'].
        least: Smallest B.
        width: Whether D' must be D.

    Raises:
        ValueError: They do not.
    """
    if student.ndim != 2 or teacher.ndim != 2 or len(student) != len(teacher):
        raise ValueError(
            f"features must be [B, D] with the same B; got {tuple(student.shape)} and {tuple(teacher.shape)}"
        )
    if width and student.shape != teacher.shape:
        raise ValueError(f"features must share a width; got {student.shape[1]} and {teacher.shape[1]}")
    if len(student) < least:
        raise ValueError(f"a batch of {len(student)} has nothing to compare; use a batch size of {least} or more")


def check_variant(variant: str) -> None:
    """Raise ``ValueError`` if there is no such variant."""
    if variant not in get_args(Variant):
        raise ValueError(f"variant must be 'code' or 'paper', got {variant!r}")


def widened(features: Tensor) -> Tensor:
    """Return features in float32, or as they are if they are more precise."""
    return features.to(torch.promote_types(features.dtype, torch.float32))


def full_precision(features: Tensor) -> AbstractContextManager[Any]:
    """Leave mixed precision, on the device of ``features``."""
    return torch.autocast(features.device.type, enabled=False)


def centered(features: Tensor) -> Tensor:
    """Subtract the batch mean."""
    return features - features.mean(0, keepdim=True)


def unit_rows(features: Tensor) -> Tensor:
    """Divide each row by its norm; zeros stay zeros."""
    norms: Tensor = torch.linalg.vector_norm(features, dim=1, keepdim=True)
    return features / (norms + EPSILON)


class FeatureObjective(Objective):
    """Learns from the pooled features of one or several teachers, side by side in the order of ``widths``.

    Before training it looks at the features of all training samples: whether they can be learned from, and what
    ``standardize`` and :meth:`fit` make of them.

    Args:
        student_width: dφ, of the student's pooled features; or of several of its outputs, by name, which are then put
            side by side in their place.
        widths: Of each teacher's pooled features, by its name in the phase; dψ is their sum.
        standardize: Whether to subtract each teacher's mean over the training samples, and to divide by one number a
            teacher, the root of the mean variance of its features, so that no teacher outweighs another by its scale.

    Attributes:
        fits: Whether :meth:`fit` is called; all rows are held in memory for it.
        fits_student: Whether it is given the student's features too, for which the student runs.
    """

    fits: ClassVar[bool] = False
    fits_student: ClassVar[bool] = False

    centers: Tensor
    scales: Tensor

    def __init__(
        self, student_width: int | Mapping[str, int], widths: Mapping[str, int], *, standardize: bool = False
    ) -> None:
        super().__init__()
        if not widths:
            raise ValueError("there must be a teacher whose features can be learned")
        parts = {"features": student_width} if isinstance(student_width, int) else dict(student_width)
        self.needs = Needs(student=frozenset(parts), teachers=dict.fromkeys(widths, frozenset({"features"})))
        self.student_width = sum(parts.values())
        self.student_outputs = tuple(parts)
        self.widths = dict(widths)
        self.width = sum(widths.values())
        self._standardize = standardize
        if standardize:
            self.register_buffer("centers", torch.zeros(self.width))
            self.register_buffer("scales", torch.ones(self.width))

    def fit(self, features: dict[str, Tensor], labels: Tensor | None, student: Tensor | None) -> None:
        """Fit this objective's own state to the training samples.

        Args:
            features: Of each teacher, [N, width], as :meth:`teacher_features` gives them; in the CPU's memory.
            labels: Class numbers, int64 [N], or ``None`` for unlabeled samples.
            student: The student's features at its start, [N, dφ], if ``fits_student``.
        """
        raise NotImplementedError

    def prepare(self, samples: Samples, examples: Iterable[tuple[Batch, StudentOutputs, Targets]]) -> None:
        """Check the features, and fit what depends on them.

        Raises:
            ModelError: A teacher's features are not finite, the same for all samples, or of another width.
        """
        seen = {name: _Seen(name) for name in self.widths}
        rows: dict[str, list[Tensor]] = {name: [] for name in self.widths}
        indices: list[Tensor] = []
        students: list[Tensor] = []
        for batch, student, targets in examples:
            for name, values in self._of_teachers(targets).items():
                values = values.cpu()
                seen[name].add(values)
                if self.fits:
                    rows[name].append(values)
            indices.append(batch.indices.cpu())
            if self.fits_student:
                students.append(self.student_features(student).cpu())
        for each in seen.values():
            each.check()
        if self._standardize:
            self.centers.copy_(torch.cat([each.mean for each in seen.values()]))
            self.scales.copy_(torch.cat([each.scale.expand(len(each.mean)) for each in seen.values()]))
        if self.fits:
            joined = self._standardized(torch.cat([torch.cat(parts) for parts in rows.values()], dim=1))
            features = dict(zip(self.widths, torch.split(joined, list(self.widths.values()), dim=1), strict=True))
            every = None if samples.targets is None else torch.tensor(samples.targets)
            labels = None if every is None else every[torch.cat(indices)]
            self.fit(features, labels, torch.cat(students) if self.fits_student else None)
        if distributed.is_available() and distributed.is_initialized():
            for value in self.state_dict().values():  # all processes have seen the same, but may round otherwise
                distributed.broadcast(value, 0)

    def student_features(self, student: StudentOutputs) -> Tensor:
        """Return the student's features, float32 [B, dφ]."""
        given = student[DEFAULT_GROUP]
        return torch.cat([given.require(name).float() for name in self.student_outputs], dim=1)

    def teacher_features(self, targets: Targets) -> Tensor:
        """Return all teachers' features side by side, float32 [B, dψ].

        Raises:
            ModelError: A teacher's have another width.
        """
        joined = torch.cat(list(self._of_teachers(targets).values()), dim=1)
        return self._standardized(joined)

    def _of_teachers(self, targets: Targets) -> dict[str, Tensor]:
        found: dict[str, Tensor] = {}
        for name, width in self.widths.items():
            values = targets[name][DEFAULT_GROUP].require("features").float()
            if values.ndim != 2 or values.shape[1] != width:
                raise ModelError(
                    f"teacher {name}: its features are {list(values.shape)}, and [B, {width}] was expected; "
                    "store them again, or give the width that they have"
                )
            found[name] = values
        return found

    def _standardized(self, features: Tensor) -> Tensor:
        if not self._standardize:
            return features
        return (features - self.centers.to(features.device)) / self.scales.to(features.device)


class _Seen:
    """What is known of one teacher's features after some batches of them, in float64."""

    def __init__(self, teacher: str) -> None:
        self._teacher = teacher
        self._first: Tensor | None = None
        self._count, self._bad, self._varies = 0, 0, False

    def add(self, features: Tensor) -> None:
        """Take in a batch, [B, width]."""
        self._bad += int((~features.isfinite()).any(dim=1).sum())
        values = features.double()
        if self._first is None:
            self._first = values[:1]
            self.mean = torch.zeros(values.shape[1], dtype=torch.float64)
            self._squares = torch.zeros_like(self.mean)
        self._varies |= bool((values != self._first).any())
        # Means and squares of two groups become those of both (Chan et al., 1979); sums of squares would cancel.
        both, mean = self._count + len(values), values.mean(0)
        apart = mean - self.mean
        self._squares += (values - mean).square().sum(0) + apart.square() * (self._count * len(values) / both)
        self.mean = self.mean + apart * (len(values) / both)
        self._count = both

    def check(self) -> None:
        """Raise if nothing can be learned from these features."""
        if self._bad:
            raise ModelError(
                f"teacher {self._teacher}: its features of {self._bad} of {self._count} training samples are not "
                "finite; use another input size, or another teacher"
            )
        if self._count > 1 and not self._varies:
            raise ModelError(
                f"teacher {self._teacher}: its features are the same for all {self._count} training samples, so "
                "nothing can be learned from them; use another input size, or another teacher"
            )

    @property
    def scale(self) -> Tensor:
        """The root of the mean variance of the features, a scalar; 1 for a single sample."""
        return (self._squares.mean() / self._count).sqrt() if self._varies else torch.ones((), dtype=torch.float64)
