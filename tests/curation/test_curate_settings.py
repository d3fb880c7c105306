from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.comparison.two_colors import two_colors

from tutelage.checks import check
from tutelage.curation.embedder import encoder_size
from tutelage.curation.settings import CurateSettings
from tutelage.errors import ModelError, RecipeError, UnknownNameError
from tutelage.recipe import Recipe
from tutelage.recipe_reading import make_recipe, parse_setting
from tutelage.views.settings import ViewSettings

ENCODER = "bundled:efficientnet-lite0"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return two_colors(tmp_path_factory.mktemp("settings"))


def recipe(data: Path, changes: dict[str, Any] | None = None, **curation: Any) -> Recipe:
    settings = {
        "data": {"labeled": str(data / "train"), "labels": 3, "test": str(data / "test")},
        "curate": {"gallery": str(data / "other"), "size": 8, "encoders": [ENCODER], **curation},
        "student": "timm:test_efficientnet",
        "method": "dino",
        "device": "cpu",
    }
    return make_recipe(settings, changes)


def test_a_transfer_set_is_given_or_curated(data: Path) -> None:
    with pytest.raises(RecipeError, match=r"data.transfer and curate"):
        recipe(data, {"data.transfer": str(data / "other")})


def test_a_strategy_that_does_not_exist_is_answered_with_the_close_one(data: Path) -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'query-balanced"):
        recipe(data, strategy="query-balance")


def test_encoders_are_the_teachers_if_none_is_named(data: Path) -> None:
    assert recipe(data, {"teacher": ENCODER}, encoders=[]).curate is not None
    with pytest.raises(RecipeError, match=r"curate.encoders: without a teacher"):
        recipe(data, encoders=[])


def test_an_encoder_is_named_once(data: Path) -> None:
    with pytest.raises(RecipeError, match="named twice"):
        recipe(data, encoders=[ENCODER, ENCODER])


def test_one_encoder_is_a_list_of_one(data: Path) -> None:
    found = recipe(data, encoders=ENCODER).curate
    assert found is not None
    assert found.encoders == (ENCODER,)


def test_off_is_what_yaml_reads_as_false(data: Path) -> None:
    found = recipe(data, dict([parse_setting("curate.duplicates=off")])).curate
    assert found is not None
    assert found.duplicates == "off"


@pytest.mark.parametrize("template", ["a photo", "{} and {}"])
def test_a_template_has_one_place_for_the_class(data: Path, template: str) -> None:
    with pytest.raises(RecipeError, match="exactly one"):
        recipe(data, strategy="query-balanced-text", templates=[template])


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("size", 0),
        ("crops", -1),
        ("queries", 0),
        ("duplicates", 1.5),
        ("leaks", "perhaps"),
        ("leak_threshold", "off"),
    ],
)
def test_values_that_mean_nothing_are_refused(data: Path, key: str, value: Any) -> None:
    with pytest.raises(RecipeError, match=f"curate.{key}"):
        recipe(data, **{key: value})


def test_the_gallery_must_be_there(data: Path) -> None:
    with pytest.raises(UnknownNameError, match="nowhere"):
        check(recipe(data, gallery=str(data / "nowhere")))


def test_an_encoder_must_be_there(data: Path) -> None:
    with pytest.raises(UnknownNameError, match="efficientnet-lite"):
        check(recipe(data, encoders=["bundled:efficientnet-lite9"]))


def test_prompts_need_a_text_tower(data: Path) -> None:
    with pytest.raises(ModelError, match="has no text tower"):
        check(recipe(data, strategy="query-balanced-text"))


def test_each_query_is_to_get_an_item(data: Path) -> None:
    with pytest.raises(RecipeError, match=r"curate.size=5: cannot be balanced over 6 labeled images"):
        check(recipe(data, size=5))
    check(recipe(data, size=5, queries=5))
    check(recipe(data, size=5, strategy="best-matches"))


def test_a_check_assumes_the_items_and_the_queries(data: Path) -> None:
    found, resolved = check(recipe(data, size=30))
    assert len(found.transfer) == 36
    assert (
        resolved.dino.epochs == recipe(data).dino.resolved(36, student=resolved.student, views=resolved.views).epochs
    )


def test_a_method_that_learns_from_no_unlabeled_data_curates_nothing(data: Path) -> None:
    found, _ = check(recipe(data, {"method": "scratch"}, gallery=str(data / "nowhere")))
    assert len(found.transfer) == 16


@pytest.mark.parametrize(("side", "expected"), [(10, 64), (40, 96), (500, 224)])
def test_an_encoder_of_any_size_sees_images_at_twice_their_size_up_to_its_own(side: int, expected: int) -> None:
    settings = CurateSettings(gallery="gallery", size=1)
    assert encoder_size(ENCODER, settings, ViewSettings(), side) == expected


def test_a_size_that_is_asked_for_holds() -> None:
    settings = CurateSettings(gallery="gallery", size=1, input_size=48)
    assert encoder_size(ENCODER, settings, ViewSettings(teacher_size=96), 500) == 48
    assert encoder_size(ENCODER, CurateSettings(gallery="g", size=1), ViewSettings(teacher_size=96), 500) == 96
