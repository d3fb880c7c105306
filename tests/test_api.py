from __future__ import annotations

import importlib
import inspect
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

import tutelage
from tutelage.errors import DataError, RecipeError, UnknownNameError
from tutelage.evaluation.results import Result
from tutelage.recipe import Recipe
from tutelage.recipe_reading import make_recipe
from tutelage.run import Stage

GIVEN: dict[str, Any] = {"labeled": "digits", "teacher": "bundled:efficientnet-lite0", "student": "timm:lcnet_050"}


def test_public_names_are_sorted() -> None:
    assert tutelage.__all__ == sorted(tutelage.__all__)


def test_public_names_are_all_that_is_lazily_imported() -> None:
    assert set(tutelage.__all__) == set(tutelage._PUBLIC)


@pytest.mark.parametrize("name", tutelage.__all__)
def test_every_public_name_is_where_it_is_said_to_be(name: str) -> None:
    home = importlib.import_module(tutelage._PUBLIC[name])
    assert getattr(tutelage, name) is getattr(home, name)
    assert getattr(tutelage, name).__module__ == tutelage._PUBLIC[name]


@pytest.mark.parametrize("name", tutelage.__all__)
def test_every_public_name_is_known_to_type_checkers(name: str) -> None:
    assert f"from {tutelage._PUBLIC[name]} import {name} as {name}\n" in inspect.getsource(tutelage)


@pytest.mark.parametrize("name", tutelage.__all__)
def test_every_public_name_has_a_docstring(name: str) -> None:
    thing = getattr(tutelage, name)
    assert thing.__doc__
    own = [member for key, member in vars(thing).items() if not key.startswith("_")] if inspect.isclass(thing) else []
    for member in own:
        if inspect.isfunction(member) or isinstance(member, property):
            assert member.__doc__, member


def test_every_error_is_public() -> None:
    from tutelage import errors

    assert {name for name in vars(errors) if name.endswith("Error")} <= set(tutelage.__all__)


def test_dir_lists_the_public_names() -> None:
    assert set(dir(tutelage)) == {*tutelage.__all__, "__version__"}


def test_the_version_is_the_package_s() -> None:
    assert tutelage.__version__ == version("tutelage")


def test_an_unknown_attribute_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'tutelage' has no attribute 'transfre'"):
        tutelage.transfre  # noqa: B018


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Recipe, Path | None, Any]]:
    """Take the place of the pipeline, and keep what it was given."""
    calls: list[tuple[Recipe, Path | None, Any]] = []

    def run(recipe: Recipe, out: Path | None = None, *, progress: Any = None) -> Result:
        calls.append((recipe, out, progress))
        return Result(Path("somewhere"), {"metrics": {}})

    monkeypatch.setattr("tutelage.api.run", run)
    return calls


def test_the_result_of_the_run_is_returned(ran: Any) -> None:
    assert tutelage.transfer(**GIVEN).folder == Path("somewhere")


@pytest.mark.parametrize(
    ("argument", "value", "key", "kept"),
    [
        ("labeled", "some/folder", "data.labeled", "some/folder"),
        ("labeled", Path("some/folder"), "data.labeled", "some/folder"),
        ("labels", 5, "data.labels", "5"),
        ("labels", "max:5", "data.labels", "max:5"),
        ("test", Path("test"), "data.test", "test"),
        ("transfer", Path("more"), "data.transfer", "more"),
        ("teacher", "timm:vit_tiny_patch16_224", "teacher", "timm:vit_tiny_patch16_224"),
        ("student", "timm:fastvit_t8", "student", "timm:fastvit_t8"),
        ("method", "scratch", "method", "scratch"),
        ("seed", 0, "seed", 0),
        ("settings", {"distill.epochs": 50}, "distill.epochs", 50),
        ("settings", {"data.validation": "val"}, "data.validation", "val"),
    ],
)
def test_each_argument_goes_to_its_key(ran: Any, argument: str, value: object, key: str, kept: object) -> None:
    tutelage.transfer(**{**GIVEN, argument: value})
    assert ran[0][0] == make_recipe(
        {}, {"data.labeled": "digits", "teacher": GIVEN["teacher"], "student": GIVEN["student"], key: kept}
    )


