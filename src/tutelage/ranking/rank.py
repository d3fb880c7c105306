"""Rank teachers on a recipe's labels: each one's features once, then every draw of labels in turn."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tutelage.checks import check_places
from tutelage.data.inspect import inspect
from tutelage.data.prepare import MEASURED, PreparedData, read_parts, sampled_sizes
from tutelage.data.readers import read_samples
from tutelage.data.samples import IntArray, Samples
from tutelage.data.splits import few_shot, folds
from tutelage.errors import ModelError, RecipeError, TutelageError
from tutelage.evaluation.predict import predict_outputs
from tutelage.ledger import Cost, measured
from tutelage.models.model import Model, parameter_count
from tutelage.models.preprocess import TEXTUAL, modality_of
from tutelage.models.sources import build_encoder, check_name, is_path, modality
from tutelage.progress import Progress, Quiet
from tutelage.ranking.ranking import JOIN, Ranked, Ranking, in_order
from tutelage.ranking.scores import Split, score, side_by_side
from tutelage.recipe import Recipe
from tutelage.tasks import TASKS
from tutelage.training.distributed import pick_device


@dataclass(frozen=True)
class Draw:
    """Labels that one seed draws, as rows of all images that are looked at.

    Attributes:
        seed: Of the draw.
        rows: The labeled images.
        splits: What is fitted, and what is held out.
    """

    seed: int
    rows: IntArray
    splits: Sequence[Split]


@dataclass(frozen=True)
class Labels:
    """Every image that a draw or the validation data hold, once.

    Attributes:
        images: Without labels: encoders see no others.
        targets: Their class numbers, int64 [N].
        classes: How many classes there are.
        draws: One of each seed.
        side: Median short side of the images that a student would learn from, in pixels; it decides sizes.
        validation: Whether the draws are judged by given validation data.
    """

    images: Samples
    targets: Tensor
    classes: int
    draws: tuple[Draw, ...]
    side: int
    validation: bool


@dataclass(frozen=True)
class Features:
    """What one encoder makes of all images.

    Attributes:
        values: Float32 [N, D].
        params: Of the encoder.
        cost: Of the features alone.
        seconds: With loading.
    """

    values: Tensor
    params: int
    cost: Cost
    seconds: float


def rank(recipe: Recipe, teachers: Sequence[str], *, seeds: int = 3, progress: Progress | None = None) -> Ranking:
    """Rank pretrained teachers by linear probes on their features of a recipe's labeled images or texts.

    Images are prepared and labels drawn as for a run of the recipe with each seed; every encoder sees them in their
    evaluation view, at the size that a run would use, once. Nothing is kept. Test data are read only to hold them out
    and to leave out labeled images that are copies of them, as everywhere; the transfer set only to learn how large
    images are.

    Args:
        recipe: Says which data, labels and sizes, and what folds and penalties a probe has; its own teacher, student
            and method do not matter.
        teachers: Candidates; ``a+b`` for the features of both side by side, each with a mean norm of 1.
        seeds: Draws of labels, counted from the recipe's seed; one where every draw takes all labels.
        progress: Shows where work is.

    Raises:
        RecipeError: A candidate is named twice, nothing is asked for, or the task tells pixels apart.
        DataError: The data cannot be used.
        ModelError: All candidates failed.
    """
    began, shown = time.perf_counter(), progress or Quiet()
    candidates = split_names(teachers)
    if recipe.dense:
        raise RecipeError(
            f"teachers are ranked by features of whole images, and task {recipe.task!r} tells their pixels apart; "
            'compare them: tutelage compare RECIPE --methods task-oriented-lp --variant "NAME: teacher=…"'
        )
    if seeds < 1:
        raise RecipeError(f"--seeds {seeds}: at least one")
    device = pick_device(recipe.device)
    labels = read_labels(recipe, seeds)
    features: dict[str, Features] = {}
    errors: dict[str, str] = {}
    what = TEXTUAL[labels.images.modality]
    names = list(dict.fromkeys(name for parts in candidates.values() for name in parts))
    for number, name in enumerate(names):
        shown.say(f"[{number + 1}/{len(names)}] {name}: features of {len(labels.images):,} {what}")
        try:
            features[name] = extract(recipe, name, labels, device)
        except Exception as error:  # whatever it is, such as too little memory: the others must not be lost
            errors[name] = _why(error)
            shown.say(f"  failed: {errors[name]}")
    ranked: list[Ranked] = []
    failed: dict[str, str] = {}
    for candidate, parts in candidates.items():
        lost = [name for name in parts if name in errors]
        if lost:
            failed[candidate] = "; ".join(errors[name] for name in lost)
            continue
        try:
            ranked.append(_judged(recipe, candidate, [features[name] for name in parts], labels))
        except Exception as error:
            failed[candidate] = _why(error)
            shown.say(f"{candidate}: failed: {failed[candidate]}")
    if not ranked:
        reasons = "; ".join(f"{name}: {why}" for name, why in failed.items())
        raise ModelError(f"no candidate could be ranked ({reasons})")
    return Ranking(
        in_order(ranked),
        failed,
        seeds=tuple(draw.seed for draw in labels.draws),
        labels=len(labels.draws[0].rows),
        classes=labels.classes,
        held_out=sum(len(held) for _, held in labels.draws[0].splits),
        validation=labels.validation,
        seconds=time.perf_counter() - began,
        modality=labels.images.modality,
    )


def split_names(teachers: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Return the encoders of each candidate; ``a+b`` has two, unless it is the path of a model.

    Raises:
        RecipeError: There is none, one is named twice, or a name is missing beside a ``+``.
    """
    if not teachers:
        raise RecipeError("--teachers: name some, with commas between (tutelage list models)")
    found: dict[str, tuple[str, ...]] = {}
    for candidate in teachers:
        parts = (candidate,) if is_path(candidate) else tuple(part.strip() for part in candidate.split(JOIN))
        if not all(parts):
            raise RecipeError(f"--teachers: {candidate!r} lacks a name; write a+b for the features of both")
        if len(set(parts)) < len(parts):
            raise RecipeError(f"--teachers: {candidate!r} names an encoder twice; its features would be the same")
        twice = next((other for other, theirs in found.items() if set(theirs) == set(parts)), None)
        if twice is not None:
            same = "" if twice == candidate else f", as {twice!r}"
            raise RecipeError(f"--teachers: {candidate!r} is given twice{same}")
        found[candidate] = parts
    return found


