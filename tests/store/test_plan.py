from __future__ import annotations

from typing import Any

import pytest

from tutelage.errors import RecipeError
from tutelage.store.plan import (
    DEFAULT_VIEWS,
    MIN_VIEWS,
    TargetPlan,
    Timing,
    kept_classes,
    logits_form,
    plan_targets,
    stored_bytes,
)

FEW, MANY = {"logits": (10,)}, {"logits": (1000,)}
DENSE = 1000 * 2
"""Bytes of a thousand logits in half precision."""

TOP_32 = 32 * 4 + 4


def plan(mode: Any = "auto", **changes: Any) -> TargetPlan:
    options: dict[str, Any] = {"epochs": 100, "images": 1000, "shapes": FEW, "max_bytes": 10**9}
    return plan_targets(mode, **{**options, **changes})


@pytest.mark.parametrize(
    ("epochs", "mode"),
    [(1, "live"), (DEFAULT_VIEWS, "live"), (2 * DEFAULT_VIEWS - 1, "live"), (2 * DEFAULT_VIEWS, "cached")],
)
def test_targets_are_stored_where_that_halves_the_passes(epochs: int, mode: str) -> None:
    assert plan(epochs=epochs).mode == mode


def test_the_plan_tells_what_it_takes() -> None:
    found = plan()
    assert (found.mode, found.views, found.forms) == ("cached", DEFAULT_VIEWS, {"logits": "float16"})
    assert found.bytes == 1000 * DEFAULT_VIEWS * 20
    assert found.pays_after == DEFAULT_VIEWS
    assert found.why.startswith("16 teacher passes over 1,000 images instead of 100, stored in 0.3 MB")


def test_live_targets_take_nothing_and_say_why() -> None:
    found = plan(epochs=31)
    assert (found.views, found.bytes, dict(found.forms)) == (0, 0, {})
    assert found.why == (
        "storing 16 views of each image takes 16 teacher passes, and 31 epochs take 31; it is worth its room from 32 "
        "epochs on"
    )
    assert plan("live").why == "the recipe asks for it"


@pytest.mark.parametrize(("epochs", "views", "stored"), [(3, None, 3), (3, 2, 2), (3, 9, 3), (100, 9, 9)])
def test_no_more_views_are_stored_than_epochs(epochs: int, views: int | None, stored: int) -> None:
    assert plan("cached", epochs=epochs, views=views).views == stored


@pytest.mark.parametrize(("views", "mode"), [(3, "cached"), (50, "cached"), (51, "live")])
def test_the_recipe_s_views_decide_what_pays(views: int, mode: str) -> None:
    assert plan(views=views).mode == mode


@pytest.mark.parametrize(
    ("room", "form", "views"),
    [
        (16 * DENSE, "float16", 16),
        (16 * DENSE - 1, "top-32", 16),
        (16 * TOP_32, "top-32", 16),
        (16 * TOP_32 - 1, "top-32", 15),
        (4 * TOP_32, "top-32", MIN_VIEWS),
    ],
)
def test_what_does_not_fit_is_stored_more_coarsely_then_in_fewer_views(room: int, form: str, views: int) -> None:
    found = plan(shapes=MANY, max_bytes=1000 * room)
    assert (found.mode, found.forms["logits"], found.views) == ("cached", form, views)
    assert found.bytes <= 1000 * room


def test_few_classes_are_all_kept() -> None:
    found = plan(max_bytes=1000 * 20 * 8 - 1)
    assert (found.forms["logits"], found.views) == ("float16", 7)


def test_features_are_stored_in_bytes_before_views_are_given_up() -> None:
    shapes = {"logits": (10,), "features": (100,), "patches": (4, 2, 2)}
    fine = stored_bytes(1000, 16, shapes, dict.fromkeys(shapes, "float16"))
    found = plan(shapes=shapes, max_bytes=fine - 1)
    assert found.views == 16
    assert found.forms == {"logits": "float16", "features": "int8", "patches": "int8"}
    assert found.bytes == 16000 * (20 + 104 + 20)


PIXELS = {"logits": (150, 4, 4)}