def test_the_folder_and_the_progress_go_to_the_run(ran: Any) -> None:
    progress: Any = object()
    tutelage.transfer(**GIVEN, out="there", progress=progress)
    assert ran[0][1:] == (Path("there"), progress)


def test_without_a_folder_the_run_names_its_own(ran: Any) -> None:
    tutelage.transfer(**GIVEN)
    assert ran[0][1] is None


@pytest.mark.parametrize("form", ["recipe", "path", "text"])
def test_arguments_override_a_recipe(ran: Any, tmp_path: Path, form: str) -> None:
    recipe = make_recipe({}, {"data.labeled": "digits", "student": "timm:lcnet_050", "method": "scratch", "seed": 1})
    path = tmp_path / "recipe.yaml"
    path.write_text(recipe.to_yaml())
    given: Any = {"recipe": recipe, "path": path, "text": str(path)}[form]
    tutelage.transfer(given, seed=2)
    assert ran[0][0] == recipe.model_copy(update={"seed": 2})


def test_a_misspelled_setting_is_answered_before_anything_runs(ran: Any) -> None:
    with pytest.raises(UnknownNameError, match=r"did you mean 'distill\.epochs'"):
        tutelage.transfer(**GIVEN, settings={"distill.epoch": 3})
    assert not ran


def test_nothing_given_says_what_is_missing() -> None:
    with pytest.raises(RecipeError, match=r"data\.labeled: is missing"):
        tutelage.transfer()


def test_a_run_that_cannot_start_leaves_no_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such folder"):
        tutelage.transfer(**{**GIVEN, "labeled": tmp_path / "no" / "train"}, out=tmp_path / "run")
    assert not list(tmp_path.iterdir())


CURATING: dict[str, Any] = {
    "data": {"labeled": "digits"},
    "student": "timm:lcnet_050",
    "teacher": GIVEN["teacher"],
    "curate": {"gallery": "here", "size": 10},
}


@pytest.fixture
def curated(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[tuple[Recipe, Path | None, dict[str, Any]]]:
    """Take the place of the curation, and keep what it was given."""
    calls: list[tuple[Recipe, Path | None, dict[str, Any]]] = []
    folder = tmp_path / "run" / "01-curate"
    folder.mkdir(parents=True)
    (folder / "curation.json").write_text('{"retrieved": 10}')

    def run(recipe: Recipe, out: Path | None = None, **how: Any) -> Stage:
        calls.append((recipe, out, how))
        return Stage("curate", folder, "", {}, {}, reused=False)

    monkeypatch.setattr("tutelage.api.run_curation", run)
    monkeypatch.setattr("tutelage.api.write_curation_page", lambda stage: stage.parent / "curation.html")
    return calls


@pytest.mark.parametrize(
    ("argument", "value", "key", "kept"),
    [
        ("gallery", Path("there"), "curate.gallery", "there"),
        ("size", "auto", "curate.size", "auto"),
        ("strategy", "random", "curate.strategy", "random"),
        ("leaks", "keep", "curate.leaks", "keep"),
        ("settings", {"curate.crops": 4}, "curate.crops", 4),
    ],
)
def test_each_argument_of_a_curation_goes_to_its_key(
    curated: Any, argument: str, value: object, key: str, kept: object
) -> None:
    tutelage.curate(make_recipe(CURATING), **{argument: value})  # type: ignore[arg-type]
    assert curated[0][0] == make_recipe(CURATING, {key: kept})


def test_the_folder_and_the_engine_go_to_the_curation(curated: Any) -> None:
    tutelage.curate(make_recipe(CURATING), out="there", engine="ray")
    assert curated[0][1:] == (Path("there"), {"progress": None, "engine": "ray"})


def test_what_was_curated_is_returned_with_where_it_is(curated: Any, tmp_path: Path) -> None:
    found = tutelage.curate(make_recipe(CURATING))
    assert found.data == {"retrieved": 10}
    assert found.folder == tmp_path / "run"
    assert (found.path, found.page) == (
        found.folder / "01-curate" / "transfer.parquet",
        found.folder / "curation.html",
    )