def any_teacher(teachers: Sequence[str]) -> dict[str, str]:
    """Return the override with which a recipe can be read whose own teacher does not matter, or is still to be found.

    Raises:
        RecipeError: The candidates are none.
    """
    return {"teacher": next(iter(split_names(teachers).values()))[0]}


def read_labels(recipe: Recipe, seeds: int) -> Labels:
    """Read the labeled images as a run would, and draw labels with each seed; no test image is among them.

    Raises:
        RecipeError: ``data.labels`` is no amount.
        DataError: The data cannot be used, or nothing can be held out.
    """
    check_places(recipe.data)
    settings = recipe.data.model_copy(update={"transfer": None, "pretraining": None})
    data = read_parts(
        settings, modality=recipe.modality
    )  # test images are held out, or looked for among these, and that is all
    drawn = [few_shot(data.labeled, recipe.data.labels, seed=recipe.seed + number) for number in range(seeds)]
    if all(len(rows) == len(data.labeled) for rows in drawn):
        drawn = drawn[:1]  # the same labels each time
    used = np.unique(np.concatenate(drawn))
    labeled, validation = data.labeled.subset(used), data.validation
    targets = labeled.labels()
    held: IntArray = np.arange(len(used), len(used) + (0 if validation is None else len(validation)))

    def draw(number: int, rows: IntArray) -> Draw:
        seed, places = recipe.seed + number, np.searchsorted(used, rows)
        if validation is not None:
            return Draw(seed, places, [(places, held)])
        pairs = folds(targets[places], seed=seed, **recipe.choosing)
        return Draw(seed, places, [(places[fit], places[out]) for fit, out in pairs])

    parts = [labeled] if validation is None else [labeled, validation]
    kind = labeled.modality
    return Labels(
        Samples(
            tuple(name for part in parts for name in part.ids),
            None if kind == "text" else [image for part in parts for image in part.images or ()],
            None if kind == "image" else [text for part in parts for text in part.texts or ()],
            origin=data.labeled.origin,
        ),
        torch.from_numpy(np.concatenate([part.labels() for part in parts])),
        classes=len(data.labeled.classes),
        draws=tuple(draw(number, rows) for number, rows in enumerate(drawn)),
        side=_side(recipe, data) if kind != "text" else 0,
        validation=validation is not None,
    )


