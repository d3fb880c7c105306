"""A whole small comparison: what it shares, resumes, reports and predicts."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tests.comparison.two_colors import two_colors

from tutelage.comparison import cells
from tutelage.comparison import compare as module
from tutelage.comparison.compare import compare, plan
from tutelage.comparison.forecast import method_cost
from tutelage.comparison.grid import Grid, make_grid
from tutelage.comparison.layout import Layout, made_up_results
from tutelage.comparison.stages import PlannedStages
from tutelage.comparison.table import Comparison, Outcome, read_comparison
from tutelage.errors import RecipeError, RunError, TrainingError
from tutelage.progress import Quiet
from tutelage.recipe import Recipe
from tutelage.recipe_reading import make_recipe
from tutelage.run import Run
from tutelage.training.distributed import world

METHODS = [
    "scratch",
    "supervised",
    "agnostic-image",
    "task-oriented",
    "task-oriented-lp",
    "task-oriented-no-finetuning",
]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes, each with more of one color; and other pictures without labels."""
    return two_colors(tmp_path_factory.mktemp("compared"))


def recipe(data: Path, **changes: Any) -> Recipe:
    return make_recipe(
        {
            "data": {
                "labeled": str(data / "train"),
                "labels": 3,
                "test": str(data / "test"),
                "pretraining": str(data / "other"),
            },
            "teacher": "bundled:efficientnet-lite0",
            "student": "timm:test_efficientnet",
            "folds": 2,
            "device": "cpu",
            "views": {"teacher_size": 32, "student_size": 32},
            "adapt": {"epochs": 1, "learning_rates": [1e-3], "penalties": [0.01, 0.1], "probe_views": 1},
            "pretrain": {"epochs": 2},
            "distill": {"epochs": 2, "batch_size": 4},
            "finetune": {"epochs": 2, "learning_rates": [1e-3], "probe_views": 1},
        },
        changes,
    )


def grid(data: Path, **changes: Any) -> Grid:
    asked = {
        "methods": METHODS,
        "labels": ["3", "4"],
        "seeds": 1,
        "transfers": ["related", f"other={data / 'other'}"],
        "points": 1,
    }
    return make_grid(recipe(data), **{**asked, **changes})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("whole") / "comparison"


@pytest.fixture(scope="module")
def whole(data: Path, folder: Path) -> Comparison:
    return compare(recipe(data), grid(data), folder, command="tutelage compare")


def stages(folder: Path) -> Counter[str]:
    """How often each kind of stage is there."""
    return Counter(path.name.rpartition("-")[0] for path in (folder / "stages").iterdir())


def outcome(found: Comparison, method: str, labels: str = "3", transfer: str | None = "related") -> Outcome:
    place = (method, labels, transfer)
    return next(each for each in found.outcomes if (each.cell.method, each.cell.labels, each.cell.transfer) == place)


def test_every_cell_has_an_outcome(whole: Comparison, data: Path) -> None:
    assert [each.cell for each in whole.outcomes] == grid(data).cells


def test_no_cell_failed(whole: Comparison) -> None:
    assert [each.error for each in whole.outcomes if each.error] == []


def test_the_score_is_the_share_of_items_that_were_right(whole: Comparison) -> None:
    for each in whole.outcomes:
        assert each.right is not None
        assert each.score == pytest.approx(each.right.mean())


def test_what_it_found_is_in_the_folder(whole: Comparison, folder: Path) -> None:
    assert [each.score for each in read_comparison(folder).outcomes] == [each.score for each in whole.outcomes]


@pytest.mark.parametrize("name", ["comparison.html", "comparison.csv", "comparison.parquet", "recipe.yaml"])
def test_its_files_are_there(whole: Comparison, folder: Path, name: str) -> None:
    assert (folder / name).stat().st_size > 0


@pytest.mark.parametrize(
    ("stage", "count"),
    [
        ("adapt-probe", 2),  # a label count each; whatever the transfer set
        ("adapt-finetune", 2),
        ("pretrain", 1),
        ("evaluate", None),
    ],
)
def test_what_cells_have_in_common_runs_once(whole: Comparison, folder: Path, stage: str, count: int | None) -> None:
    found = stages(folder)[stage]
    assert found == count if count is not None else found > len(whole.outcomes)


