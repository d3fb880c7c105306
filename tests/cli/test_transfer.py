from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from PIL import Image

from tutelage.evaluation.results import Result
from tutelage.recipe import Recipe
from tutelage.recipe_reading import make_recipe

if TYPE_CHECKING:
    from conftest import Command

MODELS = ("--student", "timm:lcnet_050", "--teacher", "bundled:efficientnet-lite0")


def test_check_shows_the_resolved_recipe_on_stderr(tutelage: Command, flowers: Path) -> None:
    ended = tutelage("transfer", "--labeled", "flowers", *MODELS, "--check")
    assert (ended.code, ended.out) == (0, "")
    *recipe, _, last = ended.err.splitlines()
    shown = yaml.safe_load("\n".join(recipe))
    assert shown["views"]["student_size"] == 32
    assert shown["finetune"]["epochs"] is not None
    assert last == "everything is in order"


def test_check_says_how_many_images_there_are(tutelage: Command, flowers: Path, tmp_path: Path) -> None:
    shutil.copytree(flowers / "rose", tmp_path / "test" / "rose")
    (flowers / "rose" / "0.png").unlink()
    Image.new("RGB", (9, 9)).save(flowers / "rose" / "new.png")
    Image.new("RGB", (9, 8)).save(flowers / "rose" / "newer.png")
    arguments = ("--labeled", "flowers", "--test", "test", "--labels", "2", *MODELS, "--json")
    counts = json.loads(tutelage("transfer", *arguments, "--check").out)["images"]
    dropped = {"labeled": 2, "validation": 0, "transfer": 0}
    assert counts == {
        "labeled": 4,
        "validation": 0,
        "test": 3,
        "transfer": 5,
        "pretraining": 0,
        "dropped": dropped,
    }


def test_check_prints_one_json_object_and_nothing_else(tutelage: Command, flowers: Path) -> None:
    ended = tutelage("transfer", "--labeled", "flowers", *MODELS, "--check", "--json")
    assert (ended.code, ended.err) == (0, "")
    found = json.loads(ended.out)
    assert found["ok"] is True
    assert make_recipe(found["recipe"]).student == "timm:lcnet_050"


def test_check_makes_no_run_folder(tutelage: Command, flowers: Path, tmp_path: Path) -> None:
    assert tutelage("transfer", "--labeled", "flowers", *MODELS, "--check", "--out", "made").code == 0
    assert list(tmp_path.iterdir()) == [flowers]


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Recipe, Path | None]]:
    """Take the place of the pipeline, and keep what it was given."""
    calls: list[tuple[Recipe, Path | None]] = []

    def run(recipe: Recipe, out: Path | None = None, *, progress: Any) -> Result:
        progress.say("working")
        with progress.track("a phase", 2) as update:
            update(2, {"loss": 0.5})
        calls.append((recipe, out))
        return Result(out or Path("runs/x"), {"schema": 1})

    monkeypatch.setattr("tutelage.pipeline.run", run)
    return calls


def test_a_run_prints_one_json_object_and_works_on_stderr(tutelage: Command, ran: Any) -> None:
    ended = tutelage("transfer", "--labeled", "digits", *MODELS, "--json")
    assert json.loads(ended.out) == {"schema": 1, "folder": "runs/x"}
    assert ended.err.startswith("working\na phase")


@pytest.mark.parametrize(
    ("flag", "value", "key", "kept"),
    [
        ("--task", "classification", "task", "classification"),
        ("--labels", "5", "data.labels", "5"),
        ("--labels", "10%", "data.labels", "10%"),
        ("--test", "digits", "data.test", "digits"),
        ("--transfer", "more", "data.transfer", "more"),
        ("--teacher", "timm:x", "teacher", "timm:x"),
        ("--method", "scratch", "method", "scratch"),
        ("--seed", "3", "seed", 3),
        ("--set", "distill.epochs=7", "distill.epochs", 7),
        ("--set", "distill.learning_rate=1e-3", "distill.learning_rate", 0.001),
        ("--set", "seed=4", "seed", 4),
    ],
)
def test_each_flag_goes_to_its_key(
    tutelage: Command, ran: Any, flag: str, value: str, key: str, kept: object
) -> None:
    tutelage("transfer", "--labeled", "digits", *MODELS, "--json", flag, value)
    asked = {"data.labeled": "digits", "student": MODELS[1], "teacher": MODELS[3], key: kept}
    assert ran == [(make_recipe({}, asked), None)]


def test_flags_override_the_file_and_settings_override_flags(tutelage: Command, ran: Any, tmp_path: Path) -> None:
    recipe = make_recipe({"data": {"labeled": "digits"}, "student": "timm:a", "method": "scratch", "seed": 1})
    (tmp_path / "recipe.yaml").write_text(recipe.to_yaml())
    tutelage("transfer", "recipe.yaml", "--student", "timm:b", "--seed", "2", "--set", "seed=3", "--json")
    assert ran[0][0] == recipe.model_copy(update={"student": "timm:b", "seed": 3})


