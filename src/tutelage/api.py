"""The main job from Python."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tutelage.evaluation.results import Result
from tutelage.pipeline import run
from tutelage.progress import Progress
from tutelage.recipe import Recipe, headline, load_recipe, make_recipe


def transfer(
    recipe: Recipe | str | Path | None = None,
    *,
    labeled: str | Path | None = None,
    labels: int | str | None = None,
    test: str | Path | None = None,
    transfer: str | Path | None = None,
    teacher: str | None = None,
    student: str | None = None,
    method: str | None = None,
    seed: int | None = None,
    out: str | Path | None = None,
    settings: dict[str, Any] | None = None,
    progress: Progress | None = None,
) -> Result:
    """Make a small model for one task; resume if part of it is done.

    Args:
        recipe: A recipe, or the path of one; the other arguments override its keys.
        labeled: Labeled data: a folder per class, ``digits``, or ``torchvision:NAME``.
        labels: How many labels may be used: N per class, ``"max:N"``, ``"P%"`` or ``"all"``.
        test: Labeled data to report on; never used to train or choose.
        transfer: Unlabeled data to distil on; the rest of ``labeled`` where not given.
        teacher: The foundation model, such as ``timm:vit_large_patch14_dinov2.lvd142m``.
        student: The small model, such as ``timm:fastvit_s12``.
        method: How the student is made; ``task-oriented`` where not given.
        seed: Seed of everything that is drawn.
        out: The run folder; a name under ``runs/`` where not given.
        settings: Any other keys, dotted: ``{"distill.epochs": 50}``.
        progress: Shows where work is; silent where not given.

    Returns:
        What the run found, and where its folder is.

    Raises:
        TutelageError: Something asked for cannot be done (one of its subclasses says what).
    """
    flags = headline(
        labeled=labeled,
        labels=labels,
        test=test,
        transfer=transfer,
        teacher=teacher,
        student=student,
        method=method,
        seed=seed,
    )
    overrides = {**flags, **(settings or {})}
    if isinstance(recipe, Recipe):
        recipe = make_recipe(recipe.model_dump(mode="json"), overrides)
    elif recipe is not None:
        recipe = load_recipe(Path(recipe), overrides)
    else:
        recipe = make_recipe({}, overrides)
    return run(recipe, None if out is None else Path(out), progress=progress)
