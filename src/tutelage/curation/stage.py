"""The stage ``curate`` of a run: from a recipe's gallery to the transfer set that the run learns from."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tutelage.curation.curate import Curator, Task
from tutelage.curation.embedder import Embedder, EngineName, Place, encoder_size
from tutelage.curation.probes import check_probes, measure, probe_inputs, sizes_to_try
from tutelage.curation.prompts import PLAIN
from tutelage.curation.record import ABOUT, about_curation, write_record
from tutelage.curation.settings import CurateSettings
from tutelage.curation.strategies import STRATEGIES
from tutelage.curation.suspects import (
    FOLDER,
    SUSPECTS,
    Part,
    ReviewNeeded,
    Suspect,
    read_decisions,
    read_suspects,
    undecided,
    write_suspects,
)
from tutelage.curation.transfer_set import FILE
from tutelage.data.prepare import PreparedData, with_transfer
from tutelage.data.readers import check_data
from tutelage.data.readers.stream import stream_samples
from tutelage.data.samples import Samples
from tutelage.data.splits import share_of
from tutelage.errors import ModelError, RecipeError
from tutelage.ledger import Cost, measured
from tutelage.models.preprocess import Modality
from tutelage.models.sources import check_name, modality
from tutelage.models.text_towers import EXAMPLE
from tutelage.progress import Progress
from tutelage.run import Run, Stage, fingerprint_of, write_json
from tutelage.training.distributed import World

if TYPE_CHECKING:
    from tutelage.recipe import Recipe

CURATION = 1
"""Version of what a curation finds, beside what its embeddings are."""


def curate(
    recipe: Recipe,
    data: PreparedData,
    run: Run,
    here: World,
    progress: Progress,
    *,
    engine: EngineName = "local",
) -> Stage:
    """Curate the transfer set of a recipe, or find it curated.

    Args:
        recipe: With a gallery.
        data: All else: labels drawn, and all other images of the task.
        run: The run folder.
        here: Device and processes.
        progress: Shows where work is.
        engine: What embeds the gallery and searches it.

    Raises:
        ReviewNeeded: A person has to decide on suspects first.
        TutelageError: Anything else that cannot be done; embeddings that were finished stay.
    """
    settings = settings_of(recipe)
    task, sizes = task_of(recipe, data), encoder_sizes(recipe, data)
    decisions = read_decisions(run.folder)
    unread = () if settings.probed else ("sizes", "most", "probe")
    version = STRATEGIES[settings.strategy].version
    inputs = {
        "curation": CURATION,
        "curate": settings.model_dump(mode="json", exclude={"encoders", "input_size", *unread}),
        "encoders": [[name, size] for name, size in sizes.items()],
        "gallery": _gallery_fingerprint(settings.gallery, recipe.modality),
        "labeled": task.labeled.fingerprint,
        "task": {part: samples.fingerprint for part, _, samples in task.parts},
        "places": [where for _, where, _ in task.parts],
        "seed": recipe.seed,
        "decisions": fingerprint_of(decisions),
        **({"quality": probe_inputs(recipe, data)} if settings.probed else {}),
        **({"selection": version} if version > 1 else {}),
        **({} if recipe.modality == "image" else {"text": recipe.text.model_dump(mode="json")}),
    }
    place = Place(recipe.store.root(run.folder), recipe.store.max_bytes, here.device, progress, engine)
    work = functools.partial(_work, recipe, data, task, sizes, run, here, place)
    stage = run.stage("curate", inputs, work)
    here.barrier()  # what one process has written, all read
    return stage


def curated(recipe: Recipe, data: PreparedData, stage: Stage) -> PreparedData:
    """Return the data with the transfer set of a finished stage.

    Raises:
        DataError: An image of it is gone, or more cannot be used than the recipe tolerates.
    """
    return with_transfer(data, recipe.data, str(stage.folder / FILE))


def assumed(recipe: Recipe, data: PreparedData) -> PreparedData:
    """Return the data with as many stand-ins as the transfer set of a recipe will have: nothing is curated yet."""
    settings = settings_of(recipe)
    used = len(data.labeled) if settings.queries is None else min(settings.queries, len(data.labeled))
    assert data.pool is not None
    count = settings.largest + used
    images = data.pool.subset(np.arange(count) % len(data.pool))
    transfer = replace(images, ids=tuple(f"{number}" for number in range(count)), origin=settings.gallery)
    return replace(data, transfer=transfer)


def settings_of(recipe: Recipe) -> CurateSettings:
    """Return what a recipe says about its transfer set, the encoders filled in.

    Raises:
        RecipeError: It says nothing.
    """
    if recipe.curate is None:
        raise RecipeError("curate: the recipe names no gallery; add curate.gallery and curate.size")
    found = recipe.curate.model_copy(update={"encoders": recipe.curate.encoders or recipe.teachers})
    if recipe.modality == "text" and found.templates == PLAIN:
        return found.model_copy(update={"templates": ("{}",)})  # a class is a word, and no photo
    return found


def encoder_sizes(recipe: Recipe, data: PreparedData) -> dict[str, int | None]:
    """Return the names of a recipe's encoders, each with the side of its input."""
    settings = settings_of(recipe)
    if recipe.modality == "text":
        return dict.fromkeys(settings.encoders)
    views = recipe.plain().views if recipe.dense else recipe.views
    return {name: encoder_size(name, settings, views, data.short_side) for name in settings.encoders}


