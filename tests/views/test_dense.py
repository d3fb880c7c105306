from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from scipy import stats
from torch import Tensor

from tutelage.data.masks import IGNORED
from tutelage.runtime.letterbox import fitted
from tutelage.views import (
    POLICIES,
    WHOLE,
    DensePolicy,
    DenseViews,
    ViewPolicy,
    Views,
    placed,
    sample_views,
    whole_views,
)
from tutelage.views.dense import BLUR, BRIGHTNESS, CONTRAST, HUE, PLACES, SATURATION, inside, shown

DENSE = POLICIES["dense"]
# With fixed seeds these tests either always pass or always fail; the level says how unlikely a false alarm was.
LEVEL = 1e-3


def draw(policy: ViewPolicy, rows: Any, *, aspects: Any = 1.0, seed: int = 0) -> Views:
    rows = np.arange(rows) if isinstance(rows, int) else rows
    keys = np.random.default_rng(5).integers(0, 2**64, 4000, dtype=np.uint64)[rows]
    shapes = np.broadcast_to(np.asarray(aspects, dtype=np.float64), len(rows))
    return sample_views(policy, keys, rows, rows % 3, seed=seed, aspects=shapes, partners=None)


def extra(policy: ViewPolicy, rows: Any, **options: Any) -> DenseViews:
    dense = draw(policy, rows, **options).dense
    assert dense is not None
    return dense


def assert_same(views: Views, others: Views) -> None:
    for field in fields(Views):
        if field.name != "dense":
            np.testing.assert_array_equal(getattr(views, field.name), getattr(others, field.name), err_msg=field.name)
    for field in fields(DenseViews):
        one, other = getattr(views.dense, field.name), getattr(others.dense, field.name)
        np.testing.assert_array_equal(one, other, err_msg=field.name)


def test_a_dense_view_is_the_same_whatever_batch_it_is_drawn_in() -> None:
    aspects, order = np.linspace(0.3, 3.0, 60), np.random.default_rng(0).permutation(60)
    whole = draw(DENSE, 60, aspects=aspects)
    assert_same(draw(DENSE, order, aspects=aspects[order]), whole[order])
    assert_same(draw(DENSE, np.array([17]), aspects=aspects[17]), whole[17:18])


def test_known_dense_views_stay_what_they_are() -> None:
    # Stored targets name views by seed, key and number: another stream would silently give them other views.
    keys, rows = np.array([39], np.uint64), np.array([0])
    views = sample_views(DENSE, keys, rows, np.array([2]), seed=3, aspects=np.array([1.5]), partners=None)
    known = {
        "blur": 0.001019,
        "brightness": -0.07015,
        "contrast": -0.115138,
        "saturation": -0.243454,
        "hue": 0.029082,
        "contrast_last": True,
        "angle": -0.500657,
    }
    assert views.dense is not None
    for name, value in known.items():
        np.testing.assert_allclose(getattr(views.dense, name)[0], value, atol=2e-6, err_msg=name)
    np.testing.assert_allclose(views.crop[0], [0.117434, 0.274014, 0.811289, 0.54086], atol=2e-6)
    np.testing.assert_allclose(views.dense.places[0, -1, :2], [0.171541, 0.011216], atol=2e-6)


def test_dense_policies_draw_flips_as_others_do() -> None:
    np.testing.assert_array_equal(draw(DENSE, 200).flip, draw(ViewPolicy(crop=(0.1, 1.0), flip=0.5), 200).flip)


def test_one_part_of_a_dense_policy_moves_no_other_part() -> None:
    assert DENSE.dense is not None
    plain = ViewPolicy(dense=DensePolicy(scale=DENSE.dense.scale))
    np.testing.assert_array_equal(draw(plain, 50).crop, draw(DENSE, 50).crop)
    rotated = ViewPolicy(dense=DensePolicy(rotate=10.0))
    np.testing.assert_array_equal(extra(rotated, 50).angle, extra(DENSE, 50).angle)


