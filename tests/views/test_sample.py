from __future__ import annotations

from dataclasses import fields
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from torchvision.transforms import RandomErasing, RandomResizedCrop, v2

from tutelage.views import OPERATIONS, POLICIES, ViewPolicy, Views, center_views, pairing, sample_views
from tutelage.views.operations import SIGNED, strengths

FULL = POLICIES["full"]
# With fixed seeds these tests either always pass or always fail; the level says how unlikely a false alarm was.
LEVEL = 1e-3


def keys_of(count: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).integers(0, 2**64, count, dtype=np.uint64)


def draw(policy: ViewPolicy, count: int, *, aspect: float = 1.0, seed: int = 0, mixed: bool = True) -> Views:
    rows = np.arange(count)
    partners = np.roll(rows, 1) if mixed else None
    numbers, aspects = np.zeros(count, dtype=np.int64), np.full(count, aspect)
    return sample_views(policy, keys_of(count), rows, numbers, seed=seed, aspects=aspects, partners=partners)


def assert_same(views: Views, others: Views) -> None:
    for field in fields(Views):
        np.testing.assert_array_equal(getattr(views, field.name), getattr(others, field.name), err_msg=field.name)


def mixed_batch(rows: Any) -> Views:
    keys, aspects = keys_of(100)[rows], np.linspace(0.2, 5.0, 100)[rows]
    return sample_views(FULL, keys, rows, rows % 7, seed=3, aspects=aspects, partners=99 - rows)


def test_a_view_is_the_same_whatever_batch_it_is_drawn_in() -> None:
    whole = mixed_batch(np.arange(100))
    for row in (0, 17, 99):
        assert_same(mixed_batch(np.array([row])), whole[row : row + 1])


def test_a_view_does_not_depend_on_the_order_of_its_batch() -> None:
    order = np.random.default_rng(1).permutation(100)
    assert_same(mixed_batch(order), mixed_batch(np.arange(100))[order])


@pytest.mark.parametrize("changed", ["seed", "key", "number"])
def test_seed_key_and_number_each_give_another_view(changed: str) -> None:
    def one(seed: int, key: int, number: int) -> Views:
        keys, rows, numbers = np.array([key], np.uint64), np.zeros(1, np.int64), np.array([number])
        return sample_views(FULL, keys, rows, numbers, seed=seed, aspects=np.ones(1), partners=None)

    values = {"seed": 5, "key": 6, "number": 7}
    before, after = one(**values), one(**(values | {changed: values[changed] + 1}))
    assert not np.array_equal(before.crop, after.crop)


def test_known_views_stay_what_they_are() -> None:
    # Stored targets name views by seed, key and number: another stream would silently give them other views.
    views = sample_views(
        FULL,
        np.array([1], np.uint64),
        np.array([0]),
        np.array([2]),
        seed=3,
        aspects=np.array([1.5]),
        partners=np.array([1]),
    )
    known = {
        "crop": [0.15048, 0.09653, 0.58505, 0.35709],
        "flip": False,
        "ops": [9, 1],
        "magnitudes": [-0.27, 0.09],
        "erase": [0, 0, 0, 0],
        "kind": 2,
        "partner": 1,
        "weight": 0.22744,
        "box": [0, 0.18782, 0.95121, 0.81218],
    }
    for name, value in known.items():
        np.testing.assert_allclose(getattr(views, name)[0], value, atol=1e-5, err_msg=name)


def test_one_part_of_a_policy_moves_no_other_part() -> None:
    plain = draw(ViewPolicy(crop=(0.08, 1.0), flip=0.5), 50)
    more = draw(FULL, 50)
    np.testing.assert_array_equal(plain.crop, more.crop)
    np.testing.assert_array_equal(plain.flip, more.flip)


def test_negative_and_huge_seeds_are_seeds() -> None:
    crops = [draw(FULL, 5, seed=seed).crop for seed in (-1, 2**63, 2**40)]
    assert len({crop.tobytes() for crop in crops}) == 3


