from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tutelage.analysis.analyze import analyze, as_data
from tutelage.analysis.of_run import PARTS, RunAnalysis, parts_left_out
from tutelage.errors import RunError
from tutelage.evaluation.results import Result
from tutelage.recipe_reading import make_recipe


@pytest.fixture(scope="module")
def found(aft: Result) -> RunAnalysis:
    analysis = analyze(aft.folder)
    assert isinstance(analysis, RunAnalysis)
    return analysis


def test_weights_are_those_that_training_left(found: RunAnalysis, aft: Result) -> None:
    assert found.weights is not None
    assert {name: each.features for name, each in found.weights.items()} == {
        "toy:color": 3,
        "toy:noise": 6,
        "noise": 7,
    }
    folder = aft.folder / aft.data["folders"]["finetune"]
    weights = torch.sigmoid(load_file(folder / "regularizer.safetensors")["weights"].double())
    parts = weights.split([3, 6, 7])
    for part, each in zip(parts, found.weights.values(), strict=True):
        assert each.mean == pytest.approx(float(part.mean()), abs=1e-6)
    assert float((weights - 0.5).abs().max()) > 1e-4  # something was learned


def test_every_part_of_a_run_with_test_data_is_there(found: RunAnalysis) -> None:
    assert found.left_out == {}
    assert found.probes is not None
    assert found.probes.images == 12
    assert found.probes.plain.test == pytest.approx(found.probes.weighted.test - found.probes.difference)
    assert found.training is not None
    assert found.training.batch_size == 12
    assert found.inference is not None
    assert [each.name for each in found.inference] == ["timm:test_efficientnet", "toy:color", "toy:noise"]


def test_looking_at_a_run_changes_nothing_but_the_page(aft: Result) -> None:
    def kept() -> dict[Path, tuple[int, int]]:
        files = (path for path in aft.folder.rglob("*") if path.is_file() and path.name != "analysis.html")
        return {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in files}

    before = kept()
    (aft.folder / "analysis.html").unlink(missing_ok=True)
    analyze(aft.folder)
    assert kept() == before
    assert (aft.folder / "analysis.html").exists()


def test_data_are_plain_and_complete(found: RunAnalysis) -> None:
    data = json.loads(json.dumps(as_data(found), allow_nan=False))
    assert data["kind"] == "run"
    assert data.keys() >= {
        "schema",
        "folder",
        "page",
        "about",
        "weights",
        "probes",
        "training",
        "inference",
        "left_out",
    }
    assert data["probes"]["plain"].keys() == {"penalty", "edge", "held_out", "test"}
    assert len(data["training"]["ratio"]) == 3


def test_changed_data_are_told_before_anything_is_measured(aft: Result, colors: Path) -> None:
    picture = colors / "train" / "red" / "0.png"
    status = picture.stat()
    every = sorted(colors.glob("train/*/*.png"))
    before = [path.stat() for path in every]
    for path in every:
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1_000_000_000))
    try:
        with pytest.raises(RunError, match="its stage 'features' is not what its recipe and data would make now"):
            analyze(aft.folder)
    finally:
        for path, each in zip(every, before, strict=True):
            os.utime(path, ns=(each.st_atime_ns, each.st_mtime_ns))


@pytest.mark.parametrize(
    ("changes", "parts", "why"),
    [
        ({}, set(), ""),
        ({"regularize.kernel": "rbf"}, set(), ""),
        ({"regularize.weights": "dense"}, {"weights", "probes"}, "regularize.weights: dense"),
        ({"regularize.kernel": "none"}, {"weights", "probes"}, "regularize.kernel: none"),
        ({"student": "pair:openclip:RN50/openai"}, {"probes"}, "a pair's image and text side by side"),
        ({"method": "kd"}, {"weights", "probes"}, "this is a run of kd"),
        ({"method": "task-oriented"}, {"weights", "probes", "training"}, "nothing holds the student"),
        ({"method": "stl"}, PARTS, "stl has no teacher"),
    ],
)
def test_parts_that_do_not_apply_say_why(changes: dict[str, str], parts: set[str], why: str) -> None:
    given = {"data": {"labeled": "digits"}, "teacher": "toy:color", "student": "timm:lcnet_050", "method": "aft"}
    found = parts_left_out(make_recipe(given, changes))
    assert found.keys() == parts
    assert why in " ".join(found.values())


def test_a_run_with_nothing_to_analyze_says_what_has(tmp_path: Path) -> None:
    recipe = make_recipe({"data": {"labeled": "digits"}, "student": "timm:lcnet_050", "method": "scratch"})
    (tmp_path / "recipe.yaml").write_text(recipe.to_yaml())
    (tmp_path / "results.json").write_text("{}")
    with pytest.raises(RunError, match=r"scratch has no teacher .* --method aft\), or a comparison"):
        analyze(tmp_path)


def test_another_folder_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"holds neither results\.json nor comparison\.json"):
        analyze(tmp_path)