@pytest.mark.parametrize("changed", ["seed", "key", "number"])
def test_seed_key_and_number_each_give_another_dense_view(changed: str) -> None:
    def one(seed: int, key: int, number: int) -> Views:
        keys, rows, numbers = np.array([key], np.uint64), np.zeros(1, np.int64), np.array([number])
        return sample_views(DENSE, keys, rows, numbers, seed=seed, aspects=np.ones(1), partners=None)

    values = {"seed": 5, "key": 6, "number": 7}
    before, after = one(**values), one(**(values | {changed: values[changed] + 1}))
    assert not np.array_equal(before.crop, after.crop)
    assert before.dense is not None
    assert after.dense is not None
    assert before.dense.angle[0] != after.dense.angle[0]


@pytest.mark.parametrize("aspect", [0.4, 1.0, 1.6])
def test_squares_are_as_large_as_the_scale_says(aspect: float) -> None:
    crop = draw(DENSE, 3000, aspects=aspect).crop
    # In pixels of an image whose short side is 1.
    height, width = crop[:, 2] * max(1.0, 1.0 / aspect), crop[:, 3] * max(1.0, aspect)
    np.testing.assert_allclose(height, width, rtol=1e-12)
    assert stats.kstest(1.0 / height, stats.uniform(0.5, 1.0).cdf).pvalue > LEVEL


@pytest.mark.parametrize("aspect", [0.4, 1.0, 1.6])
def test_squares_lie_in_the_image_or_the_image_in_them(aspect: float) -> None:
    views = draw(DENSE, 3000, aspects=aspect)
    for start, size in zip(views.crop[:, :2].T, views.crop[:, 2:].T, strict=True):
        assert (start[size <= 1] >= 0).all()
        assert ((start + size)[size <= 1] <= 1 + 1e-12).all()
        assert (start[size > 1] <= 0).all()
        assert ((start + size)[size > 1] >= 1 - 1e-12).all()
        assert stats.kstest((start / (1 - size))[abs(1 - size) > 1e-9], stats.uniform.cdf).pvalue > LEVEL


def test_all_places_have_the_same_size() -> None:
    places = extra(DENSE, 50, aspects=1.3).places
    assert places.shape == (50, PLACES, 4)
    np.testing.assert_array_equal(places[:, :, 2:], np.repeat(places[:, :1, 2:], PLACES, axis=1))
    assert len(np.unique(places[0, :, 0])) == PLACES


def test_the_first_place_is_where_a_view_is_cut() -> None:
    views = draw(DENSE, 20)
    assert views.dense is not None
    np.testing.assert_array_equal(views.crop, views.dense.places[:, 0])


STRENGTHS = {
    "blur": (0.0, BLUR),
    "brightness": (-BRIGHTNESS, BRIGHTNESS),
    "contrast": (-CONTRAST, CONTRAST),
    "saturation": (-SATURATION, SATURATION),
    "hue": (-HUE, HUE),
}


@pytest.mark.parametrize("name", STRENGTHS)
def test_half_of_the_views_have_each_change_and_its_strength_is_uniform(name: str) -> None:
    values, (low, high) = getattr(extra(DENSE, 4000), name), STRENGTHS[name]
    changed = values[values != 0]
    assert abs(len(changed) / 4000 - 0.5) < 4 * 0.5 / 4000**0.5
    assert stats.kstest(changed, stats.uniform(low, high - low).cdf).pvalue > LEVEL


def test_changes_are_drawn_apart_from_each_other() -> None:
    dense = extra(DENSE, 4000)
    changes = np.stack([getattr(dense, name) != 0 for name in STRENGTHS] + [dense.contrast_last, dense.angle > 0])
    assert np.abs(np.corrcoef(changes) - np.eye(len(changes))).max() < 4 / 4000**0.5