def test_dense_logits_stay_in_half_precision_where_they_fit() -> None:
    assert plan(shapes=PIXELS).forms == {"logits": "float16"}


def test_a_pixels_largest_predictions_are_stored_before_views_are_given_up() -> None:
    found = plan(shapes=PIXELS, max_bytes=stored_bytes(1000, 16, PIXELS, {"logits": "float16"}) - 1)
    assert (found.forms, found.views) == ({"logits": "top-8"}, 16)
    assert found.bytes == 16000 * 16 * (8 * 4 + 4)


def test_of_few_classes_a_pixels_predictions_are_all_stored() -> None:
    shapes = {"logits": (20, 4, 4)}
    found = plan(shapes=shapes, max_bytes=stored_bytes(1000, 16, shapes, {"logits": "float16"}) - 1)
    assert (found.forms, found.views) == ({"logits": "float16"}, 15)


def test_what_does_not_fit_at_all_is_computed_live() -> None:
    found = plan(shapes=MANY, max_bytes=1000 * 4 * TOP_32 - 1)
    assert found.mode == "live"
    assert found.why == "4 views of 1,000 images take 0.5 MB as top-32, more than store.max_gb=0.000527999"


def test_storing_that_was_asked_for_and_does_not_fit_names_the_room_that_it_takes() -> None:
    with pytest.raises(RecipeError, match=r"set store\.max_gb to at least 5\.28, or distill\.targets=live"):
        plan("cached", images=10**7, shapes=MANY, max_bytes=10**9)
    assert plan("cached", images=10**7, shapes=MANY, max_bytes=5_280_000_000).views == MIN_VIEWS


def test_nothing_fits_into_nothing() -> None:
    assert plan(max_bytes=0).mode == "live"


@pytest.mark.parametrize("given", [{"views": 8}, {"top_k": 0}, {"top_k": 600}])
def test_what_the_recipe_says_is_not_given_up_to_save_room(given: dict[str, int]) -> None:
    found = plan(shapes=MANY, max_bytes=1000 * 4 * TOP_32, **given)
    assert found.mode == "live"


@pytest.mark.parametrize(("top_k", "form"), [(None, "float16"), (0, "float16"), (5, "top-5"), (10, "float16")])
def test_the_recipe_s_top_k_is_obeyed_where_it_says_less_than_all(top_k: int | None, form: str) -> None:
    assert plan(top_k=top_k).forms["logits"] == form == logits_form(10, top_k)


@pytest.mark.parametrize(("form", "kept"), [("float16", 0), ("top-5", 5)])
def test_a_form_is_a_number_of_classes_in_the_recipe(form: str, kept: int) -> None:
    assert kept_classes({"logits": form}) == kept
    assert logits_form(10, kept) == form


def test_the_same_is_planned_again_from_what_was_planned() -> None:
    for room in (10**9, 1000 * 8 * DENSE - 1, 1000 * 5 * TOP_32):
        once = plan(shapes=MANY, max_bytes=room)
        again = plan(once.mode, shapes=MANY, max_bytes=room, views=once.views, top_k=kept_classes(once.forms))
        assert again == once


TIMING = Timing(pack=0.002, view=0.001, teacher=0.004, student=0.0005)


def test_times_are_predicted_from_those_of_an_image() -> None:
    assert TIMING.pack_build(1000) == pytest.approx(2.0)
    assert TIMING.target_build(1000, 8) == pytest.approx(8 * 5.0)
    assert TIMING.live_epoch(1000) == pytest.approx(5.5)
    assert TIMING.cached_epoch(1000) == pytest.approx(1.5)
    assert TIMING.break_even(8) == pytest.approx(10.0)


def test_from_the_break_even_on_the_store_has_paid() -> None:
    def spent(epochs: float) -> tuple[float, float]:
        return epochs * TIMING.live_epoch(7), TIMING.target_build(7, 8) + epochs * TIMING.cached_epoch(7)

    live, cached = spent(TIMING.break_even(8))
    assert live == pytest.approx(cached)
    assert spent(9)[0] < spent(9)[1]
    assert spent(11)[0] > spent(11)[1]