def test_a_student_pretrained_without_labels_serves_every_label_count(whole: Comparison, folder: Path) -> None:
    # Two transfer sets of the agnostic method; for each label count and transfer set one or two teachers' students.
    agnostic = 2
    modes = {labels: {outcome(whole, "task-oriented", labels).teacher_mode, "probe"} for labels in ("3", "4")}
    assert stages(folder)["distill"] == agnostic + sum(2 * len(taught) for taught in modes.values())


def test_a_cell_that_shares_everything_costs_as_much_as_one_that_does_not(whole: Comparison) -> None:
    both, probed = outcome(whole, "task-oriented"), outcome(whole, "task-oriented-lp")
    assert both.pretraining.flops > probed.pretraining.flops > 0


def test_scratch_has_no_pretraining(whole: Comparison) -> None:
    found = outcome(whole, "scratch", transfer=None)
    assert (found.pretraining.flops, found.curve) == (0, ())


def test_checkpoints_cost_less_than_the_whole(whole: Comparison) -> None:
    first, last = outcome(whole, "task-oriented").curve
    assert 0 < first.spent.flops < last.spent.flops


def test_adapting_is_spent_before_the_first_step(whole: Comparison) -> None:
    first, last = outcome(whole, "task-oriented-lp").curve
    assert first.spent.flops > last.spent.flops / 2


def test_the_last_point_is_the_cell_itself(whole: Comparison) -> None:
    found = outcome(whole, "agnostic-image")
    last = found.curve[-1]
    assert (last.share, last.score, last.spent) == (1.0, found.score, found.pretraining)


def test_without_finetuning_nothing_is_chosen(whole: Comparison) -> None:
    assert outcome(whole, "task-oriented-no-finetuning").chosen is None


