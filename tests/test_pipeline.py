"""The whole job on colored squares: small enough for seconds, and nothing in it is a stand-in."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from tests.models.tiny_clips import tiny_clip

from tutelage.checks import check
from tutelage.errors import RecipeError, RunError
from tutelage.evaluation.results import Result
from tutelage.methods import METHODS
from tutelage.pipeline import cache, plan_cache, run
from tutelage.progress import Quiet, Update
from tutelage.recipe import Recipe
from tutelage.recipe_reading import load_recipe, make_recipe

ADAPTED = ["adapt-probe", "adapt-finetune", "adapt"]
TAUGHT = ["targets", "distill"]
IN_ROUNDS = ["finetune", "label-2", "train-2"]
STAGES = {
    "scratch": ["finetune"],
    "supervised": ["pretrain", "finetune"],
    "dino": ["self-distill", "finetune"],
    "clip": ["align", "finetune"],
    "clip-mimic": ["targets", "align", "finetune"],
    "agnostic-patch": [*TAUGHT, "finetune"],
    "agnostic-image": [*TAUGHT, "finetune"],
    "task-oriented": [*ADAPTED, *TAUGHT, "finetune"],
    "task-oriented-lp": ["adapt-probe", "adapt", *TAUGHT, "finetune"],
    "task-oriented-ft": ["adapt-finetune", "adapt", *TAUGHT, "finetune"],
    "task-oriented-no-finetuning": [*ADAPTED, *TAUGHT, "judge"],
    "task-oriented-aft": [*ADAPTED, *TAUGHT, "features", "finetune"],
    "pseudo-label": IN_ROUNDS,
    "pseudo-label-supervised": ["pretrain", *IN_ROUNDS],
    "pseudo-label-dino": ["self-distill", *IN_ROUNDS],
    "stl": ["rate", "finetune"],
    **{name: ["features", "finetune"] for name in ("aft", "kd", "rkd", "ft", "b-tuning")},  # with a single rate
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classes, each with more of one color, in pictures of 8 to 12 pixels."""
    root = tmp_path_factory.mktemp("data")
    generator = np.random.default_rng(0)
    for part, count in (("train", 8), ("validation", 2), ("test", 3)):
        for color, name in enumerate(("red", "green", "blue")):
            (root / part / name).mkdir(parents=True)
            for number in range(count):
                height, width = generator.integers(8, 13, 2)
                pixels = generator.integers(0, 120, (height, width, 3))
                pixels[..., color] += 130
                Image.fromarray(pixels.astype(np.uint8)).save(root / part / name / f"{number}.png")
    rows = [f"{path},a {path.parent.name} square" for path in sorted((root / "train").rglob("*.png"))]
    (root / "pairs.csv").write_text("\n".join(["image,text", *rows]))
    return root


def recipe(data: Path, method: str = "task-oriented", changes: Mapping[str, Any] | None = None) -> Recipe:
    other = str(data / "validation") if "supervised" in method else None
    settings = {
        "method": method,
        "data": {
            "labeled": str(data / "train"),
            "labels": 4,
            "test": str(data / "test"),
            "pretraining": other,
            "pairs": str(data / "pairs.csv") if method.startswith("clip") else None,
        },
        "teacher": tiny_clip() if method == "clip-mimic" else "bundled:efficientnet-lite0",
        "student": "timm:test_efficientnet",
        "start": "random",
        "folds": 2,
        "device": "cpu",
        "views": {"teacher_size": 32, "student_size": 32},
        "adapt": {"epochs": 1, "learning_rates": [1e-3], "penalties": [0.01, 0.1], "probe_views": 1},
        "pretrain": {"epochs": 1},
        "distill": {"epochs": 1},
        "dino": {"epochs": 1, "batch_size": 8, "hidden": 16, "bottleneck": 8, "local_views": 2},
        "clip": {"epochs": 1, "text": {"tower": "small", "length": 8}},
        "finetune": {"epochs": 2, "learning_rates": [1e-3]},
        "pseudo_label": {"epochs": 1, "rounds": 2},
    }
    return make_recipe(settings, changes)


class StopIn(Quiet):
    """Interrupts the run when it starts to show a piece of work: the one called so, or the first."""

    def __init__(self, label: str = "") -> None:
        self.label = label

    @contextmanager
    def track(self, label: str, total: int) -> Iterator[Update]:
        if self.label in ("", label):
            raise KeyboardInterrupt
        yield lambda done, numbers: None


