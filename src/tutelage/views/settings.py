"""What a recipe says about views, and what suits the images where it says nothing."""

from __future__ import annotations

import math
from typing import Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer

from tutelage.errors import RecipeError
from tutelage.settings import Settings
from tutelage.views.policy import POLICIES, WHOLE, Augmentation, ViewPolicy

SMALL = 64
"""Images with a shorter side below this are small: crops of 8 % or flips may destroy what they show."""

_FLAT: tuple[Augmentation, ...] = ("light", "full")
_DENSE: tuple[Augmentation, ...] = ("dense-light", "dense")


class ViewSettings(Settings):
    """Sizes and augmentation.

    Attributes:
        augment: ``none``, ``light`` (mild crops), ``full`` (the source's classification augmentation), or ``auto``:
            light for small images, full otherwise. For dense tasks, likewise: ``none``, ``dense-light``, ``dense``.
            For image-text pairs ``auto`` is ``none``, as in the source, since a crop or a flip may make a text wrong,
            and none of them mixes.
        policy: Every parameter spelled out, in place of ``augment``.
        student_size: Side of the student's input, in pixels.
        teacher_size: Side of the teacher's input; where not given, the teacher's own, or less for small images.
        size: Side of the raw views that both see, before each brings them to its own size.
        crop: Share of the short side that evaluation sees; 256/288 for full augmentation, else 1. Dense tasks see
            whole images.
        window: Whether dense tasks are evaluated by a square window that is moved over an image, whose short side is
            then the student's size, in place of all of it at once.
    """

    augment: Literal[Augmentation, "auto"] = "auto"
    policy: ViewPolicy | None = None
    student_size: int | None = Field(default=None, ge=8, le=4096)
    teacher_size: int | None = Field(default=None, ge=8, le=4096)
    size: int | None = Field(default=None, ge=8, le=4096)
    crop: float | None = Field(default=None, gt=0, le=1)
    window: bool = False

    @model_serializer(mode="wrap")
    def _without_window(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # Fingerprints are taken of this: those of views that are seen as a whole are as old as the views.
        data: dict[str, Any] = serialize(self)
        return data if self.window else {key: value for key, value in data.items() if key != "window"}

    def resolved(
        self, short_side: int, *, teacher_native: int | None, dense: bool = False, pairs: bool = False
    ) -> ViewSettings:
        """Fill in what suits images with this (median) short side, in pixels.

        The student sees images at about 1.5 times their size, since its strides were made for larger ones, in
        steps of 32, from 32 to 256; a teacher that takes any size at about twice their size, up to its own. For dense
        tasks both see images at their own size, in steps of 32, from 64 to 512.

        Args:
            short_side: Of the images.
            teacher_native: The teacher's own input size if it takes images of any size, else ``None``.
            dense: Whether the task is dense: its pixels have classes.
            pairs: Whether every image has a text, which its views must not lose.

        Raises:
            RecipeError: Augmentation or policy are for the other kind of task; sizes that dense tasks do not allow; a
                policy mixes pairs.
        """
        if self.policy is not None and (self.policy.dense is not None) != dense:
            raise RecipeError(
                "views.policy: this task has a class for every pixel; give the policy a part named dense"
                if dense
                else "views.policy.dense: is for tasks with a class for every pixel; leave it out"
            )
        if self.augment in (_FLAT if dense else _DENSE):
            known = ", ".join(("auto", "none", *(_DENSE if dense else _FLAT)))
            raise RecipeError(f"views.augment: {self.augment!r} is not for this task; give one of {known}")
        if dense:
            return self._dense(short_side)
        if self.window:
            raise RecipeError("views.window: is for tasks with a class for every pixel; leave it out")
        small = short_side < SMALL
        if self.augment != "auto":
            augment: Augmentation = self.augment
        else:
            augment = "none" if pairs else "light" if small else "full"
        student_size = self.student_size or min(256, _steps_of_32(1.5 * short_side))
        teacher_size = self.teacher_size
        if teacher_size is None and teacher_native is not None:
            teacher_size = min(teacher_native, max(64, _steps_of_32(2 * short_side)))
        return ViewSettings(
            augment=augment,
            policy=self._policy(augment, pairs=pairs),
            student_size=student_size,
            teacher_size=teacher_size,
            size=self.size or max(student_size, min(teacher_size or 256, short_side)),
            crop=self.crop or (256 / 288 if augment == "full" else 1.0),
        )

    def _policy(self, augment: Augmentation, *, pairs: bool) -> ViewPolicy:
        if self.policy is None:
            return POLICIES[augment].model_copy(update={"mixup": 0.0, "cutmix": 0.0}) if pairs else POLICIES[augment]
        if pairs and (self.policy.mixup or self.policy.cutmix):
            raise RecipeError(
                "views.policy: mixes images, whose texts cannot be mixed with them; leave mixup and cutmix out"
            )
        return self.policy

    def of_texts(self) -> ViewSettings:
        """Return the views of texts, which are seen as they are.

        Raises:
            RecipeError: Something is asked for that only images have.
        """
        asked = sorted(self.model_fields_set - {"augment"})
        if self.augment not in ("auto", "none"):
            asked.append("augment")
        if any(getattr(self, name) not in (None, False, POLICIES["none"]) for name in asked):
            raise RecipeError(
                f"views.{', views.'.join(asked)}: the student reads texts, which have no sizes and are not "
                "augmented; leave views out, and give lengths under text"
            )
        return ViewSettings(augment="none", policy=POLICIES["none"])

    def _dense(self, short_side: int) -> ViewSettings:
        small = short_side < SMALL
        augment: Augmentation = self.augment if self.augment != "auto" else ("dense-light" if small else "dense")
        sizes = {each for each in (self.size, self.student_size, self.teacher_size) if each is not None}
        size = min(sizes, default=min(512, max(64, _steps_of_32(short_side))))
        if len(sizes) > 1 or size % 8:
            given = ", ".join(str(each) for each in sorted(sizes))
            raise RecipeError(
                f"views: student_size, teacher_size and size are {given}; with a class for every pixel, give "
                "all three the same multiple of 8"
            )
        if self.crop not in (None, 1.0):
            raise RecipeError(f"views.crop: is {self.crop}, and this task evaluates whole images; leave it out")
        return ViewSettings(
            augment=augment,
            policy=self.policy or (WHOLE if augment == "none" else POLICIES[augment]),
            student_size=size,
            teacher_size=size,
            size=size,
            crop=1.0,
            window=self.window,
        )


def _steps_of_32(pixels: float) -> int:
    return 32 * math.ceil(pixels / 32)
