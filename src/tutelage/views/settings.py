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
        teacher_size: Side of the teacher's input; where not given, the teacher's own.
        crop: Share of the short side that evaluation sees; 256/288 for full augmentation, else 1.
    """

    augment: Augmentation | Literal["auto"] = "auto"
    policy: ViewPolicy | None = None
    student_size: int | None = Field(default=None, ge=8, le=4096)
    teacher_size: int | None = Field(default=None, ge=8, le=4096)
    crop: float | None = Field(default=None, gt=0, le=1)

    def resolved(self, short_side: int) -> ViewSettings:
        """Fill in what suits images with this (median) short side, in pixels.

        The student sees images at about 1.5 times their size, since its strides were made for larger ones, in
        steps of 32, from 32 to 256.
        """
        small = short_side < SMALL
        augment: Augmentation = self.augment if self.augment != "auto" else ("light" if small else "full")
        policy = self.policy or POLICIES[augment]
        return ViewSettings(
            augment=augment,
            policy=policy,
            student_size=self.student_size or min(256, 32 * math.ceil(1.5 * short_side / 32)),
            teacher_size=self.teacher_size,
            crop=self.crop or (256 / 288 if augment == "full" else 1.0),
        )