@pytest.mark.parametrize("aspect", [1.0, 1.6, 0.4])
def test_crops_follow_torchvisions_distribution(aspect: float) -> None:
    torch.manual_seed(0)
    height, width = 2000, round(2000 * aspect)
    image = torch.empty(0).new_empty(1).expand(3, height, width)
    params = [RandomResizedCrop.get_params(image, [0.08, 1.0], [3 / 4, 4 / 3]) for _ in range(1500)]
    theirs = np.array(params) / [height, width, height, width]
    ours = draw(FULL, 6000, aspect=aspect).crop
    for column in range(4):
        assert stats.ks_2samp(ours[:, column], theirs[:, column]).pvalue > LEVEL, column
    assert stats.ks_2samp(ours[:, 2:].prod(axis=1), theirs[:, 2:].prod(axis=1)).pvalue > LEVEL


@pytest.mark.parametrize(("height", "width"), [(10, 4000), (4000, 10), (10, 10)])
def test_where_no_try_fits_the_crop_is_torchvisions_fallback(height: int, width: int) -> None:
    # All of the area at ratios that are never square: no try can fit.
    ratio = (1.2, 1.3)
    image = torch.empty(1).expand(3, height, width)
    top, left, rows, columns = RandomResizedCrop.get_params(image, [1.0, 1.0], list(ratio))
    ours = draw(ViewPolicy(crop=(1.0, 1.0), ratio=ratio), 3, aspect=width / height).crop
    expected = np.array([top / height, left / width, rows / height, columns / width])
    assert np.abs(ours - expected).max() <= 1 / min(height, width)


@pytest.mark.parametrize("aspect", [1e-3, 0.05, 1.0, 20.0, 1e3])
def test_crops_stay_inside_images_of_any_shape(aspect: float) -> None:
    crop = draw(FULL, 500, aspect=aspect).crop
    assert (crop >= 0).all()
    assert (crop[:, 2:] > 0).all()
    assert (crop[:, :2] + crop[:, 2:] <= 1 + 1e-6).all()


def test_flips_and_operations_are_as_frequent_as_asked() -> None:
    count = 8000
    views = draw(FULL, count)
    assert abs(views.flip.mean() - 0.5) < 4 * 0.5 / count**0.5
    assert views.ops.shape == (count, 2)
    observed = np.bincount(views.ops.ravel(), minlength=len(OPERATIONS))
    assert stats.chisquare(observed).pvalue > LEVEL


def test_magnitudes_are_the_policys_with_either_sign_where_there_is_one() -> None:
    views = draw(ViewPolicy(ops=3, magnitude=12), 4000)
    np.testing.assert_array_equal(np.abs(views.magnitudes), strengths(12)[views.ops])
    negative = views.magnitudes < 0
    assert not negative[~SIGNED[views.ops]].any()
    signed = SIGNED[views.ops]
    assert abs(negative[signed].mean() - 0.5) < 4 * 0.5 / signed.sum() ** 0.5


def test_erased_boxes_follow_torchvisions_distribution() -> None:
    torch.manual_seed(0)
    image = torch.zeros(1).expand(3, 2000, 2000)
    params = [RandomErasing.get_params(image, (0.02, 0.33), (0.3, 3.3), [0.0])[:4] for _ in range(1500)]
    theirs = np.array(params) / 2000
    ours = draw(ViewPolicy(erase=1.0), 6000).erase
    for column in range(4):
        assert stats.ks_2samp(ours[:, column], theirs[:, column]).pvalue > LEVEL, column


def test_erasing_is_as_frequent_as_asked() -> None:
    erase = draw(ViewPolicy(erase=0.25), 8000).erase
    assert abs((erase[:, 2] > 0).mean() - 0.25) < 4 * (0.25 * 0.75 / 8000) ** 0.5
    assert (erase[erase[:, 2] == 0] == 0).all()


@pytest.mark.parametrize("parameter", [0.2, 1.0, 3.0])
def test_mixup_weights_are_beta_distributed(parameter: float) -> None:
    views = draw(ViewPolicy(mixup=parameter), 4000)
    assert (views.kind == 1).all()
    assert stats.kstest(views.weight, stats.beta(parameter, parameter).cdf).pvalue > LEVEL


