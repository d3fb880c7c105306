from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.analysis.made_comparisons import Scores, made

from tutelage.analysis.analyze import analyze, as_data
from tutelage.analysis.of_comparison import ComparisonAnalysis
from tutelage.comparison.table import Comparison, write_comparison
from tutelage.errors import RunError
from tutelage.ranking.rank import rank
from tutelage.recipe import Recipe
from tutelage.recipe_reading import make_recipe

TEACHERS = {
    "color": {},
    "noise": {"teacher": "toy:noise"},
    "both": {"teacher": ["toy:color", "toy:noise"]},
    "other": {"teacher": "toy:other"},
}


def recipe(colors: Path, **changes: Any) -> Recipe:
    return make_recipe(
        {
            "data": {"labeled": str(colors / "train"), "labels": 4, "test": str(colors / "test")},
            "teacher": "toy:color",
            "student": "timm:test_efficientnet",
            "start": "random",
            "method": "aft",
            "folds": 2,
            "device": "cpu",
        },
        changes,
    )


def kept(folder: Path, colors: Path, scores: Scores, **about: Any) -> Comparison:
    """Write a comparison of the colors' labels, four a class."""
    resolved = recipe(colors).model_copy(update={"views": recipe(colors).resolved_views(10)})
    facts = {"classes": 3, "test_images": 12, "recipe": yaml.safe_dump(resolved.model_dump(mode="json")), **about}
    comparison = made(scores, TEACHERS, labels="4", **facts)
    write_comparison(folder, comparison)
    return comparison


SCORES: Scores = {
    ("aft", "color"): [0.9, 0.8],
    ("aft", "noise"): [0.5, 0.4],
    ("aft", "both"): [0.9, 0.9],
    ("aft", "other"): [0.8, 0.9],
}


@pytest.fixture
def found(tmp_path: Path, colors: Path) -> ComparisonAnalysis:
    kept(tmp_path, colors, SCORES)
    analysis = analyze(tmp_path)
    assert isinstance(analysis, ComparisonAnalysis)
    return analysis


def test_teachers_are_probed_as_they_are_ranked(found: ComparisonAnalysis, colors: Path) -> None:
    assert found.correlation is not None
    (curve,) = found.correlation
    names = {"toy:color": "color", "toy:noise": "noise", "toy:color+toy:noise": "both", "toy:other": "other"}
    ranking = rank(recipe(colors), list(names), seeds=2)
    wanted = {names[each.name]: each.probe.mean for each in ranking.candidates}
    assert {point.variant: point.probe for point in curve.points} == pytest.approx(wanted)
    assert wanted["color"] > wanted["noise"]


def test_parts_that_do_not_apply_say_what_would_make_them(found: ComparisonAnalysis) -> None:
    assert found.left_out.keys() == {"errors", "noise"}
    assert "stl, which is not compared; add it to --methods" in found.left_out["errors"]
    assert "regularize.noise=512" in found.left_out["noise"]


def test_data_are_plain(found: ComparisonAnalysis) -> None:
    data = json.loads(json.dumps(as_data(found), allow_nan=False))
    assert (data["kind"], data["errors"], data["noise"]) == ("comparison", None, None)
    assert data["correlation"][0]["points"][0].keys() == {"variant", "teachers", "probe", "score", "seeds"}


def test_other_data_than_those_compared_on_are_told(tmp_path: Path, colors: Path) -> None:
    kept(tmp_path, colors, SCORES, test_images=13)
    with pytest.raises(RunError, match=r"no longer what .* compared on"):
        analyze(tmp_path)


def test_few_teachers_need_no_data(tmp_path: Path) -> None:
    write_comparison(tmp_path, made({("stl", ""): [0.5], ("aft", ""): [0.6]}))
    found = analyze(tmp_path)
    assert "3 or more teachers (the source has 6 or more), and there is 1" in found.left_out["correlation"]


def test_a_comparison_with_nothing_to_analyze_says_what_to_add(tmp_path: Path) -> None:
    write_comparison(tmp_path, made({("scratch", ""): [0.5]}))
    with pytest.raises(RunError, match=r"add it to --methods; .*regularize\.noise=512.*--variant"):
        analyze(tmp_path)


def test_a_comparison_without_its_recipe_is_refused(tmp_path: Path) -> None:
    write_comparison(tmp_path, made({("stl", ""): [0.5]}, recipe=None))
    with pytest.raises(RunError, match=r"comparison\.json: holds no recipe"):
        analyze(tmp_path)
