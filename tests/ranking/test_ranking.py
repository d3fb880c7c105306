from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats
from tests.ranking.toys import add_toys, paint_colors

from tutelage.errors import ModelError, RecipeError
from tutelage.ranking.rank import rank
from tutelage.ranking.ranking import Ranked, in_order, verdict
from tutelage.ranking.scores import Scores
from tutelage.recipe import Recipe
from tutelage.recipe_reading import make_recipe


def ranked(name: str, *accuracies: float, flops: float = 1e9, images: int = 100) -> Ranked:
    """A candidate whose probe gets these shares of the images right, one of each draw."""
    right = [np.arange(images) < round(images * accuracy) for accuracy in accuracies]
    scores = tuple(Scores(each, each, 0.0) for each in right)
    return Ranked(name, scores, width=8, params=100, flops=flops, feature_seconds=0.1, seconds=1.0)


def test_the_interval_is_student_s_over_paired_draws() -> None:
    first, second = in_order([ranked("b", 0.6, 0.7, 0.5), ranked("a", 0.8, 0.8, 0.75)])
    assert (first.name, second.name) == ("a", "b")
    differences = np.array([-0.2, -0.1, -0.25])
    margin = stats.t.ppf(0.975, 2) * differences.std(ddof=1) / math.sqrt(3)
    assert second.behind is not None
    assert second.behind.mean == pytest.approx(differences.mean())
    assert second.interval == pytest.approx((differences.mean() - margin, differences.mean() + margin))


def test_draws_that_agree_name_the_best() -> None:
    found = verdict(in_order([ranked("a", 0.8, 0.81, 0.82), ranked("b", 0.7, 0.7, 0.72)]))
    said = "a is the best one: +10.3 points against b over the 3 draws of labels (95% interval +8.9 to +11.8)."
    assert found == said


def test_draws_that_do_not_agree_name_the_cheaper_one() -> None:
    found = verdict(in_order([ranked("a", 0.9, 0.7, 0.8), ranked("b", 0.7, 0.8, 0.8, flops=1e8)]))
    assert found.startswith("The 3 draws of labels cannot tell a and b apart: +3.3 points (95%")
    assert found.endswith("; b is the cheaper one.")


def test_a_single_draw_has_an_interval_over_held_out_images() -> None:
    _, close = both = in_order([ranked("a", 0.6), ranked("b", 0.59)])
    assert close.interval is not None
    assert close.interval.low < 0 <= close.interval.high
    assert verdict(both).startswith("The held-out images cannot tell a and b apart")
    assert verdict(in_order([ranked("a", 0.8), ranked("b", 0.4)])).startswith("a is the best one: +40.0 points")


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int | None]]:
    return add_toys(monkeypatch)


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    return colors(paint_colors(tmp_path / "train", 12))


def colors(folder: Path, **data: Any) -> Recipe:
    return make_recipe(
        {
            "data": {"labeled": str(folder), "labels": 6, **data},
            "method": "scratch",
            "student": "timm:lcnet_050",
            "device": "cpu",
            "folds": 3,
        }
    )


def test_features_that_know_the_task_rank_before_noise(recipe: Recipe, built: Any) -> None:
    found = rank(recipe, ["toy:noise", "toy:color"])
    assert [each.name for each in found.candidates] == ["toy:color", "toy:noise"]
    color, noise = found.candidates
    assert color.probe.mean > 0.95
    assert color.neighbors.mean > noise.neighbors.mean
    assert color.evidence.mean > noise.evidence.mean
    assert noise.probe.mean < 0.6
    assert (found.seeds, found.labels, found.held_out, len(color.scores)) == ((0, 1, 2), 18, 18, 3)


def test_an_encoder_runs_once_for_all_candidates_and_draws(recipe: Recipe, built: Any) -> None:
    found = rank(recipe, ["toy:color", "toy:color+toy:other", "toy:noise+toy:other"])
    assert [name for name, _ in built] == ["color", "other", "noise"]
    assert {each.name: each.width for each in found.candidates} == {
        "toy:color": 3,
        "toy:color+toy:other": 8,
        "toy:noise+toy:other": 11,
    }


def test_the_size_is_the_recipe_s(recipe: Recipe, built: Any) -> None:
    rank(recipe.model_copy(update={"views": recipe.views.model_copy(update={"teacher_size": 24})}), ["toy:color"])
    assert built == [("color", 24)]


