"""What a recipe says about views, and what suits the images where it says nothing."""

from __future__ import annotations

import math
from typing import Literal

from pydantic import Field

from tutelage.settings import Settings
from tutelage.views.policy import POLICIES, Augmentation, ViewPolicy

SMALL = 64
"""Images with a shorter side below this are small: crops of 8 % or flips may destroy what they show."""


class ViewSettings(Settings):
    """Sizes and augmentation.

    Attributes:
        augment: ``none``, ``light`` (mild crops), ``full`` (the source's classification augmentation), or ``auto``:
            light for small images, full otherwise.
        policy: Every parameter spelled out, in place of ``augment``.
        student_size: Side of the student's input, in pixels.
        teacher_size: Side of the teacher's input; where not given, the teacher's own, or less for small images.
        size: Side of the raw views that both see, before each brings them to its own size.
        crop: Share of the short side that evaluation sees; 256/288 for full augmentation, else 1.
    """

    augment: Literal[Augmentation, "auto"] = "auto"
    policy: ViewPolicy | None = None
    student_size: int | None = Field(default=None, ge=8, le=4096)
    teacher_size: int | None = Field(default=None, ge=8, le=4096)
    size: int | None = Field(default=None, ge=8, le=4096)
    crop: float | None = Field(default=None, gt=0, le=1)

    def resolved(self, short_side: int, *, teacher_native: int | None) -> ViewSettings:
        """Fill in what suits images with this (median) short side, in pixels.

        The student sees images at about 1.5 times their size, since its strides were made for larger ones, in
        steps of 32, from 32 to 256; a teacher that takes any size at about twice their size, up to its own.

        Args:
            short_side: Of the images.
            teacher_native: The teacher's own input size if it takes images of any size, else ``None``.
        """
        small = short_side < SMALL
        augment: Augmentation = self.augment if self.augment != "auto" else ("light" if small else "full")
        student_size = self.student_size or min(256, _steps_of_32(1.5 * short_side))
        teacher_size = self.teacher_size
        if teacher_size is None and teacher_native is not None:
            teacher_size = min(teacher_native, max(64, _steps_of_32(2 * short_side)))
        return ViewSettings(
            augment=augment,
            policy=self.policy or POLICIES[augment],
            student_size=student_size,
            teacher_size=teacher_size,
            size=self.size or max(student_size, min(teacher_size or 256, short_side)),
            crop=self.crop or (256 / 288 if augment == "full" else 1.0),
        )


def _steps_of_32(pixels: float) -> int:
    return 32 * math.ceil(pixels / 32)
