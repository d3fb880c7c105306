"""How teachers' features hold a student while it learns from labels: Adaptive Feature Transfer and its rivals."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field, model_validator

from tutelage.errors import ModelError, RecipeError
from tutelage.models.preprocess import Modality
from tutelage.models.sources import modality
from tutelage.objectives import (
    AdaptiveFeatures,
    AdaptiveProduct,
    BTuning,
    Factor,
    Factors,
    FeatureObjective,
    FeatureRegression,
    ProductRegression,
    Relations,
)
from tutelage.settings import Settings
from tutelage.store.plan import DEFAULT_VIEWS
from tutelage.views.policy import ViewPolicy

Strength = Annotated[float, Field(gt=0)]


class RegularizeSettings(Settings):
    """How the teachers' features hold the student.

    Attributes:
        betas: Weights of the regularizer to choose from; the source's grid for the method if not given.
        views: Views of each image whose features are stored; 16 or fewer if not given, and one where all views of an
            image are the same (``views.augment: none``, as in the source).
        standardize: Whether each teacher's features are centered and brought to the same norm first, so that none
            of several outweighs the others by its scale. The source concatenates them as they are.
        noise: Features without meaning, drawn once for each image from a standard normal distribution, that are
            put beside the teachers': to see what a method makes of them.
        variant: Where the source's paper and its released code differ (in ``kd``, ``rkd``, and ``aft`` without a
            kernel), which of them is followed.
        kernel: Of ``aft``: ``linear``; ``rbf``; ``none`` matches the features themselves through a learned map.
        weights: Of the teachers' features in ``aft``: ``diagonal``, one learned weight each; ``identity``, none;
            ``dense``, a learned matrix.
        inner_steps: Updates of those weights a step, the student held fixed; 0 learns both together.
        weight_rate: Learning rate of those weights.
        temperature: Of the teachers' evidence in ``b-tuning``.
    """

    betas: tuple[Strength, ...] | None = Field(default=None, min_length=1)
    views: int | None = Field(default=None, ge=1)
    standardize: bool = False
    noise: int = Field(default=0, ge=0, le=1 << 16)
    variant: Literal["code", "paper"] = "code"
    kernel: Literal["linear", "rbf", "none"] = "linear"
    weights: Literal["diagonal", "identity", "dense"] = "diagonal"
    inner_steps: int = Field(default=0, ge=0, le=100)
    weight_rate: float = Field(default=1e-2, gt=0)
    temperature: float = Field(default=0.1, gt=0)

    @model_validator(mode="after")
    def _something_is_learned(self) -> RegularizeSettings:
        if self.weights == "identity" and self.kernel == "none":
            raise ValueError("kernel: none needs a map to the student's features, which weights: identity rules out")
        if self.weights == "identity" and self.inner_steps:
            raise ValueError("inner_steps: with weights: identity there is nothing to update")
        return self

    def resolved(self, epochs: int, policy: ViewPolicy) -> RegularizeSettings:
        """Fill in how many views are stored.

        Args:
            epochs: Passes over the labels.
            policy: What views are drawn from.
        """
        most = 1 if policy == ViewPolicy(center=policy.center) else min(self.views or DEFAULT_VIEWS, epochs)
        return self.model_copy(update={"views": most})


@dataclass(frozen=True)
class Regularizer:
    """A term that is added to the loss on labels.

    Attributes:
        betas: Its weights to choose from: the source's grid for images (appendix A.1).
        text_betas: The same for texts and pairs (appendix A.2).
        objective: Makes it, given the student's width, the teachers' by name, the number of classes, and a seed.
        reads: Settings that not all of them read.
        product: Makes it for a student of image-text pairs, given what there is of both; ``None`` for those that
            have no form for the product of two features.
    """

    betas: tuple[float, ...]
    text_betas: tuple[float, ...]
    objective: Callable[[int, Mapping[str, int], int, int, RegularizeSettings], FeatureObjective]
    reads: frozenset[str] = frozenset()
    product: Callable[[Sequence[Factor], RegularizeSettings], FeatureObjective] | None = None


def betas_of(name: str, settings: RegularizeSettings, modality: Modality) -> tuple[float, ...]:
    """Return the weights of a regularizer to choose from."""
    regularizer = REGULARIZERS[name]
    return settings.betas or (regularizer.betas if modality == "image" else regularizer.text_betas)


_DISTILLATION = (0.1, 1.0, 10.0, 100.0)
_TEXT_DISTILLATION = (0.01, 0.1, 1.0, 10.0)
_EVIDENCE = (1.0, 1e2, 1e3, 1e4)

REGULARIZERS: dict[str, Regularizer] = {
    "aft": Regularizer(
        (3.0, 10.0, 30.0),
        (1.0, 3.0, 10.0),
        lambda student, widths, classes, seed, settings: AdaptiveFeatures(
            student,
            widths,
            standardize=settings.standardize,
            kernel=settings.kernel,
            weights=settings.weights,
            inner_steps=settings.inner_steps,
            learning_rate=settings.weight_rate,
            variant=settings.variant,
        ),
        frozenset({"kernel", "weights", "inner_steps", "weight_rate", "variant"}),
        lambda factors, settings: AdaptiveProduct(
            factors,
            standardize=settings.standardize,
            kernel=settings.kernel,
            weights=settings.weights,
            inner_steps=settings.inner_steps,
            learning_rate=settings.weight_rate,
        ),
    ),
    "kd": Regularizer(
        _DISTILLATION,
        _TEXT_DISTILLATION,
        lambda student, widths, classes, seed, settings: FeatureRegression(
            student, widths, standardize=settings.standardize, variant=settings.variant
        ),
        frozenset({"variant"}),
        lambda factors, settings: ProductRegression(
            factors, standardize=settings.standardize, variant=settings.variant
        ),
    ),
    "rkd": Regularizer(
        _DISTILLATION,
        _TEXT_DISTILLATION,
        lambda student, widths, classes, seed, settings: Relations(
            student, widths, standardize=settings.standardize, variant=settings.variant
        ),
        frozenset({"variant"}),
    ),
    "ft": Regularizer(
        _DISTILLATION,
        _TEXT_DISTILLATION,
        lambda student, widths, classes, seed, settings: Factors(
            student, widths, standardize=settings.standardize, seed=seed
        ),
    ),
    "b-tuning": Regularizer(
        _EVIDENCE,
        _EVIDENCE,
        lambda student, widths, classes, seed, settings: BTuning(
            student, widths, classes=classes, standardize=settings.standardize, temperature=settings.temperature
        ),
        frozenset({"temperature"}),
    ),
}
"""By the name of their method."""


def make_regularizer(
    name: str,
    student: Mapping[str, int],
    teachers: Mapping[str, int],
    *,
    reads: Modality,
    classes: int,
    seed: int,
    settings: RegularizeSettings,
) -> FeatureObjective:
    """Return a regularizer at its start.

    Args:
        name: Key of :data:`REGULARIZERS`.
        student: Width of each output of the student's encoder.
        teachers: Width of the features of each teacher, by its name.
        reads: What the student reads.
        classes: Of the labels.
        seed: Of what it draws.
        settings: What the recipe says about it.
    """
    found = REGULARIZERS[name]
    if reads != "pair":
        return found.objective(student["features"], teachers, classes, seed, settings)
    assert found.product is not None
    return found.product(_factors(student, teachers), settings)


def check_pair_teachers(teachers: Sequence[str], settings: RegularizeSettings) -> None:
    """Check that teachers can hold a student of image-text pairs.

    Raises:
        ModelError: A teacher reads pairs itself.
        RecipeError: A setting is not for pairs.
    """
    for name in teachers:
        if modality(name) == "pair":
            raise ModelError(
                f"teacher: {name} reads pairs, and a student of pairs is held by teachers of images and teachers of "
                "texts; name one of each, or several"
            )
    if settings.noise:
        raise RecipeError("regularize.noise: is for students of images or of texts alone; leave it out for pairs")
    if settings.kernel == "none" or settings.weights == "dense":
        raise RecipeError(
            f"regularize: kernel: {settings.kernel} with weights: {settings.weights} would need the whole product of "
            "image and text features; for pairs give kernel: linear or rbf, and weights: diagonal or identity"
        )


def _factors(student: Mapping[str, int], teachers: Mapping[str, int]) -> list[Factor]:
    """Return what there is of each modality that a teacher reads."""
    kinds = {name: modality(name) for name in teachers}
    return [
        Factor(f"{kind}_features", student[f"{kind}_features"], widths)
        for kind in ("image", "text")
        if (widths := {name: width for name, width in teachers.items() if kinds[name] == kind})
    ]


_OWN = frozenset().union(*(each.reads for each in REGULARIZERS.values()))


def settings_of(name: str, settings: RegularizeSettings, modality: Modality) -> dict[str, object]:
    """Return the settings that a regularizer reads, plain data, its weights included."""
    data = settings.model_dump(mode="json", exclude=set(_OWN - REGULARIZERS[name].reads))
    return {**data, "betas": list(betas_of(name, settings, modality))}
