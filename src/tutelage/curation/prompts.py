"""Prompts on classes: what a text encoder is asked for images of them with."""

from __future__ import annotations

import re
from collections.abc import Sequence

from tutelage.errors import RecipeError

PLAIN = ("a photo of a {}.",)
"""One prompt a class."""


def clip_templates() -> tuple[str, ...]:
    """Return the 80 templates of Radford et al. (2021)."""
    from open_clip import OPENAI_IMAGENET_TEMPLATES

    return tuple(template("{}") for template in OPENAI_IMAGENET_TEMPLATES)


def prompts(classes: Sequence[str], templates: Sequence[str] = PLAIN) -> list[str]:
    """Return all templates of the first class, then those of the second, and so on.

    Args:
        classes: Names as folders and tables have them: ``AnnualCrop``, ``annual_crop`` and ``annual crop`` are the
            same in words.
        templates: Each with one ``{}`` for the class.

    Raises:
        RecipeError: No classes, no templates, or a template without its ``{}``.
    """
    if not classes or not templates:
        raise RecipeError(f"prompts need classes and templates, got {len(classes)} and {len(templates)}")
    for template in templates:
        if template.count("{}") != 1:
            raise RecipeError(f"the prompt template {template!r} must have exactly one {{}} for the name of a class")
    return [template.replace("{}", in_words(name)) for name in classes for template in templates]


def in_words(name: str) -> str:
    """Return a class name as it would be written in a sentence."""
    apart = re.sub(r"(?<=[a-z])(?=[A-Z][a-z])", " ", name)
    words = re.sub(r"[_\-\s]+", " ", apart).strip()
    return words.lower() if apart != name else words