def test_a_finished_comparison_runs_nothing_again(
    whole: Comparison, data: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {path: path.stat().st_mtime_ns for path in (folder / "stages").glob("*/stage.json")}
    again = compare(recipe(data), grid(data), folder)
    assert {path: path.stat().st_mtime_ns for path in (folder / "stages").glob("*/stage.json")} == before
    assert [each.score for each in again.outcomes] == [each.score for each in whole.outcomes]


def test_a_finished_comparison_has_nothing_left_to_plan(whole: Comparison, data: Path, folder: Path) -> None:
    planned = plan(recipe(data), grid(data), folder)
    assert (planned["finished"], planned["stages"], planned["seconds"]) == (planned["cells"], {}, 0)


def test_a_plan_counts_the_stages_that_then_run(whole: Comparison, data: Path, folder: Path, tmp_path: Path) -> None:
    planned = plan(recipe(data), grid(data), tmp_path)
    counts = {name: each["count"] for name, each in planned["stages"].items()}
    for name in ("adapt-probe", "adapt-finetune", "pretrain"):
        assert counts[name] == stages(folder)[name]


def test_a_plan_keeps_nothing(data: Path, tmp_path: Path) -> None:
    plan(recipe(data), grid(data, methods=["scratch"]), tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_planned_flops_are_those_that_are_spent(whole: Comparison, data: Path, folder: Path, tmp_path: Path) -> None:
    planned = plan(recipe(data), grid(data), tmp_path)["stages"]
    for name in ("pretrain", "adapt-probe", "adapt-finetune"):
        done = [json.loads(path.read_text()) for path in (folder / "stages").glob(f"{name}-*/stage.json")]
        spent = sum(each["cost"]["flops"] for each in done if each["name"] == name)
        assert planned[name]["flops"] == pytest.approx(spent, rel=0.02)


def test_a_failed_cell_does_not_sink_the_others(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = module.run_stages

    def sometimes(job: Any, test: Any, shares: Any) -> cells.CellStages:
        if job.recipe.method == "scratch":
            raise TrainingError("the loss is not finite")
        return real(job, test, shares)

    monkeypatch.setattr(module, "run_stages", sometimes)
    asked = grid(data, methods=["scratch", "supervised"], labels=["3"], points=0)
    found = compare(recipe(data), asked, tmp_path / "some")
    assert [each.error for each in found.outcomes] == ["the loss is not finite", None]


def test_a_failed_cell_is_tried_again(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = grid(data, methods=["scratch"], labels=["3"])
    with monkeypatch.context() as patched:
        patched.setattr(module, "run_stages", lambda *args: 1 / 0)
        failed = compare(recipe(data), asked, tmp_path / "one")
    assert failed.outcomes[0].error == "ZeroDivisionError: division by zero"
    assert compare(recipe(data), asked, tmp_path / "one").outcomes[0].error is None


def test_an_interruption_is_no_failure(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*args: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "run_stages", interrupted)
    with pytest.raises(KeyboardInterrupt):
        compare(recipe(data), grid(data, methods=["scratch"]), tmp_path / "one")


def test_methods_are_compared_on_test_data(data: Path, tmp_path: Path) -> None:
    without = recipe(data, **{"data.test": None})
    with pytest.raises(RecipeError, match=r"data\.test: methods are compared on test data"):
        compare(without, grid(data), tmp_path / "none")


def test_the_folder_of_a_run_is_refused(data: Path, tmp_path: Path) -> None:
    (tmp_path / "01-data").mkdir()
    with pytest.raises(RunError, match="holds a single run"):
        compare(recipe(data), grid(data), tmp_path)


def test_all_transfer_sets_are_seen_in_views_of_the_same_size(data: Path, tmp_path: Path) -> None:
    large = tmp_path / "large"
    large.mkdir()
    for number in range(4):
        Image.fromarray(np.full((300, 300, 3), number, dtype=np.uint8)).save(large / f"{number}.png")
    asked = make_grid(
        recipe(data), methods=["task-oriented-lp"], seeds=1, transfers=["related", f"large={large}"], points=0
    )
    with world("cpu") as here:
        layout = Layout(recipe(data), asked, tmp_path, here)
        jobs = [layout.job(cell, Run(tmp_path), Quiet()) for cell in asked.cells]
    assert jobs[0].recipe.views == jobs[1].recipe.views


@pytest.mark.parametrize("method", ["scratch", "agnostic-image", "task-oriented-lp"])
def test_within_a_budget_a_method_trains_as_long_as_that_allows(data: Path, tmp_path: Path, method: str) -> None:
    budget = 3e9
    asked = grid(data, methods=[method], labels=["3"], transfers=["related"], budgets=[f"{budget:.0f}"], points=0)
    cell = asked.cells[-1]
    with world("cpu") as here:
        layout = Layout(recipe(data), asked, tmp_path, here)
        job = layout.job(cell, Run(tmp_path), Quiet())
        spent = method_cost(job, layout.speeds(cell)).flops
        longer = replace(job, recipe=_longer(job.recipe, method))
        assert spent <= budget < method_cost(longer, layout.speeds(cell)).flops


def _longer(recipe: Recipe, method: str) -> Recipe:
    part = "finetune" if method == "scratch" else "distill"
    settings = getattr(recipe, part)
    return recipe.model_copy(update={part: settings.model_copy(update={"epochs": settings.epochs + 1})})


def test_a_budget_that_is_too_small_fails_its_cell_alone(data: Path, tmp_path: Path) -> None:
    asked = grid(data, methods=["scratch"], labels=["3"], budgets=["10"])
    found = compare(recipe(data), asked, tmp_path / "small")
    assert found.outcomes[0].error is None
    assert "a budget of 10 is too small" in (found.outcomes[1].error or "")


def test_speeds_that_budgets_depend_on_are_measured_once(data: Path, tmp_path: Path) -> None:
    asked = grid(data, methods=["scratch"], labels=["3"], budgets=["1e9"])
    compare(recipe(data), asked, tmp_path / "timed")
    kept = (tmp_path / "timed" / "speeds.json").read_bytes()
    compare(recipe(data), asked, tmp_path / "timed")
    assert (tmp_path / "timed" / "speeds.json").read_bytes() == kept


def test_every_failed_cell_has_a_traceback_of_its_own(data: Path, tmp_path: Path) -> None:
    asked = grid(data, methods=["scratch"], labels=["3"], budgets=["10", "11"])
    compare(recipe(data), asked, tmp_path / "small")
    kept = {path.name: path.read_text() for path in (tmp_path / "small" / "failures").iterdir()}
    assert len(kept) == 2
    assert all("RecipeError: a budget of" in text for text in kept.values())


@pytest.fixture(scope="module")
def varied(data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Grid, Comparison]:
    """Two methods in three variants, which change nothing for scratch."""
    folder = tmp_path_factory.mktemp("varied") / "comparison"
    asked = grid(
        data,
        methods=["scratch", "task-oriented-lp"],
        labels=["3"],
        transfers=["related"],
        points=0,
        variants={
            "plain": {},
            "warm": {"distill.temperature": 3},
            "task-oriented-lp / larger": {"views.teacher_size": 64},
        },
    )
    return folder, asked, compare(recipe(data), asked, folder)


def test_every_variant_has_an_outcome(varied: tuple[Path, Grid, Comparison]) -> None:
    assert [(each.cell.method, each.cell.variant, each.error) for each in varied[2].outcomes] == [
        ("scratch", "plain", None),
        ("scratch", "warm", None),
        ("task-oriented-lp", "plain", None),
        ("task-oriented-lp", "warm", None),
        ("task-oriented-lp", "larger", None),
    ]


@pytest.mark.parametrize(
    ("stage", "count"),
    [
        ("adapt-probe", 2),  # at each of two sizes; whatever the temperature
        ("distill", 3),
        ("finetune", 1 + 3),  # scratch but once
    ],
)
def test_variants_share_what_they_do_not_change(
    varied: tuple[Path, Grid, Comparison], stage: str, count: int
) -> None:
    assert stages(varied[0])[stage] == count


def test_a_comparison_says_what_its_variants_are(varied: tuple[Path, Grid, Comparison]) -> None:
    assert read_comparison(varied[0]).about["variants"] == {
        "plain": {},
        "warm": {"distill.temperature": 3},
        "larger": {"views.teacher_size": 64},
    }


def test_a_plan_of_variants_counts_the_stages_that_then_run(
    varied: tuple[Path, Grid, Comparison], data: Path, tmp_path: Path
) -> None:
    folder, asked, _ = varied
    planned = plan(recipe(data), asked, tmp_path)["stages"]
    done = {name: count for name, count in stages(folder).items() if name in planned}
    assert {name: each["count"] for name, each in planned.items()} == done
    assert planned["distill"]["seconds"] > 0


def test_a_finished_comparison_without_variants_serves_those_that_are_added(
    varied: tuple[Path, Grid, Comparison], data: Path
) -> None:
    plain = grid(data, methods=["scratch", "task-oriented-lp"], labels=["3"], transfers=["related"], points=0)
    assert plan(recipe(data), plain, varied[0])["finished"] == 2


def test_a_method_without_a_teacher_is_the_same_whatever_the_teacher(data: Path, tmp_path: Path) -> None:
    given = recipe(data, **{"views.teacher_size": None})
    other = {"teacher": "timm:vit_tiny_patch16_224"}
    asked = make_grid(given, methods=["scratch", "task-oriented-lp"], seeds=1, variants={"plain": {}, "other": other})
    judged: dict[str, set[str]] = {}
    with world("cpu") as here:
        layout = Layout(given, asked, tmp_path, here)
        for cell in asked.cells:
            job = layout.job(cell, Run(tmp_path), Quiet())
            planned = PlannedStages(tmp_path, results=made_up_results(job))
            found = cells.run_stages(replace(job, run=planned), layout.test, ()).judged
            judged.setdefault(cell.method, set()).add(found.fingerprint)
    assert {method: len(found) for method, found in judged.items()} == {"scratch": 1, "task-oriented-lp": 2}


def test_a_teacher_has_speeds_and_a_size_of_its_own(data: Path, varied: tuple[Path, Grid, Comparison]) -> None:
    asked = varied[1]
    scratch, _, plain, warm, larger = asked.cells
    with world("cpu") as here:
        layout = Layout(recipe(data), asked, varied[0], here)
        jobs = {cell: layout.job(cell, Run(varied[0]), Quiet()) for cell in asked.cells}
        assert layout.speeds(plain) == layout.speeds(warm) == layout.speeds(scratch) != layout.speeds(larger)
    assert [jobs[cell].recipe.views.teacher_size for cell in (plain, larger)] == [32, 64]
    assert jobs[plain].recipe.views.size == jobs[larger].recipe.views.size