@pytest.mark.parametrize("parameter", [0.5, 1.0])
def test_cutmix_weights_follow_torchvisions_distribution(parameter: float) -> None:
    torch.manual_seed(0)
    transform = v2.CutMix(alpha=parameter, num_classes=2)
    image = torch.zeros(1).expand(1, 3, 2000, 2000)
    theirs = [transform.make_params([image])["lam_adjusted"] for _ in range(1500)]
    views = draw(ViewPolicy(cutmix=parameter), 6000)
    assert (views.kind == 2).all()
    assert stats.ks_2samp(views.weight, theirs).pvalue > LEVEL


def test_a_cutmix_weight_is_the_area_outside_its_box() -> None:
    views = draw(ViewPolicy(cutmix=1.0), 500)
    outside = 1 - views.box[:, 2].astype(np.float64) * views.box[:, 3]
    np.testing.assert_allclose(views.weight, outside, atol=1e-6)
    assert (views.box[:, :2] + views.box[:, 2:] <= 1 + 1e-6).all()


def test_with_mixup_and_cutmix_each_is_drawn_half_of_the_time() -> None:
    kind = draw(FULL, 8000).kind
    assert set(kind.tolist()) == {1, 2}
    assert abs((kind == 1).mean() - 0.5) < 4 * 0.5 / 8000**0.5


def test_mix_is_the_probability_of_any_mixing() -> None:
    views = draw(ViewPolicy(mixup=0.2, cutmix=1.0, mix=0.3), 8000)
    alone = views.kind == 0
    assert abs(alone.mean() - 0.7) < 4 * (0.3 * 0.7 / 8000) ** 0.5
    np.testing.assert_array_equal(views.partner[alone], np.arange(8000)[alone])
    assert (views.weight[alone] == 1).all()


def test_without_partners_nothing_is_mixed() -> None:
    views = draw(FULL, 20, mixed=False)
    assert not views.kind.any()
    assert (views.weight == 1).all()
    np.testing.assert_array_equal(views.partner, np.arange(20))


def test_a_sample_that_is_its_own_partner_is_not_mixed() -> None:
    rows = np.arange(10)
    views = sample_views(FULL, keys_of(10), rows, rows, seed=0, aspects=np.ones(10), partners=rows)
    assert not views.kind.any()


def test_the_default_policy_is_the_whole_short_side_unchanged() -> None:
    views = draw(ViewPolicy(), 2, aspect=2.0)
    np.testing.assert_array_equal(views.crop, np.array([[0, 0.25, 1, 0.5]] * 2, dtype=np.float32))
    for changed in (views.flip, views.ops, views.erase, views.kind):
        assert not changed.any()


def test_center_views_are_the_views_of_a_center_policy() -> None:
    aspects = np.array([0.5, 1.0, 1.7])
    rows = np.arange(3)
    expected = sample_views(ViewPolicy(center=0.875), keys_of(3), rows, rows, seed=9, aspects=aspects, partners=None)
    assert_same(center_views(aspects, 0.875), expected)


@pytest.mark.parametrize("count", [0, 1, 2, 3, 100, 101])
def test_pairing_is_mutual_and_only_an_odd_one_is_left_alone(count: int) -> None:
    partner = pairing(keys_of(count), 4, seed=2)
    np.testing.assert_array_equal(partner[partner], np.arange(count))
    assert (partner == np.arange(count)).sum() == count % 2


def test_pairing_pairs_the_same_samples_in_whatever_order_they_stand() -> None:
    keys = keys_of(51)
    order = np.random.default_rng(0).permutation(51)
    before, after = keys[pairing(keys, 1, seed=0)], keys[order][pairing(keys[order], 1, seed=0)]
    np.testing.assert_array_equal(before[order], after)


def test_pairing_changes_with_the_view_number_and_the_seed() -> None:
    keys = keys_of(100)
    first = pairing(keys, 0, seed=0)
    assert (first == pairing(keys, 1, seed=0)).mean() < 0.1
    assert (first == pairing(keys, 0, seed=1)).mean() < 0.1
