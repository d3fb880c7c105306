"""Named changes of the recipe: how they are written, what they may be, and the cells that they make."""

from __future__ import annotations

from typing import Any

import pytest

from tutelage.comparison.grid import Grid, make_grid, recipe_of
from tutelage.comparison.variants import Variant, parse_variants
from tutelage.errors import RecipeError, UnknownNameError
from tutelage.recipe import Recipe
from tutelage.recipe_reading import make_recipe


def recipe(**changes: Any) -> Recipe:
    data = {"labeled": "digits", "labels": 5, "test": "digits"}
    return make_recipe(
        {"data": data, "teacher": "bundled:efficientnet-lite0", "student": "timm:lcnet_050", **changes}
    )


def grid(*texts: str, methods: tuple[str, ...] = ("scratch", "task-oriented"), **changes: Any) -> Grid:
    return make_grid(recipe(), **{"methods": methods, "seeds": 1, **changes}, variants=parse_variants(texts))


def test_a_variant_is_a_name_and_settings() -> None:
    texts = ["plain", "warm: distill.temperature=3; student = timm:lcnet_075 ;", "both: teacher=[a:b, c:d]"]
    assert parse_variants(texts) == {
        "plain": {},
        "warm": {"distill.temperature": 3, "student": "timm:lcnet_075"},
        "both": {"teacher": ["a:b", "c:d"]},
    }


@pytest.mark.parametrize(
    "text", ["", ": seed=3", "warm:", "distill.temperature=3", "warm: distill.temperature", "a: =3"]
)
def test_what_is_written_in_another_way_is_refused(text: str) -> None:
    with pytest.raises(RecipeError, match=r"variant.*write (NAME|key=value)"):
        parse_variants([text])


@pytest.mark.parametrize("second", ["warm", "scratch / warm"])
def test_a_name_is_given_once(second: str) -> None:
    with pytest.raises(RecipeError, match="--variant: 'warm' is given twice"):
        grid("warm: distill.temperature=3", second)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("method=scratch", "'odd': method is varied by an option of its own; use --methods"),
        ("seed=3", "use --seeds"),
        ("start=pretrained", "use --start"),
        ("data.labels=3", "use --labels"),
        ("data.transfer=x", "use --transfer"),
        ("distill.snapshots=[0.5]", "use --points"),
        ("data.validation=x", "'odd': data.validation is the same in all cells; set it in the recipe"),
        ("device=cpu", "device is the same in all cells"),
        ("distill.temprature=3", "variant 'odd': unknown key .*did you mean 'distill.temperature'"),
        ("distill.temperature=[", "variant 'odd': .*not YAML"),
        ("teacher=null", "variant 'odd': method 'task-oriented' needs a teacher"),
    ],
)
def test_what_a_variant_cannot_set_is_said_with_its_name(change: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        grid("plain", f"odd: {change}")


def test_a_variant_is_checked_for_its_own_methods_alone() -> None:
    made = grid("scratch / alone: teacher=null", "task-oriented / plain")
    assert [(cell.method, cell.variant) for cell in made.cells] == [("scratch", "alone"), ("task-oriented", "plain")]


def test_a_variant_for_a_method_that_is_not_compared_is_refused() -> None:
    with pytest.raises(UnknownNameError, match=r"did you mean 'scratch'.* name it in --methods"):
        grid("plain", "scrtch / odd")


def test_every_method_needs_a_variant() -> None:
    with pytest.raises(RecipeError, match="none is for 'scratch'; add one, such as 'scratch / plain'"):
        grid("task-oriented / plain")


def test_cells_come_by_method_then_variant_then_labels() -> None:
    made = grid("plain", "task-oriented / warm: distill.temperature=3", labels=["5", "10"])
    assert [(cell.method, cell.variant, cell.labels) for cell in made.cells] == [
        (method, variant, labels)
        for method, variant in [("scratch", "plain"), ("task-oriented", "plain"), ("task-oriented", "warm")]
        for labels in ("5", "10")
    ]


def test_all_variants_of_a_seed_run_before_the_next_one() -> None:
    turns = grid("plain", "warm: distill.temperature=3", seeds=2).in_turn()
    assert [cell.seed for cell in turns] == [0] * 4 + [1] * 4


def test_without_variants_there_is_one_without_a_name() -> None:
    made = grid()
    assert (made.variants, {cell.variant for cell in made.cells}) == ((Variant(),), {""})


def test_a_cell_s_recipe_has_its_variant_s_settings() -> None:
    made = grid("plain", "warm: distill.temperature=3")
    found = {cell.variant: recipe_of(recipe(), made, cell).distill.temperature for cell in made.cells}
    assert found == {"plain": recipe().distill.temperature, "warm": 3}


def test_a_variant_changes_a_method_s_finetuning_as_a_baseline_too() -> None:
    given = recipe(baselines=["scratch"], baseline_finetune={"scratch": {"epochs": 7, "batch_size": 32}})
    made = make_grid(given, methods=["scratch"], seeds=1, variants={"short": {"finetune.epochs": 3}})
    found = recipe_of(given, made, made.cells[0]).finetune
    assert (found.epochs, found.batch_size) == (3, 32)


def test_students_that_all_methods_take_pretrained_start_so() -> None:
    assert grid(methods=("stl",)).starts == ("pretrained",)
