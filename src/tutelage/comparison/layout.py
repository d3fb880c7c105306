"""The recipe, data and job of each cell of a grid."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tutelage.checks import check_folds, check_models, check_places, check_texts, resolve
from tutelage.comparison.forecast import method_cost, within
from tutelage.comparison.grid import Grid, recipe_of
from tutelage.comparison.speeds import Speeds, measure_speeds
from tutelage.comparison.table import BEST, Cell, Spent
from tutelage.comparison.timed import Models, Timed, Use, read_timed, timed, uses, write_timed
from tutelage.comparison.variants import blaming
from tutelage.curation.embedder import Place
from tutelage.curation.forecast import CurationForecast
from tutelage.curation.settings import CurateSettings
from tutelage.curation.stage import assumed, check_gallery, check_queries, curate, curated
from tutelage.data.prepare import PreparedData, draw_labels, read_parts, sampled_sizes
from tutelage.data.settings import DataSettings
from tutelage.errors import RecipeError
from tutelage.methods import METHODS
from tutelage.methods.job import Job
from tutelage.methods.pretraining import pretraining_section
from tutelage.pipeline import make_job
from tutelage.progress import Progress, Quiet
from tutelage.recipe import Recipe
from tutelage.run import Run, Stage
from tutelage.tasks import TASKS
from tutelage.training.distributed import World, pick_device

SPEEDS = "speeds.json"
"""Measured once in a comparison's folder: a budget's meaning must not change when it is resumed."""


class Layout:
    """What is common to all cells, and what is special to each.

    Every transfer set is read once. All cells see views of the same sizes and policy, those that suit the labeled
    images: else another transfer set, or another teacher, would change more than what is learned from. A variant may
    ask for others.

    Args:
        recipe: What is common to all cells, not resolved.
        grid: The axes.
        folder: The comparison's.
        here: Device and processes.

    Attributes:
        recipe: With its views resolved.
        grid: The axes.
        test: Labeled test data.

    Raises:
        RecipeError: There is no test set.
        TutelageError: Data or models cannot be had.
    """

    def __init__(self, recipe: Recipe, grid: Grid, folder: Path, here: World) -> None:
        if recipe.data.test is None:
            raise RecipeError("data.test: methods are compared on test data; give some, or a share such as 20%")
        pick_device(recipe.device)
        data: dict[str, DataSettings] = {}
        for name, place in grid.transfers.items():
            path = None if isinstance(place, CurateSettings) else place
            data[name] = recipe.data.model_copy(update={"transfer": path})
            check_places(data[name])
            if isinstance(place, CurateSettings):
                check_gallery(recipe.model_copy(update={"data": data[name], "curate": place}))
        self.grid, self._asked = grid, recipe
        self._check_models(lambda cell: recipe_of(recipe, grid, cell))
        kind: dict[str, Any] = {"task": recipe.task, "modality": recipe.modality}
        read = {each.transfer: read_parts(each, **kind) for each in _different(data.values())}
        self._data = {name: read[settings.transfer] for name, settings in data.items()}
        for parts in self._data.values():
            check_texts(recipe, parts)
        first = self._any
        assert first.test is not None
        self.test = first.test
        for seed in grid.seeds:
            for labels in grid.labels:
                drawn = draw_labels(first, labels, seed=seed)
                if drawn.validation is None:
                    check_folds(recipe, drawn.labeled, seed=seed)
        for cell in self._curations():
            curating = self._curating(cell)
            assert curating is not None
            check_queries(curating, self._drawn_data(cell))
        images = first.labeled.images is not None
        self._side = int(np.median(sampled_sizes(first.labeled).min(axis=1))) if images else 0
        self.recipe = recipe.with_views(self._side)
        self._check_models(self._recipe)
        self._folder, self._here = folder, here
        self._timed: Timed = []
        root, most = recipe.store.root(folder), recipe.store.max_bytes
        self._forecast = CurationForecast(Place(root, most, here.device, Quiet()))

    @property
    def _any(self) -> PreparedData:
        return next(iter(self._data.values()))

    def _whole(self, cell: Cell) -> PreparedData:
        """Return the data of a cell, no label drawn yet."""
        return self._any if cell.transfer is None else self._data[cell.transfer]

    def job(self, cell: Cell, run: Run, progress: Progress) -> Job:
        """Return the job of a cell, within its budget.

        Raises:
            TutelageError: The budget or the data do not allow it.
        """
        data, curation = self._curated(cell, run, progress)
        asked = self._recipe(cell)
        if cell.compute != BEST:
            asked = self._within_budget(asked, cell, data, run, curation)
        return make_job(resolve(asked, data), data, run, self._here, progress, curation=curation)

    def _drawn_data(self, cell: Cell) -> PreparedData:
        return draw_labels(self._whole(cell), cell.labels, seed=cell.seed)

    def curation_cost(self, cell: Cell) -> Spent:
        """Return what curating a cell's transfer set will cost; what it shares with those before is counted there."""
        curating = self._curating(cell)
        assert curating is not None
        found = self._forecast.of(curating, self._drawn_data(cell))
        return Spent(found.seconds, found.flops)

    def _curations(self) -> list[Cell]:
        """Return a cell of each transfer set that is curated, of each number of labels and each seed."""
        found = {
            (cell.transfer, cell.labels, cell.seed): cell
            for cell in self.grid.cells
            if cell.transfer is not None and isinstance(self.grid.transfers[cell.transfer], CurateSettings)
        }
        return list(found.values())

    def _curating(self, cell: Cell) -> Recipe | None:
        """Return the recipe that curates a cell's transfer set, if that is curated: the same one for all variants."""
        place = None if cell.transfer is None else self.grid.transfers[cell.transfer]
        if not isinstance(place, CurateSettings):
            return None
        data = self._asked.data.model_copy(update={"labels": cell.labels, "transfer": None})
        return self._asked.model_copy(update={"seed": cell.seed, "data": data, "curate": place})

    def _curated(self, cell: Cell, run: Run, progress: Progress) -> tuple[PreparedData, Stage | None]:
        """Return the data of a cell, its transfer set curated if it is to be, and the stage that did it.

        Where stages are only planned, and it is not finished, there are stand-ins and no stage.
        """
        data, curating = self._drawn_data(cell), self._curating(cell)
        if curating is None:
            return data, None
        stage = curate(curating, data, run, self._here, progress)
        if not stage.results:
            return assumed(curating, data), None
        return curated(curating, data, stage), stage

    def _transfer_images(self, cell: Cell) -> int:
        data, curating = self._drawn_data(cell), self._curating(cell)
        return len((data if curating is None else assumed(curating, data)).transfer)

    def about(self, command: str, seconds: float) -> dict[str, Any]:
        """Return what was compared, as :attr:`tutelage.comparison.table.Comparison.about` has it."""
        device = self._here.device
        variants = {variant.name: dict(variant.settings) for variant in self.grid.variants if variant.name}
        curations = {
            name: place.model_dump(mode="json", exclude_defaults=True)
            for name, place in self.grid.transfers.items()
            if isinstance(place, CurateSettings)
        }
        return {
            "task": self.recipe.task,
            "modality": self.recipe.modality,
            "metric": self.metric,
            "student": self.recipe.student,
            "teacher": self.recipe.teacher,
            "classes": len(self._any.labeled.classes),
            "test_images": len(self.test),
            "transfer": self._transfers(),
            **({"curated": curations} if curations else {}),
            **({"variants": variants} if variants else {}),
            "command": command,
            "recipe": self.recipe.to_yaml(),
            "planned": len(self.grid.cells),
            "seconds": seconds,
            "device": str(device),
        }

    def _transfers(self) -> dict[str, int]:
        """Return how many images each transfer set has; of curated ones, for the most labels."""
        curations = [name for name, place in self.grid.transfers.items() if isinstance(place, CurateSettings)]
        found = {name: 0 if name in curations else len(data.transfer) for name, data in self._data.items()}
        for cell in self._curations():
            assert cell.transfer is not None
            found[cell.transfer] = max(found[cell.transfer], self._transfer_images(cell))
        return found

    @property
    def metric(self) -> str:
        """The task's primary metric."""
        return TASKS[self.recipe.task].primary

    def speeds(self, cell: Cell) -> Speeds:
        """Return what one image costs a cell's models: as measured before in this folder, or measured now."""
        if not self._timed:
            self._timed = timed(self._kept(), self._uses(), self._measured)
        models = self._models(cell)
        return next(speeds for each, speeds in self._timed if each.include(models))

    def keep_speeds(self) -> None:
        """Keep the speeds in the folder where budgets depend on them, so that all processes work by the same ones."""
        if not self.grid.budgets:
            return
        known = self._kept()
        found = timed(known, self._uses(), self._measured)
        self._here.barrier()  # before one process writes it, all have looked
        if self._here.first and found != known:
            write_timed(self._folder / SPEEDS, found)
        self._here.barrier()
        self._timed = self._kept()

    def _kept(self) -> Timed:
        return read_timed(self._folder / SPEEDS, Models.of(self.recipe))

    def _models(self, cell: Cell) -> Models:
        recipe, method, alone = self._recipe(cell), METHODS[cell.method], None
        if "self-distill" in method.stages:
            images = self._transfer_images(cell)
            alone = recipe.dino.resolved(images, student=recipe.student, views=recipe.plain().views).step
        pairs, told = None, self._whole(cell).pairs
        if method.pairing is not None and told is not None:
            pairs = recipe.clip.step(len(told))
        return Models.of(recipe, taught=method.needs_teacher, alone=alone, pairs=pairs)

    def _uses(self) -> list[Use]:
        return uses((cell.method, self._models(cell)) for cell in self._kinds())

    def _kinds(self) -> list[Cell]:
        """Return a cell of each method, variant and transfer set; models do not depend on what the rest is."""
        found: dict[tuple[str, str, str | None], Cell] = {}
        for cell in self.grid.cells:
            found.setdefault((cell.method, cell.variant, cell.transfer), cell)
        return list(found.values())

    def _measured(self, use: Use) -> Speeds:
        some = next(cell for cell in self._kinds() if self._models(cell) == use.models)
        data = draw_labels(self._whole(some), max(self.grid.labels, key=self._drawn), seed=some.seed)
        curating = self._curating(some)
        if curating is not None:
            data = assumed(curating, data)
        job = make_job(resolve(self._recipe(some), data), data, Run(self._folder), self._here, Quiet())
        models = use.models
        return measure_speeds(
            job,
            use.lessons,
            teacher=bool(models.teachers),
            adapted=use.adapted,
            alone=bool(models.alone),
            pairing=use.pairing,
        )

    def _drawn(self, labels: str) -> int:
        return len(draw_labels(self._any, labels, seed=self.grid.seeds[0]).labeled)

    def _within_budget(
        self, asked: Recipe, cell: Cell, data: PreparedData, run: Run, curation: Stage | None
    ) -> Recipe:
        """Return a cell's recipe with as many epochs as its budget allows of what its method can do longer."""
        budget = next(each for each in self.grid.budgets if each.name == cell.compute)
        method = METHODS[cell.method]
        part = "pseudo_label" if method.rounds else pretraining_section(method.stages) or "finetune"

        def with_epochs(epochs: int) -> tuple[Recipe, Spent]:
            longer = getattr(asked, part).model_copy(update={"epochs": epochs})
            recipe = asked.model_copy(update={part: longer})
            job = make_job(resolve(recipe, data), data, run, self._here, Quiet(), curation=curation)
            return recipe, method_cost(job, self.speeds(cell))

        return within(budget, with_epochs)

    def _recipe(self, cell: Cell) -> Recipe:
        """Return the recipe of a cell, its views resolved; its budget is left aside."""
        asked, common = recipe_of(self._asked, self.grid, cell), self.recipe.views
        if not METHODS[cell.method].needs_teacher:
            # What it never sees must not make another cell of it.
            views = asked.views.model_copy(update={"teacher_size": self._asked.views.teacher_size})
            asked = asked.model_copy(update={"teacher": self._asked.teacher, "views": views})
        seen = asked.with_views(self._side)
        if asked.views.model_copy(update={"teacher_size": self._asked.views.teacher_size}) == self._asked.views:
            own = common.model_copy(update={"teacher_size": seen.views.teacher_size})
            seen = seen.model_copy(update={"views": own})
        return seen

    def _check_models(self, recipe: Callable[[Cell], Recipe]) -> None:
        """Check that every variant's models can be had at each start, before the first expensive step."""
        for cell in {(cell.start, cell.variant, cell.method): cell for cell in self.grid.cells}.values():
            with blaming(cell.variant):
                check_models(recipe(cell))


def _different(settings: Iterable[DataSettings]) -> list[DataSettings]:
    return list({each.transfer: each for each in settings}.values())


def made_up_results(job: Job) -> Mapping[str, Mapping[str, Any]]:
    """Return what stages that have not run would find, as far as those after them read it."""
    settings = job.recipe.finetune
    assert settings.learning_rates is not None
    tuned = {
        "candidate": f"finetune-{settings.learning_rates[0]:g}",
        "group": "finetune",
        "variant": "raw",
        "metrics": {},
    }
    stages = METHODS[job.recipe.method].stages
    modes = [mode for mode in ("finetune", "probe") if f"adapt-{mode}" in stages and mode in job.recipe.adapt.modes]
    only = next((mode for mode in ("finetune", "probe") if f"adapt-{mode}" in stages), "finetune")
    return {
        "adapt": {"chosen": modes[0] if modes else only},
        "rate": {"chosen": tuned, "rate": settings.learning_rates[0]},
        "finetune": {"chosen": tuned},
        "judge": {"chosen": tuned},
    }
