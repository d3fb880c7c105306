"""Whether storing targets pays, how many views, and in which form: decided before anything is built.

A plan is a pure function of the recipe and the data. Neither the clock nor the disk has a say, so that the same
recipe gives the same numbers on a faster machine; :class:`Timing` only predicts how long it will take.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from tutelage.errors import RecipeError
from tutelage.store.forms import FLOAT16, INT8, row_bytes, top_form
from tutelage.store.settings import GB

Mode = Literal["auto", "live", "cached"]

DEFAULT_VIEWS = 16
"""Different views stored of each image, unless the recipe says otherwise."""

MIN_VIEWS = 4
"""Fewer views than this are not stored to save room."""

PAYS = 2
"""``auto`` stores targets when there are so many times more epochs than views: storing then halves the passes."""

MANY_CLASSES = 128
"""From more classes than this on, the largest predictions alone may be stored to save room."""

TOP = 32
"""How many of them."""

MANY_DENSE = 32
"""The same for what is told of every pixel, which is hardly ever of more than a few classes."""

TOP_DENSE = 8
"""How many of a pixel's."""


@dataclass(frozen=True)
class TargetPlan:
    """How a student gets its targets.

    Attributes:
        mode: ``live`` runs the teacher on every batch; ``cached`` reads what it said about stored views.
        views: Different views of each image that are stored; 0 for ``live``.
        forms: How each output is stored; empty for ``live``.
        bytes: What the store will take.
        pays_after: Epochs from which on storing takes fewer teacher passes than running it live; 0 for ``live``.
        why: The reason, in plain words.
    """

    mode: Literal["live", "cached"]
    views: int
    forms: Mapping[str, str]
    bytes: int
    pays_after: int
    why: str


def plan_targets(
    mode: Mode,
    *,
    epochs: int,
    images: int,
    shapes: Mapping[str, tuple[int, ...]],
    max_bytes: int,
    views: int | None = None,
    top_k: int | None = None,
    beside: int = 0,
    section: str = "distill",
) -> TargetPlan:
    """Plan how a student gets its targets.

    Storing V views takes V passes of the teacher over the images, where running it live takes one an epoch. What does
    not fit is stored more coarsely (of many classes the largest predictions, features in bytes), then in fewer views.

    Args:
        mode: What the recipe asks for; ``auto`` stores where that halves the teacher's passes and fits.
        epochs: Passes of the student over the images.
        images: How many.
        shapes: Of one row of each output.
        max_bytes: Most that the stores may hold.
        views: Views to store, if the recipe says; never more than epochs.
        top_k: Largest predictions to store, if the recipe says; 0 for all of them.
        beside: Bytes of what is stored with them, once for all views.
        section: Of the recipe that asks for it, for messages.

    Raises:
        RecipeError: ``cached`` is asked for and does not fit.
    """
    if mode == "live":
        return _live("the recipe asks for it")
    wanted = min(views or DEFAULT_VIEWS, epochs)
    if mode == "auto" and epochs < PAYS * wanted:
        return _live(
            f"storing {_counted(wanted, 'view')} of each image takes {wanted} teacher passes, and {epochs} epochs "
            f"take {epochs}; it is worth its room from {PAYS * wanted} epochs on"
        )
    fewest = wanted if views is not None else min(MIN_VIEWS, wanted)
    choices = _forms(shapes, top_k)
    for count, forms in [(wanted, forms) for forms in choices] + [
        (count, choices[-1]) for count in range(wanted - 1, fewest - 1, -1)
    ]:
        size = stored_bytes(images, count, shapes, forms) + beside
        if size <= max_bytes:
            return TargetPlan("cached", count, forms, size, count, _why_cached(epochs, count, images, size))
    needed = stored_bytes(images, fewest, shapes, choices[-1]) + beside
    reason = (
        f"{_counted(fewest, 'view')} of {images:,} images take {in_gb(needed)} as {', '.join(choices[-1].values())}, "
        f"more than store.max_gb={max_bytes / GB:g}"
    )
    if mode == "cached":
        raise RecipeError(
            f"{section}.targets: {reason}; set store.max_gb to at least {math.ceil(needed / GB * 100) / 100:g}, or "
            f"{section}.targets=live"
        )
    return _live(reason)


def stored_bytes(images: int, views: int, shapes: Mapping[str, tuple[int, ...]], forms: Mapping[str, str]) -> int:
    """Return the bytes of a store's targets.

    Args:
        images: How many.
        views: Of each.
        shapes: Of one row of each output.
        forms: How each output is stored.
    """
    return images * views * sum(row_bytes(shape, forms[name]) for name, shape in shapes.items())


def logits_form(classes: int, top_k: int | None) -> str:
    """Return how logits are stored: the ``top_k`` largest, or all of them where that says no more, or is 0."""
    return top_form(top_k) if top_k and top_k < classes else FLOAT16


def kept_classes(forms: Mapping[str, str]) -> int:
    """Return ``top_k`` for logits stored in a plan's form."""
    return int(forms["logits"].removeprefix("top-")) if forms["logits"] != FLOAT16 else 0


@dataclass(frozen=True)
class Timing:
    """Seconds an image, each step alone, on the machine at hand.

    Attributes:
        pack: Decode it and put it into a pack, once.
        view: Cut one view.
        teacher: The teacher's forward pass.
        student: The student's step: forward, backward and update.
    """

    pack: float
    view: float
    teacher: float
    student: float

    def pack_build(self, images: int) -> float:
        """Return the seconds to pack so many images."""
        return images * self.pack

    def target_build(self, images: int, views: int) -> float:
        """Return the seconds to store so many views of each image."""
        return images * views * (self.view + self.teacher)

    def live_epoch(self, images: int) -> float:
        """Return the seconds of an epoch with the teacher."""
        return images * (self.view + self.teacher + self.student)

    def cached_epoch(self, images: int) -> float:
        """Return the seconds of an epoch with stored targets."""
        return images * (self.view + self.student)

    def break_even(self, views: int) -> float:
        """Return after how many epochs building the store has paid: each saves one teacher pass."""
        return views * (self.view + self.teacher) / self.teacher


def in_gb(size: int) -> str:
    """Return a size in words."""
    return f"{size / GB:.2f} GB" if size >= GB / 10 else f"{size / 10**6:.1f} MB"


def _forms(shapes: Mapping[str, tuple[int, ...]], top_k: int | None) -> list[dict[str, str]]:
    """Return the forms to try, the finest first."""

    def form(name: str, shape: tuple[int, ...], *, coarse: bool) -> str:
        if name != "logits":
            return INT8 if coarse else FLOAT16
        if len(shape) > 1:
            many = coarse and top_k is None and shape[0] > MANY_DENSE
            return logits_form(shape[0], TOP_DENSE if many else top_k)
        many = coarse and top_k is None and shape[0] > MANY_CLASSES
        return logits_form(shape[0], TOP if many else top_k)

    fine, coarse = (
        {name: form(name, shape, coarse=coarse) for name, shape in shapes.items()} for coarse in (False, True)
    )
    return [fine] if fine == coarse else [fine, coarse]


def _live(why: str) -> TargetPlan:
    return TargetPlan("live", 0, {}, 0, 0, why)


def _why_cached(epochs: int, views: int, images: int, size: int) -> str:
    return (
        f"{_counted(views, 'teacher pass')} over {images:,} images instead of {epochs}, stored in {in_gb(size)}; it "
        f"pays from epoch {views} on, and a little later for cutting the views once more"
    )


def _counted(count: int, what: str) -> str:
    return f"{count} {what if count == 1 else what + ('es' if what.endswith('s') else 's')}"
