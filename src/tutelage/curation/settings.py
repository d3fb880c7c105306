"""What a recipe says about curating a transfer set."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field, field_validator

from tutelage.curation.prompts import PLAIN, clip_templates, prompts
from tutelage.curation.strategies import STRATEGIES
from tutelage.errors import RecipeError, UnknownNameError
from tutelage.settings import Settings

Similarity = Annotated[float, Field(gt=0, lt=1)]

CLIP_TEMPLATES = "clip80"

Count = Annotated[int, Field(ge=1)]


class ProbeSettings(Settings):
    """How quick trainings tell how large a transfer set should be.

    Attributes:
        steps: Optimizer steps of each, the same for all sizes; 150 if not given, or as many as show each item of the
            largest set once.
        seeds: Trainings on each size.
    """

    steps: int | None = Field(default=None, ge=1)
    seeds: int = Field(default=3, ge=1)


class CurateSettings(Settings):
    """How a transfer set is retrieved from a gallery.

    Attributes:
        gallery: Any unlabeled images, as many as there are.
        size: How many items are retrieved; the labeled images come on top. ``auto`` for as many as quick trainings
            say are enough (see :mod:`tutelage.curation.probes`).
        sizes: That these try; where not given, and ``size`` is ``auto``, about five up to ``most``.
        most: The largest of them, if the gallery has so many.
        probe: How they train.
        strategy: How they are selected (``tutelage list strategies``).
        encoders: What tells how similar images are: the mean of their cosine similarities; the recipe's teachers if
            none is named.
        input_size: Side of the encoders' input, in pixels; where not given, their own, or less for small images and
            encoders that take any size.
        crops: Random crops of each image, each of them an item; 0 for whole images.
        queries: Most labeled images that are queries, as many of each class as can be; all if not given.
        templates: What makes prompts of class names, each with one ``{}``, for strategies that ask with texts;
            ``clip80`` for CLIP's 80.
        duplicates: Mean similarity of two images above which one of them is left out; ``auto`` for what is known of
            the encoders, or calibrated; ``off`` for exact copies alone.
        leaks: What becomes of retrieved images that may be the task's where nobody has decided: ``drop``, ``keep``,
            or ``ask`` for a review first.
        leak_threshold: Similarity to an image of the task above which a retrieved one may be the same; ``auto`` as
            for ``duplicates``.
    """

    gallery: str
    size: Count | Literal["auto"]
    sizes: tuple[Count, ...] = ()
    most: int = Field(default=10_000, ge=1)
    probe: ProbeSettings = ProbeSettings()
    strategy: str = "query-balanced"
    encoders: tuple[str, ...] = ()
    input_size: int | None = Field(default=None, ge=8, le=4096)
    crops: int = Field(default=0, ge=0, le=100)
    queries: int | None = Field(default=None, ge=1)
    templates: tuple[str, ...] = PLAIN
    duplicates: Similarity | Literal["auto", "off"] = "auto"
    leaks: Literal["drop", "keep", "ask"] = "drop"
    leak_threshold: Similarity | Literal["auto"] = "auto"

    @field_validator("encoders", "templates", mode="before")
    @classmethod
    def _as_several(cls, value: object) -> object:
        return (value,) if isinstance(value, str) else value

    @field_validator("duplicates", mode="before")
    @classmethod
    def _off(cls, value: object) -> object:
        return "off" if value is False else value  # as YAML reads it

    @property
    def probed(self) -> bool:
        """Whether transfer sets of several sizes are tried."""
        return self.size == "auto" or bool(self.sizes)

    @property
    def given(self) -> int | None:
        """How many are asked for; ``None`` where trainings decide."""
        return None if self.size == "auto" else self.size

    @property
    def largest(self) -> int:
        """How many are retrieved at most."""
        return self.given or max(self.sizes, default=self.most)

    @property
    def smallest(self) -> int:
        """The least that is asked for, as far as it is known."""
        return min((*self.sizes, self.given or self.largest))

    @property
    def texts(self) -> bool:
        """Whether the gallery is asked with prompts."""
        return STRATEGIES[self.strategy].queries == "texts"

    def prompts(self, classes: Sequence[str]) -> list[str]:
        """Return the prompts on some classes: all of the first class, then those of the second, and so on.

        Raises:
            RecipeError: A template is none.
        """
        return prompts(classes, clip_templates() if self.templates == (CLIP_TEMPLATES,) else self.templates)

    def check(self) -> None:
        """Check what can be known of the settings alone.

        Raises:
            UnknownNameError: There is no such strategy.
            RecipeError: An encoder is named twice, a template is none, or there is one size to try alone.
        """
        if self.strategy not in STRATEGIES:
            raise UnknownNameError("strategy", self.strategy, STRATEGIES, "(curate.strategy)")
        if len(set(self.sizes)) == 1:
            raise RecipeError(
                f"curate.sizes: {self.sizes[0]} alone has nothing to be compared with; name two or more, or say "
                f"curate.size={self.sizes[0]} and no sizes"
            )
        twice = next((name for place, name in enumerate(self.encoders) if name in self.encoders[:place]), None)
        if twice is not None:
            raise RecipeError(f"curate.encoders: {twice!r} is named twice; its similarity would only count double")
        if self.texts and self.templates != (CLIP_TEMPLATES,):
            self.prompts(["class"])