def check_gallery(recipe: Recipe) -> None:
    """Check that there is a gallery, and that a recipe's encoders can be had, before anything is read.

    Raises:
        DataError: There is no gallery.
        UnknownNameError: There is no such model.
        ModelError: It has no weights, its package is missing, the size does not fit, or the gallery is asked with
            prompts and it has no text tower.
        RecipeError: Sizes are to be tried without a teacher, or with several; or texts are to be cropped, or pairs
            retrieved.
    """
    settings, reads = settings_of(recipe), recipe.modality
    if reads == "pair":
        raise RecipeError("curate: images or texts are retrieved, not pairs; give data.transfer")
    if reads == "text" and (settings.crops or settings.input_size is not None):
        key = "crops" if settings.crops else "input_size"
        raise RecipeError(f"curate.{key}: is for images, and this recipe's samples are texts; leave it out")
    check_probes(recipe, settings)
    check_data(settings.gallery)
    for name in settings.encoders:
        check_name(name, pretrained=True, size=settings.input_size)
        if modality(name) != reads:
            raise ModelError(
                f"curate.encoders: {name} reads {modality(name)}s, and what is retrieved here are {reads}s; name an "
                f"encoder of {reads}s"
            )
        if settings.texts and reads == "image" and not name.startswith("openclip:"):
            raise ModelError(
                f"curate.encoders: {name} has no text tower here, and strategy {settings.strategy!r} asks with "
                f"prompts; name a CLIP model of open_clip, such as {EXAMPLE}, or take another strategy"
            )


def check_queries(recipe: Recipe, data: PreparedData) -> None:
    """Check what can be known of a curation once the labels are drawn.

    Raises:
        UnknownNameError: There is no such model.
        ModelError: A size that suits the images does not fit an encoder.
        RecipeError: There are more queries than items asked for, and each is to get some.
    """
    settings = settings_of(recipe)
    for name, size in encoder_sizes(recipe, data).items():
        check_name(name, pretrained=True, size=size)
    if not STRATEGIES[settings.strategy].balanced:
        return
    queries = settings.prompts(data.labeled.classes) if settings.texts else data.labeled.ids
    count = len(queries) if settings.texts else min(len(queries), settings.queries or len(queries))
    if settings.smallest < count:
        labeled = (f"labeled {recipe.modality}s", "queries (curate.queries)")
        what, fewer = ("prompts", "templates") if settings.texts else labeled
        asked = "size" if settings.given == settings.smallest else "sizes" if settings.sizes else "most"
        raise RecipeError(
            f"curate.{asked}={settings.smallest}: cannot be balanced over {count} {what}, each of which gets one at "
            f"least; ask for {count} or more, or for fewer {fewer}"
        )


