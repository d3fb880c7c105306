"""``tutelage compare`` as its user types it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image
from typer.testing import CliRunner

from tutelage.cli import app


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("compare")
    generator = np.random.default_rng(0)
    for part, count in (("train", 4), ("test", 2)):
        for name in ("bright", "dark"):
            (root / part / name).mkdir(parents=True)
            for number in range(count):
                pixels = generator.integers(0, 100, (10, 10, 3)) + (150 if name == "bright" else 0)
                Image.fromarray(pixels.astype(np.uint8)).save(root / part / name / f"{number}.png")
    data = {
        "data": {"labeled": str(root / "train"), "labels": 2, "test": str(root / "test")},
        "teacher": "bundled:efficientnet-lite0",
        "student": "timm:test_efficientnet",
        "device": "cpu",
        "views": {"teacher_size": 32, "student_size": 32},
        "distill": {"epochs": 1},
        "finetune": {"epochs": 1, "learning_rates": [1e-3], "probe_views": 0},
    }
    path = root / "small.yaml"
    path.write_text(yaml.safe_dump(data))
    return path


def test_json_holds_every_cell(recipe: Path, tmp_path: Path) -> None:
    asked = ["--methods", "scratch,agnostic-image", "--seeds", "2", "--points", "0", "--out", str(tmp_path / "out")]
    result = CliRunner().invoke(app, ["compare", str(recipe), *asked, "--json"])
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert [each["cell"]["method"] for each in found["outcomes"]] == 2 * ["scratch"] + 2 * ["agnostic-image"]


def test_a_plan_says_what_is_to_be_run(recipe: Path, tmp_path: Path) -> None:
    asked = ["--methods", "scratch", "--seeds", "2", "--plan", "--json", "--out", str(tmp_path / "out")]
    result = CliRunner().invoke(app, ["compare", str(recipe), *asked])
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert (found["cells"], found["stages"]["finetune"]["count"]) == (2, 2)


def test_a_plan_for_people_names_the_stages(recipe: Path, tmp_path: Path) -> None:
    asked = ["--methods", "scratch", "--seeds", "2", "--plan", "--out", str(tmp_path / "out")]
    result = CliRunner().invoke(app, ["compare", str(recipe), *asked])
    assert "Finetune the student" in result.stderr


def test_a_failed_cell_has_its_exit_code(recipe: Path, tmp_path: Path) -> None:
    asked = ["--methods", "scratch", "--seeds", "1", "--budget", "10", "--out", str(tmp_path / "out")]
    result = CliRunner().invoke(app, ["compare", str(recipe), *asked])
    assert result.exit_code == 1
    assert "a budget of 10 is too small" in result.stderr


def test_variants_are_cells_that_share_what_they_do_not_change(recipe: Path, tmp_path: Path) -> None:
    variants = ["--variant", "plain", "--variant", "warm: distill.temperature=3"]
    asked = ["--methods", "scratch", "--seeds", "1", *variants, "--plan", "--json", "--out", str(tmp_path / "out")]
    result = CliRunner().invoke(app, ["compare", str(recipe), *asked])
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert (found["cells"], found["stages"]["finetune"]["count"]) == (2, 1)