def test_angles_are_uniform_to_either_side() -> None:
    angle = extra(DENSE, 4000).angle
    assert stats.kstest(angle, stats.uniform(-10, 20).cdf).pvalue > LEVEL


def test_a_policy_without_changes_draws_none() -> None:
    dense = extra(POLICIES["dense-light"], 50)
    assert not any(getattr(dense, name).any() for name in (*STRENGTHS, "angle"))


def test_a_policy_without_a_scale_shows_whole_images() -> None:
    np.testing.assert_array_equal(draw(WHOLE, 1, aspects=2.0).crop, [[0, 0, 2, 1]])
    np.testing.assert_array_equal(whole_views(np.array([0.25])).crop, [[0, 0, 1, 4]])


def test_whole_images_lie_where_the_letterbox_puts_them() -> None:
    heights, widths = np.random.default_rng(0).integers(1, 3000, (2, 3000))
    heights[:3], widths[:3] = [1, 5000, 7], [5000, 1, 7]
    for size in (8, 33, 512):
        views = whole_views(widths / heights)
        expected = [(0, 0, *fitted(int(h), int(w), size)) for h, w in zip(heights, widths, strict=True)]
        np.testing.assert_array_equal(shown(views.crop, size), expected)
        whole = np.stack([heights * 0, heights * 0, heights, widths], axis=1)
        np.testing.assert_array_equal(inside(views.crop, heights, widths), whole)


@pytest.mark.parametrize("aspect", [0.02, 0.7, 1.0, 30.0])
def test_what_is_cut_and_shown_is_never_empty_and_never_outside(aspect: float) -> None:
    crop = draw(DENSE, 500, aspects=aspect).crop
    height, width = (3, max(1, round(3 * aspect))) if aspect >= 1 else (max(1, round(3 / aspect)), 3)
    cut, seen = inside(crop, height, width), shown(crop, 16)
    for box, most in ((cut, np.array([height, width])), (seen, np.array([16, 16]))):
        assert (box[:, :2] >= 0).all()
        assert (box[:, 2:] >= 1).all()
        assert (box[:, :2] + box[:, 2:] <= most).all()


def test_what_is_shown_is_what_is_cut_at_the_views_scale() -> None:
    views, size = draw(DENSE, 500, aspects=1.5), 64
    cut, seen = inside(views.crop, 100, 150).astype(float), shown(views.crop, size).astype(float)
    pixels = views.crop[:, 2:] * [100, 150]  # of the image, in one view
    for edge in (0, 1):
        image = (cut[:, :2] + edge * cut[:, 2:]) / [100, 150]
        view = (seen[:, :2] + edge * seen[:, 2:]) / size
        apart = np.abs((image - views.crop[:, :2]) / views.crop[:, 2:] - view)
        assert (apart <= 0.5001 / pixels + 0.5001 / size).all()


# --- which place is taken


def squares(places: Any) -> Views:
    """One view of a square image, that may be cut in these places."""
    views = draw(DENSE, 1)
    assert views.dense is not None
    boxes = np.array([[[top, left, 0.5, 0.5] for top, left in places]])
    return replace(views, crop=boxes[:, 0], dense=replace(views.dense, places=boxes))


CORNERS = [(0.0, 0.0), (0.0, 0.5), (0.5, 0.0), (0.5, 0.5)]


def quarters(*values: Any) -> Tensor:
    """Return a mask of 8 x 8 pixels whose quarters are of one class, or of two, half and half."""
    mask = torch.empty(8, 8, dtype=torch.int16)
    for (top, left), value in zip(CORNERS, values, strict=True):
        first, second = value if isinstance(value, tuple) else (value, value)
        rows, columns = slice(int(8 * top), int(8 * top) + 4), slice(int(8 * left), int(8 * left) + 4)
        mask[rows, columns] = torch.tensor([first, first, second, second], dtype=torch.int16)[:, None]
    return mask