@pytest.fixture(scope="module")
def whole(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Result:
    """An uninterrupted run."""
    return run(recipe(data), tmp_path_factory.mktemp("whole"))


@pytest.fixture(scope="module")
def pieces(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Result:
    """The same recipe in another folder, interrupted between two stages and then run on."""
    folder = tmp_path_factory.mktemp("pieces")
    with pytest.raises(KeyboardInterrupt):
        run(recipe(data), folder, progress=StopIn("distill"))
    return run(recipe(data), folder)


@pytest.fixture(scope="module")
def scratch(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Result:
    return run(recipe(data, "scratch"), tmp_path_factory.mktemp("scratch"))


@pytest.fixture(scope="module", params=sorted(STAGES))
def finished(
    request: pytest.FixtureRequest,
    data: Path,
    whole: Result,
    scratch: Result,
    tmp_path_factory: pytest.TempPathFactory,
) -> Result:
    """A run of each method."""
    done = {"task-oriented": whole, "scratch": scratch}.get(request.param)
    return done or run(recipe(data, request.param), tmp_path_factory.mktemp(request.param))


def copied(result: Result, tmp_path: Path) -> Path:
    return Path(shutil.copytree(result.folder, tmp_path / "copy"))


def reused(result: Result) -> dict[str, bool]:
    return {stage.name: stage.reused for stage in result.stages}


def weights(result: Result) -> Mapping[str, torch.Tensor]:
    return load_file(result.folder / "model" / "model.safetensors")


def test_every_method_is_run_here() -> None:
    assert STAGES.keys() == {name for name, method in METHODS.items() if "image" in method.reads}


def test_a_run_goes_through_its_stages_in_order(finished: Result) -> None:
    expected = ["data", *STAGES[finished.data["method"]], "evaluate", "export"]
    assert [stage.name for stage in finished.stages] == expected


def test_results_are_in_the_run_folder(finished: Result) -> None:
    assert json.loads((finished.folder / "results.json").read_text()) == json.loads(json.dumps(finished.data))


def test_results_have_the_promised_keys(finished: Result) -> None:
    promised = {"schema", "task", "method", "start", "seed", "teacher", "student", "labels"}
    assert finished.data.keys() >= promised | {"metrics", "teacher_metrics", "cost"}


def test_results_name_the_start(finished: Result) -> None:
    assert finished.data["start"] == "random"


def test_results_count_the_labels(finished: Result) -> None:
    assert finished.data["labels"] == {"amount": "4", "images": 12, "classes": 3}


@pytest.mark.parametrize("part", ["val", "test"])
def test_results_hold_every_metric(finished: Result, part: str) -> None:
    assert finished.metrics[part].keys() == {"accuracy", "macro_f1", "nll", "calibration_error"}


def test_results_judge_the_teacher_in_each_mode(whole: Result) -> None:
    assert whole.data["teacher_metrics"].keys() == {"probe", "finetune"}


def test_a_method_without_a_teacher_names_none(scratch: Result) -> None:
    assert scratch.data["teacher"] is None
    assert scratch.data["teacher_metrics"] == {}


def test_costs_of_the_stages_add_up(finished: Result) -> None:
    cost = finished.data["cost"]
    for part in ("seconds", "flops"):
        assert cost[part] == pytest.approx(sum(stage[part] for stage in cost["stages"]))
        # Targets that are not stored cost nothing beforehand, nor does choosing between judged modes.
        free = {"targets", "adapt"}
        assert all((stage[part] > 0) == (stage["name"] not in free) for stage in cost["stages"])


def test_the_probe_tells_colors_apart(whole: Result) -> None:
    # The one thing here that has enough data to learn: if labels and pictures went astray, chance is a third.
    assert whole.data["teacher_metrics"]["probe"]["accuracy"] > 0.7


def test_the_predictions_of_the_test_set_are_kept(whole: Result) -> None:
    kept = load_file(whole.folder / whole.data["folders"]["evaluate"] / "predictions.safetensors")
    assert {name: tuple(value.shape) for name, value in kept.items()} == {
        "targets": (9,),
        "student": (9, 3),
        "probe": (9, 3),
        "finetune": (9, 3),
    }


def test_kept_predictions_are_those_that_were_judged(whole: Result) -> None:
    kept = load_file(whole.folder / whole.data["folders"]["evaluate"] / "predictions.safetensors")
    right = (kept["student"].argmax(1) == kept["targets"]).float().mean().item()
    assert whole.metrics["test"]["accuracy"] == pytest.approx(right)


def test_a_finished_run_is_not_run_again(finished: Result, data: Path) -> None:
    assert all(reused(run(recipe(data, finished.data["method"]), finished.folder)).values())


def test_a_finished_run_gives_the_same_results_again(finished: Result, data: Path) -> None:
    assert run(recipe(data, finished.data["method"]), finished.folder).data == finished.data


def test_an_interrupted_run_goes_on_after_the_stages_that_it_finished(pieces: Result) -> None:
    assert [name for name, found in reused(pieces).items() if found] == ["data", *ADAPTED, "targets"]


@pytest.mark.parametrize("part", ["metrics", "teacher_metrics", "agreement"])
def test_the_same_recipe_has_the_same_metrics(whole: Result, pieces: Result, part: str) -> None:
    assert whole.data[part] == pieces.data[part]


def test_the_same_recipe_makes_the_same_weights(whole: Result, pieces: Result) -> None:
    first, second = weights(whole), weights(pieces)
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_the_same_recipe_takes_the_same_work(whole: Result, pieces: Result) -> None:
    assert whole.data["cost"]["flops"] == pieces.data["cost"]["flops"]


@pytest.fixture(scope="module")
def longer(whole: Result, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Result:
    """The finished run, gone on with after one setting was changed."""
    return run(recipe(data, changes={"distill.epochs": 2}), copied(whole, tmp_path_factory.mktemp("longer")))


def test_a_changed_setting_reruns_its_stage_and_those_after_it_alone(longer: Result) -> None:
    rerun = [name for name, found in reused(longer).items() if not found]
    assert rerun == ["distill", "finetune", "evaluate", "export"]


def test_a_changed_setting_changes_the_weights(whole: Result, longer: Result) -> None:
    first, second = weights(whole), weights(longer)
    assert not all(torch.equal(first[name], second[name]) for name in first)


def stopped(folder: Path, recipe: Recipe) -> list[str]:
    """Which stages start over; stops before the expensive part of the first one that does."""
    with pytest.raises(KeyboardInterrupt):
        run(recipe, folder, progress=StopIn())
    return sorted(path.name for path in folder.glob("0*") if not (path / "stage.json").exists())


def test_another_seed_starts_over(whole: Result, data: Path, tmp_path: Path) -> None:
    assert stopped(copied(whole, tmp_path), recipe(data, changes={"seed": 1})) == ["02-adapt-probe"]


def test_a_changed_finetuning_leaves_the_earlier_stages(whole: Result, data: Path, tmp_path: Path) -> None:
    assert stopped(copied(whole, tmp_path), recipe(data, changes={"finetune.epochs": 3})) == ["07-finetune"]


def test_given_validation_data_are_seen_once_by_the_probe(data: Path, tmp_path: Path) -> None:
    # 12 labels in the evaluation view and one other, 6 validation images in one, and no second look for the
    # second penalty.
    changes = {"data.validation": str(data / "validation"), "adapt.modes": ["probe"]}
    with pytest.raises(KeyboardInterrupt):
        run(recipe(data, changes=changes), tmp_path, progress=StopIn("distill"))
    cost = json.loads((tmp_path / "02-adapt-probe" / "stage.json").read_text())["cost"]
    assert cost["images"] == 12 * 2 + 6


def test_a_recipe_for_another_kind_of_folder_is_refused(data: Path) -> None:
    with pytest.raises(RunError, match="not a run folder"):
        run(recipe(data), data / "train")


def test_a_baseline_whose_targets_do_not_fit_is_told_before_the_run(data: Path) -> None:
    changes = {"distill.targets": "cached", "distill.views": 1, "store.max_gb": 1e-5}
    check(recipe(data, changes=changes))
    with pytest.raises(RecipeError, match=r"distill\.targets: 1 views? of 24 images take .* set store\.max_gb"):
        check(recipe(data, changes={**changes, "baselines": ["agnostic-patch"]}))


def test_the_resolved_recipe_repeats_the_run_and_its_baselines(data: Path, tmp_path: Path) -> None:
    # Rates are left open: those that suit a distilled student are not those of one from scratch.
    changes = {"baselines": ["scratch", "task-oriented-lp"], "finetune.epochs": 1, "finetune.learning_rates": None}
    run(recipe(data, changes=changes), tmp_path)
    again = run(load_recipe(tmp_path / "recipe.yaml"), tmp_path)
    assert reused(again).keys() >= {"scratch-finetune", "task-oriented-lp-adapt-probe", "task-oriented-lp-finetune"}
    assert all(reused(again).values())


def test_a_clip_teacher_s_embeddings_may_be_stored_beforehand(data: Path, tmp_path: Path) -> None:
    asked = recipe(data, "clip-mimic", {"clip.targets": "cached", "store.folder": str(tmp_path / "store")})
    found = cache(asked, tmp_path / "run")
    assert (found["images"], found["views"], found["reused"]) == (24, 1, False)
    assert found["cost"]["flops"] > 0
    assert reused(run(asked, tmp_path / "run"))["targets"]


def test_storing_a_clip_teacher_that_runs_live_is_refused(data: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"clip\.targets: the teacher runs live for 1 epochs; nothing is stored"):
        cache(recipe(data, "clip-mimic", {"clip.targets": "live"}), tmp_path)


def test_storing_nothing_is_refused(data: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="method 'clip' learns from no teacher's targets"):
        cache(recipe(data, "clip"), tmp_path)


def test_what_storing_a_clip_teacher_s_embeddings_saves_is_not_predicted(data: Path) -> None:
    with pytest.raises(RecipeError, match="speeds are only measured for methods that distil"):
        plan_cache(recipe(data, "clip-mimic"))
