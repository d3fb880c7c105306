"""Which models of a comparison are timed, and the file that keeps it: a budget's meaning must not change later."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tutelage.comparison.bank_speed import BANKS
from tutelage.comparison.speeds import Speeds
from tutelage.errors import RunError
from tutelage.methods import METHODS
from tutelage.methods.lessons import Lesson
from tutelage.methods.pairs import Pairing
from tutelage.recipe import Recipe
from tutelage.run import write_json


@dataclass(frozen=True)
class Models:
    """What speeds depend on.

    Attributes:
        teachers: Names; none for a method that has none.
        student: Its name.
        views: Settings, plain data.
        alone: What a step depends on in which the student learns from itself (``DinoSettings.step``); empty for a
            method that has none.
        pairs: What a step depends on in which it learns from image-text pairs (``ClipSettings.step``); empty for a
            method that has none.
    """

    teachers: Sequence[str]
    student: str
    views: Mapping[str, Any]
    alone: Mapping[str, Any] = field(default_factory=dict)
    pairs: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        recipe: Recipe,
        *,
        taught: bool = True,
        alone: Mapping[str, Any] | None = None,
        pairs: Mapping[str, Any] | None = None,
    ) -> Models:
        """Return those of a recipe whose views are resolved; without its teachers for a method that has none."""
        views = recipe.views.model_dump(mode="json")
        return cls(list(recipe.teachers) if taught else [], recipe.student, views, alone or {}, pairs or {})

    @property
    def more(self) -> bool:
        """Whether there is more than a student that learns from labels."""
        return bool(self.teachers or self.alone or self.pairs)

    def include(self, others: Models) -> bool:
        """Return whether others are among these: the same, or the same student that learns from labels alone."""
        if others.more:
            return self == others
        return (self.student, _seen(self.views)) == (others.student, _seen(others.views))


@dataclass(frozen=True)
class Use:
    """What is done with some models.

    Attributes:
        models: Which.
        methods: That use them.
    """

    models: Models
    methods: tuple[str, ...]

    @property
    def lessons(self) -> dict[str, Lesson]:
        """What is taught, by name."""
        found = [METHODS[method].lesson for method in self.methods]
        return {lesson.name: lesson for lesson in found if lesson is not None}

    @property
    def adapted(self) -> bool:
        """Whether the teacher is trained."""
        return any("adapt-finetune" in METHODS[method].stages for method in self.methods)

    @property
    def pairing(self) -> Pairing | None:
        """What pairs teach, if there are any."""
        return next((found for method in self.methods if (found := METHODS[method].pairing) is not None), None)

    def known(self, speeds: Speeds) -> bool:
        """Return whether the speeds say all that is needed."""
        own = [*(["self-distill"] if self.models.alone else []), *(["align"] if self.models.pairs else [])]
        banks = [BANKS] if any(lesson.contrasts for lesson in self.lessons.values()) else []
        steps = {*self.lessons, "student", *own, *banks, *(["teacher"] if self.adapted else [])}
        return steps <= speeds.steps.keys() and (not self.models.teachers or "teacher" in speeds.passes)


Timed = list[tuple[Models, Speeds]]
"""Speeds beside what they are of."""


def uses(asked: Iterable[tuple[str, Models]]) -> list[Use]:
    """Return what has to be timed: each set of models once.

    Args:
        asked: Each method with its models.
    """
    found: list[Use] = []
    # Those without a teacher come last: the student of any other tells how fast theirs is.
    for method, models in sorted(asked, key=lambda each: not each[1].more):
        place = next((place for place, use in enumerate(found) if use.models.include(models)), len(found))
        known = found[place].methods if place < len(found) else ()
        found[place : place + 1] = [Use(found[place].models if known else models, (*known, method))]
    return found


def timed(known: Timed, wanted: Iterable[Use], measure: Callable[[Use], Speeds]) -> Timed:
    """Return the speeds of all that is wanted; what is known stays as it is, and only what is not is measured."""
    found = list(known)
    for use in wanted:
        place = next((place for place, (models, _) in enumerate(found) if models.include(use.models)), None)
        if place is None:
            found.append((use.models, measure(use)))
        elif not use.known(found[place][1]):
            found[place] = (found[place][0], found[place][1].with_more(measure(use)))
    return found


def write_timed(path: Path, found: Timed) -> None:
    """Write speeds.

    Raises:
        RunError: They cannot be written.
    """
    write_json(
        path, {"measured": [{"of": dataclasses.asdict(models), **speeds.as_dict()} for models, speeds in found]}
    )


def read_timed(path: Path, own: Models) -> Timed:
    """Read what :func:`write_timed` wrote; nothing if there is no file.

    Args:
        path: The file.
        own: Models of what was written before there were variants.

    Raises:
        RunError: It is damaged.
    """
    if not path.exists():
        return []
    try:
        data = json.loads(path.read_text())
        each = data.get("measured", [{"of": dataclasses.asdict(own), **data}])
        return [(Models(**one["of"]), Speeds.from_dict(one)) for one in each]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise RunError(f"{path}: holds no speeds ({error}); remove it to measure them again") from error


def _seen(views: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in views.items() if key != "teacher_size"}
