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


class CurateSettings(Settings):
    """How a transfer set is retrieved from a gallery.

    Attributes:
        gallery: Any unlabeled images, as many as there are.
        size: How many items are retrieved; the labeled images come on top.
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
    size: int = Field(ge=1)
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
            RecipeError: An encoder is named twice, or a template is none.
        """
        if self.strategy not in STRATEGIES:
            raise UnknownNameError("strategy", self.strategy, STRATEGIES, "(curate.strategy)")
        twice = next((name for place, name in enumerate(self.encoders) if name in self.encoders[:place]), None)
        if twice is not None:
            raise RecipeError(f"curate.encoders: {twice!r} is named twice; its similarity would only count double")
        if self.texts and self.templates != (CLIP_TEMPLATES,):
            self.prompts(["class"])