FAILING = {
    "toy:weightless": "toy:weightless has no pretrained weights",
    "toy:huge": "RuntimeError: not enough memory: you tried to allocate 9 TB",
    "toy:text": "toy:text: reads texts; name encoders that read images",
    "toy:nan": "toy:nan: some of its features are not finite; try another views.teacher_size",
    "nothing:x": "unknown model 'nothing:x'",
    "toy:color+toy:huge": "RuntimeError: not enough memory: you tried to allocate 9 TB",
}


@pytest.mark.parametrize("name", FAILING)
def test_a_failing_candidate_is_reported_and_the_others_are_ranked(recipe: Recipe, built: Any, name: str) -> None:
    found = rank(recipe, [name, "toy:color"], seeds=1)
    assert [each.name for each in found.candidates] == ["toy:color"]
    assert list(found.failed) == [name]
    assert found.failed[name].startswith(FAILING[name])
    assert found.verdict == "toy:color reaches 100.0%, and there is nothing to compare it with."


def test_nothing_but_failures_is_an_error_with_every_reason(recipe: Recipe, built: Any) -> None:
    with pytest.raises(ModelError, match=r"no candidate could be ranked \(toy:weightless: .*; toy:huge: .* 9 TB\)"):
        rank(recipe, ["toy:weightless", "toy:huge"])


@pytest.mark.parametrize(
    ("teachers", "message"),
    [
        (["toy:color", "toy:noise", "toy:color"], "'toy:color' is given twice$"),
        (["toy:color+toy:noise", "toy:noise+toy:color"], r"is given twice, as 'toy:color\+toy:noise'"),
        (["toy:color+toy:color"], "names an encoder twice"),
        (["toy:color+"], "lacks a name"),
        ([], "name some"),
    ],
)
def test_names_that_make_no_sense_are_refused_before_data_are_read(
    tmp_path: Path, built: Any, teachers: list[str], message: str
) -> None:
    with pytest.raises(RecipeError, match=message):
        rank(colors(tmp_path / "nowhere"), teachers)
    assert not built


def test_validation_data_judge_in_place_of_folds(tmp_path: Path, built: Any) -> None:
    folder = paint_colors(tmp_path / "train", 6)
    wrong = paint_colors(tmp_path / "val", 4, seed=1, names=("green", "blue", "red"))
    found = rank(colors(folder, labels=3, validation=str(wrong)), ["toy:color"])
    assert (found.validation, found.held_out, found.best.probe.mean) == (True, 12, 0.0)


def test_test_labels_change_nothing(tmp_path: Path, built: Any) -> None:
    train = paint_colors(tmp_path / "train", 8)
    right, wrong = (
        paint_colors(tmp_path / name, 3, seed=1, names=names)
        for name, names in (("right", ("red", "green", "blue")), ("wrong", ("blue", "red", "green")))
    )
    without, *others = (
        rank(colors(train, **data), ["toy:noise"]).best.scores
        for data in ({}, {"test": str(right)}, {"test": str(wrong)})
    )
    for scores in others:
        assert [each.probe.tolist() for each in scores] == [each.probe.tolist() for each in without]


def test_images_that_are_test_images_do_not_judge(tmp_path: Path, built: Any) -> None:
    train = paint_colors(tmp_path / "train", 6)
    for name in ("red", "green", "blue"):
        (tmp_path / "test" / name).mkdir(parents=True)
        (tmp_path / "test" / name / "copy.png").write_bytes((train / name / "0.png").read_bytes())
    found = rank(colors(train, labels="all", test=str(tmp_path / "test")), ["toy:color"])
    assert found.labels == 15


def test_all_labels_are_one_draw(recipe: Recipe, built: Any) -> None:
    every = replace_labels(recipe, "all")
    found = rank(every, ["toy:color", "toy:noise"], seeds=3)
    assert (found.seeds, found.labels) == ((0,), 36)
    assert found.candidates[1].behind is not None
    assert found.candidates[1].behind.bootstrap == found.candidates[1].interval


def replace_labels(recipe: Recipe, labels: str) -> Recipe:
    return recipe.model_copy(update={"data": recipe.data.model_copy(update={"labels": labels})})


def test_the_same_call_finds_the_same(recipe: Recipe, built: Any) -> None:
    first, second = (rank(recipe, ["toy:color", "toy:noise"]) for _ in range(2))
    assert [each.evidence for each in first.candidates] == [each.evidence for each in second.candidates]