def task_of(recipe: Recipe, data: PreparedData) -> Task:
    """Return what a transfer set is curated for."""
    labeled = recipe.data.labeled

    def place(where: str | None) -> str:
        return labeled if where is None or share_of(where) is not None else where

    assert data.pool is not None
    held: list[tuple[Part, str, Samples | None]] = [
        ("validation", place(recipe.data.validation), data.validation),
        ("test", place(recipe.data.test), data.test),
    ]
    parts: list[tuple[Part, str, Samples]] = [("train", labeled, data.pool)]
    parts += [(part, where, samples.without_targets()) for part, where, samples in held if samples is not None]
    return Task(data.labeled, parts, recipe.seed)


def _work(
    recipe: Recipe,
    data: PreparedData,
    task: Task,
    sizes: Mapping[str, int | None],
    run: Run,
    here: World,
    place: Place,
    folder: Path,
) -> tuple[dict[str, Any], dict[str, Any]]:
    settings = settings_of(recipe)
    with measured(Cost(), place.device) as cost:
        embedder = Embedder(sizes, place, recipe.text)
        curator = Curator(settings, task, embedder, read_decisions(run.folder))
        tried = sizes_to_try(settings, curator) if settings.probed else ()
        found = curator.curate(max((*tried, *filter(None, [settings.given]))))
        # Before anything learns from what a person may take for a leak.
        _review(settings, curator, run)
    quality, trained = None, Cost()
    if len(tried) > 1:
        quality, trained = measure(recipe, data, curator, tried, run, here, place.progress)
    with measured(cost, place.device):
        if quality is not None:
            size, _ = quality.chosen(settings.given)
            found = curator.curate(size)
        about = about_curation(settings, curator, found, quality)
        if run.writes:
            write_record(folder, settings, curator, found)
    # Embedding counts as what it took whoever did it, in place of the moment that finding it took.
    cost.seconds += embedder.cost.seconds - embedder.seconds + trained.seconds
    cost.images, cost.flops = embedder.cost.images + trained.images, embedder.cost.flops + trained.flops
    spent = cost.as_dict()
    if run.writes:
        write_json(folder / ABOUT, {**about, "cost": spent})
    return _results(about), spent


def _results(about: Mapping[str, Any]) -> dict[str, Any]:
    """Return what of a curation is plain counts, for manifests."""
    lists = ("per_query", "query_classes", "query_ids", "histograms", "quality")
    return {name: value for name, value in about.items() if name not in lists}


def _review(settings: CurateSettings, curator: Curator, run: Run) -> None:
    """Write what a person may look at, and stop where one has to.

    Raises:
        ReviewNeeded: There are suspects to be decided on.
    """
    found = sorted(curator.decontamination.suspects.values(), key=lambda suspect: -suspect.similarity)
    left, total = undecided(found, read_decisions(run.folder)), len(found)
    if run.shared:  # one review serves all that is curated here
        keys = {suspect.key for suspect in found}
        found += [suspect for suspect in _before(run.folder) if suspect.key not in keys]
    if run.writes and (found or (run.folder / FOLDER / SUSPECTS).exists()):
        write_suspects(run.folder, found, list(dict.fromkeys(where for _, where, _ in curator.task.parts)))
    if settings.leaks == "ask" and left:
        raise ReviewNeeded(run.folder, len(left), total)


def _before(folder: Path) -> Sequence[Suspect]:
    return read_suspects(folder) if (folder / FOLDER / SUSPECTS).exists() else ()


def _gallery_fingerprint(where: str, modality: Modality) -> str:
    """Return what identifies all that a gallery holds; nothing is decoded."""
    digest = hashlib.sha256()
    for chunk in stream_samples(where, modality=modality):
        digest.update(chunk.fingerprint.encode())
    return digest.hexdigest()