@pytest.mark.parametrize(
    ("mask", "expected"),
    [
        (quarters((0, 1), 2, 2, 2), 0),
        (quarters(0, (1, 2), (1, 2), 2), 1),
        (quarters(0, 1, 2, (5, 3)), 3),
        (quarters(0, 1, 2, 3), 0),  # in none of the places: the first stays
        (quarters((0, IGNORED), (0, 1), 2, 3), 1),  # what is ignored does not count
        (quarters(IGNORED, 0, (0, 1), 3), 2),  # nor does a square in which nothing counts
    ],
)
def test_a_view_is_cut_in_the_first_place_that_no_class_fills(mask: Tensor, expected: int) -> None:
    found = placed(squares(CORNERS), [mask], 0.75)
    np.testing.assert_array_equal(found.crop[0, :2], CORNERS[expected])


@pytest.mark.parametrize(("fill", "expected"), [(0.5, 0), (0.499, 1)])
def test_a_class_may_fill_as_much_as_is_allowed(fill: float, expected: int) -> None:
    found = placed(squares([(0.0, 0.0), (0.0, 0.25)]), [quarters((0, 1), (2, 3), 4, 5)], fill)
    np.testing.assert_array_equal(found.crop[0, 1], [0.0, 0.25][expected])


def test_padding_does_not_count() -> None:
    # A view twice as large as the image: its padding is most of it.
    views = squares(CORNERS)
    assert views.dense is not None
    boxes = np.array([[[-0.5, -0.5, 2.0, 2.0], [0.0, 0.0, 2.0, 2.0]]])
    views = replace(views, crop=boxes[:, 0], dense=replace(views.dense, places=boxes))
    np.testing.assert_array_equal(placed(views, [quarters(0, 0, 1, 1)], 0.75).crop, boxes[:, 0])


def test_places_are_chosen_as_one_at_a_time() -> None:
    rng = np.random.default_rng(0)
    masks = [
        torch.from_numpy(np.kron(rng.integers(-1, 3, (3, 4)), np.ones((9, 7))).astype(np.int16)) for _ in range(40)
    ]
    views = draw(ViewPolicy(dense=DensePolicy(scale=(1.5, 3.0), fill=0.6)), 40, aspects=28 / 27)
    assert views.dense is not None
    found = placed(views, masks, 0.6)
    for row, mask in enumerate(masks):
        expected = views.dense.places[row, 0]
        for place in views.dense.places[row]:
            top, left, height, width = inside(place, *mask.shape).tolist()
            pixels = mask[top : top + height, left : left + width].flatten().tolist()
            counted = [value for value in pixels if value != IGNORED]
            if counted and max(map(counted.count, counted)) <= 0.6 * len(counted):
                expected = place
                break
        np.testing.assert_array_equal(found.crop[row], expected)
    assert 5 < (found.crop != views.crop).any(axis=1).sum() < 40


# --- policies


def test_policies_that_are_not_dense_are_written_as_they_always_were() -> None:
    assert list(ViewPolicy().model_dump(mode="json")) == [
        *("crop", "ratio", "center", "flip", "ops", "magnitude", "erase", "mixup", "cutmix", "mix")
    ]


@pytest.mark.parametrize("policy", [DENSE, WHOLE, POLICIES["full"]])
def test_a_policy_is_read_back_as_it_is_written(policy: ViewPolicy) -> None:
    assert ViewPolicy.model_validate(policy.model_dump(mode="json")) == policy


@pytest.mark.parametrize(
    "other", [{"crop": (0.1, 1.0)}, {"center": 0.5}, {"ops": 2}, {"erase": 0.1}, {"mixup": 0.2}, {"cutmix": 1.0}]
)
def test_dense_policies_with_parts_of_others_are_refused(other: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="dense views have no"):
        ViewPolicy(dense=DensePolicy(), **other)


def test_a_scale_the_wrong_way_around_is_refused() -> None:
    with pytest.raises(ValidationError, match="smallest comes first"):
        DensePolicy(scale=(1.5, 0.5))