def extract(recipe: Recipe, name: str, labels: Labels, device: torch.device) -> Features:
    """Run a pretrained encoder once over all samples.

    Raises:
        UnknownNameError: There is no such model.
        ModelError: It cannot be had, reads something else than the samples are, or makes nothing of them.
    """
    began = time.perf_counter()
    size = recipe.views.teacher_size if modality(name) != "text" else None
    check_name(name, pretrained=True, size=size)
    views = recipe.model_copy(update={"teacher": name}).resolved_views(labels.side)
    encoder = build_encoder(name, pretrained=True, size=views.teacher_size if modality(name) != "text" else None)
    reads, given = modality_of(encoder.preprocess), labels.images.modality
    if given not in ("pair", reads):
        raise ModelError(f"{name}: reads {TEXTUAL[reads]}; name encoders that read {TEXTUAL[given]}")
    encoder.preprocess = recipe.text.read(encoder.preprocess, teaches=True, name=name)
    model = Model(encoder, TASKS[recipe.task].head(encoder.widths, labels.classes))
    model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    crop, cost = views.crop or 1.0, Cost()
    with measured(cost, device):
        values = predict_outputs(model, labels.images, crop=crop, output="features", cost=cost)
    if not bool(values.isfinite().all()):
        key = "text.teacher_length" if reads == "text" else "views.teacher_size"
        raise ModelError(f"{name}: some of its features are not finite; try another {key}")
    return Features(values, parameter_count(encoder), cost, time.perf_counter() - began)


def _judged(recipe: Recipe, candidate: str, parts: Sequence[Features], labels: Labels) -> Ranked:
    began, images = time.perf_counter(), len(labels.images)
    values, penalties = side_by_side([part.values for part in parts]), recipe.adapt.penalties
    scores = [score(values, labels.targets, draw.rows, draw.splits, penalties=penalties) for draw in labels.draws]
    return Ranked(
        candidate,
        tuple(scores),
        width=values.shape[1],
        params=sum(part.params for part in parts),
        flops=sum(part.cost.flops for part in parts) / images,
        feature_seconds=sum(part.cost.seconds for part in parts) / images,
        seconds=sum(part.seconds for part in parts) + time.perf_counter() - began,
    )


def _side(recipe: Recipe, data: PreparedData) -> int:
    """Return the median short side of the transfer images, of which only a few are looked at."""
    if recipe.data.transfer is None:
        return data.short_side
    pool = read_samples(recipe.data.transfer, labeled=False)
    some = pool.subset(np.linspace(0, len(pool) - 1, min(MEASURED, len(pool))).astype(np.int64))
    usable, _ = inspect(some)
    return int(np.median(sampled_sizes(some.subset(usable)).min(axis=1))) if len(usable) else data.short_side


def _why(error: Exception) -> str:
    words = str(error) if isinstance(error, TutelageError) else f"{type(error).__name__}: {error}"
    return " ".join(words.split())