def test_settings_may_be_many(tutelage: Command, ran: Any) -> None:
    tutelage("transfer", "--labeled", "digits", *MODELS, "--set", "folds=3", "--set", "distill.epochs=9", "--json")
    assert (ran[0][0].folds, ran[0][0].distill.epochs) == (3, 9)


def test_out_names_the_run_folder(tutelage: Command, ran: Any) -> None:
    assert json.loads(tutelage("transfer", "--labeled", "digits", *MODELS, "--out", "there", "--json").out) == {
        "schema": 1,
        "folder": "there",
    }


FAILURES = {
    "unknown student": (["--student", "timm:lcnet_05"], "unknown model 'timm:lcnet_05'; did you mean 'timm:lcnet_"),
    "student without its source": (["--student", "lcnet_050"], "did you mean 'timm:lcnet_050'?"),
    "unknown teacher": (["--teacher", "bundled:efficientnet"], "did you mean 'bundled:efficientnet-lite"),
    "teacher without weights": (["--teacher", "timm:test_vit_relpos"], "no pretrained weights"),
    "size that does not fit": (
        ["--student", "timm:vit_tiny_patch16_224", "--set", "views.student_size=33"],
        "33 is no multiple; 32 or 48 fits",
    ),
    "misspelled folder": (["--labeled", "flower"], "unknown folder 'flower'; did you mean 'flowers'?"),
    "missing test folder": (["--test", "no/test"], "no/test: no such folder"),
    "unknown key": (["--set", "distill.epoch=3"], "did you mean 'distill.epochs'"),
    "wrong type": (["--set", "distill.epochs=many"], "distill.epochs: input should be a valid integer"),
    "no setting": (["--set", "seed"], "write key=value"),
    "unknown method": (["--method", "scrach"], "unknown method 'scrach'; did you mean 'scratch'?"),
    "unknown task": (["--task", "classify"], "unknown task 'classify'; did you mean 'classification'?"),
    "one class": (["--labeled", "flowers/rose", "--set", "data.labeled=single"], "holds one class (rose)"),
    "too many labels": (["--labels", "9"], "has 3 images, 9 were asked for"),
    "labels in no known form": (["--labels", "few"], "data.labels: 'few' is none of N"),
    "nothing to hold out": (["--labels", "1"], "a class has a single labeled sample"),
    "test is train": (["--test", "flowers"], "every image of rose, tulip is also a test or validation image"),
    "unknown device": (["--set", "device=gpu"], "'gpu' is no device; use auto, cpu, cuda or cuda:N"),
    "device of another kind": (["--set", "device=meta"], "'meta' is not supported; use auto, cpu, cuda or cuda:N"),
}


@pytest.mark.parametrize("case", FAILURES)
def test_what_cannot_work_is_one_line_and_2_and_makes_nothing(
    tutelage: Command, flowers: Path, tmp_path: Path, case: str
) -> None:
    shutil.copytree(flowers / "rose", tmp_path / "single" / "rose")
    before = sorted(tmp_path.rglob("*"))
    arguments, message = FAILURES[case]
    ended = tutelage("transfer", "--labeled", "flowers", *MODELS, *arguments)
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.startswith("tutelage: ")
    assert ended.err.count("\n") == 1
    assert message in ended.err
    assert sorted(tmp_path.rglob("*")) == before


def test_a_missing_teacher_is_one_line_and_2(tutelage: Command) -> None:
    assert tutelage("transfer", "--labeled", "digits", "--student", "timm:lcnet_050") == (
        2,
        "",
        "tutelage: method 'task-oriented' needs a teacher, such as bundled:efficientnet-lite0\n",
    )


def test_a_folder_that_is_no_run_is_left_alone(tutelage: Command, flowers: Path) -> None:
    before = sorted(flowers.rglob("*"))
    ended = tutelage("transfer", "--labeled", "flowers", *MODELS, "--out", "flowers")
    assert ended == (2, "", "tutelage: flowers: exists and is not a run folder; choose another --out\n")
    assert sorted(flowers.rglob("*")) == before


def test_demo_runs_a_valid_recipe_with_its_seed(tutelage: Command, ran: Any) -> None:
    ended = tutelage("demo", "--seed", "3", "--json")
    assert json.loads(ended.out)["folder"] == "runs/demo-s3"
    recipe, out = ran[0]
    assert (recipe.seed, recipe.data.test, out) == (3, "digits", Path("runs/demo-s3"))


def test_demo_writes_where_it_is_told(tutelage: Command, ran: Any) -> None:
    tutelage("demo", "--out", "there", "--json")
    assert ran[0][1] == Path("there")


def test_the_demo_s_recipe_passes_the_check() -> None:
    from tutelage.checks import check
    from tutelage.cli.demo import DEMO

    data, _ = check(make_recipe(DEMO))
    assert (len(data.labeled), len(data.transfer)) == (50, 1200)
