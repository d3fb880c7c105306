from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.transforms import InterpolationMode, v2

from tutelage.errors import DataError, RecipeError
from tutelage.views import (
    OPERATIONS,
    POLICIES,
    ViewPolicy,
    Views,
    apply_operation,
    center_views,
    mix,
    mix_targets,
    pixel_box,
    render,
    sample_views,
)

FULL = POLICIES["full"]


def picture(height: int, width: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(1, 3, 6, 7, generator=generator) * 255
    smooth = F.interpolate(coarse, size=(height, width), mode="bilinear")[0]
    return (smooth + 10 * torch.randn(3, height, width, generator=generator)).clamp(0, 255).to(torch.uint8)


def pictures(count: int) -> list[Tensor]:
    return [picture(40 + 7 * (i % 5), 36 + 5 * (i % 7), seed=i) for i in range(count)]


def views_of(images: list[Tensor], policy: ViewPolicy, seed: int = 0) -> Views:
    rows = np.arange(len(images))
    aspects = np.array([image.shape[2] / image.shape[1] for image in images])
    keys = rows.astype(np.uint64)
    return sample_views(policy, keys, rows, rows * 0, seed=seed, aspects=aspects, partners=np.roll(rows, 1))


def boxed(views: Views, name: str, box: Any) -> Views:
    return replace(views, **{name: np.tile(np.array(box, dtype=np.float32), (len(views), 1))})


SHARES = ["1.0", "0.875", "0.95", "0.965", "0.9", "0.7", "0.5", "0.29", "0.03"]


@pytest.mark.parametrize("share", [*map(Fraction, SHARES), Fraction(256, 288), Fraction(224, 256)])
def test_center_boxes_are_the_exact_integer_squares(share: Fraction) -> None:
    rng = np.random.default_rng(0)
    heights, widths = rng.integers(1, 5000, (2, 2000))
    heights[:5], widths[:5] = [1, 1, 5000, 3, 2], [1, 5000, 1, 3, 3]
    boxes = pixel_box(center_views(widths / heights, float(share)).crop, heights, widths)
    for height, width, box in zip(heights.tolist(), widths.tolist(), boxes.tolist(), strict=True):
        side = max(1, math.floor(min(height, width) * share + Fraction(1, 2)))
        assert box == [(height - side) // 2, (width - side) // 2, side, side]


@pytest.mark.parametrize("share", [*map(float, SHARES), 256 / 288])
def test_a_float32_graph_can_compute_the_same_center_side(share: float) -> None:
    short = np.arange(1, 5000)
    ours = pixel_box(center_views(np.full(len(short), 1.0), share).crop, short, short)[:, 2]
    graph = torch.floor(torch.from_numpy(short).float() * torch.tensor(share) + 0.5 + 1 / 1024).clamp(min=1)
    np.testing.assert_array_equal(ours, graph.numpy())


@pytest.mark.parametrize("aspect", [0.01, 0.3, 1.0, 2.0, 100.0])
def test_pixel_boxes_are_inside_the_image_and_never_empty(aspect: float) -> None:
    rows = np.arange(400)
    aspects = np.full(400, aspect)
    views = sample_views(FULL, rows.astype(np.uint64), rows, rows, seed=0, aspects=aspects, partners=None)
    height, width = (3, max(1, round(3 * aspect))) if aspect >= 1 else (max(1, round(3 / aspect)), 3)
    top, left, rows_, columns = pixel_box(views.crop, height, width).T
    assert min(rows_.min(), columns.min()) >= 1
    assert min(top.min(), left.min()) >= 0
    assert (top + rows_ <= height).all()
    assert (left + columns <= width).all()


def test_whole_pixel_boxes_are_kept() -> None:
    rng = np.random.default_rng(0)
    for _ in range(500):
        height, width = rng.integers(2, 3000, 2)
        rows, columns = rng.integers(1, height + 1), rng.integers(1, width + 1)
        top, left = rng.integers(0, height - rows + 1), rng.integers(0, width - columns + 1)
        box = np.array([top, left, rows, columns], dtype=np.int64)
        relative = (box / [height, width, height, width]).astype(np.float32)
        np.testing.assert_array_equal(pixel_box(relative, height, width), box)


def test_a_view_replays_as_the_same_region_at_another_resolution() -> None:
    views = views_of(pictures(40), ViewPolicy(crop=(0.08, 1.0)))
    for height, width in [(50, 80), (500, 800), (501, 799)]:
        box = pixel_box(views.crop, height, width) / [height, width, height, width]
        center = box[:, :2] + box[:, 2:] / 2
        wanted = views.crop[:, :2] + views.crop[:, 2:] / 2
        assert (np.abs(box[:, 2:] - views.crop[:, 2:]) <= 0.502 / np.array([height, width])).all()
        assert (np.abs(center - wanted) <= 0.502 / np.array([height, width])).all()


def test_a_smooth_image_gives_the_same_view_at_another_resolution() -> None:
    def ramp(scale: int) -> Tensor:
        y = torch.linspace(0, 1, 60 * scale)[:, None].expand(-1, 90 * scale)
        x = torch.linspace(0, 1, 90 * scale)[None].expand(60 * scale, -1)
        return (torch.stack([x, y, (x + y) / 2]) * 255).round().to(torch.uint8)

    views = views_of([ramp(1)] * 8, ViewPolicy(crop=(0.2, 1.0), flip=0.5, erase=0.5))
    small, large = render([ramp(1)] * 8, views, 32), render([ramp(4)] * 8, views, 32)
    assert (small - large).abs().max() < 0.03


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_crops_equal_torchvisions(interpolation: Any) -> None:
    images = pictures(8)
    views = views_of(images, ViewPolicy(crop=(0.08, 1.0)))
    got = render(images, views, 24, interpolation=interpolation)
    for image, crop, view in zip(images, views.crop, got, strict=True):
        box = pixel_box(crop, *image.shape[1:]).tolist()
        mode = InterpolationMode(interpolation)
        expected = v2.functional.resized_crop(image, *box, [24, 24], interpolation=mode, antialias=True)
        assert torch.equal(view, expected.float() / 255)


def test_exact_crops_are_not_rounded_to_8_bits() -> None:
    images = pictures(4)
    views = views_of(images, ViewPolicy(crop=(0.3, 1.0), flip=0.5))
    got = render(images, views, 24, exact=True)
    for image, crop, flip, view in zip(images, views.crop, views.flip, got, strict=True):
        top, left, height, width = pixel_box(crop, *image.shape[1:]).tolist()
        part = image[None, :, top : top + height, left : left + width].double() / 255
        expected = F.interpolate(part, size=(24, 24), mode="bilinear", antialias=True)[0]
        torch.testing.assert_close(view.double(), expected.flip(-1) if flip else expected, atol=1e-6, rtol=0)
    assert (got * 255 - (got * 255).round()).abs().max() > 0.4


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_exact_views_stay_in_range(interpolation: Any) -> None:
    board = (torch.arange(30)[:, None] // 5 + torch.arange(30)) % 2 * 255
    views = center_views(np.ones(1), 1.0)
    got = render([board.to(torch.uint8).expand(3, 30, 30)], views, 47, interpolation=interpolation, exact=True)
    assert got.min() >= 0
    assert got.max() <= 1


def test_a_flip_mirrors_left_and_right() -> None:
    images = pictures(3)
    views = views_of(images, ViewPolicy(crop=(0.5, 1.0)))
    flipped = replace(views, flip=np.array([True, False, True]))
    straight, got = render(images, views, 20), render(images, flipped, 20)
    assert torch.equal(got, torch.stack([straight[0].flip(-1), straight[1], straight[2].flip(-1)]))


def test_operations_are_applied_in_order_after_the_flip() -> None:
    images = pictures(12)
    views = views_of(images, ViewPolicy(crop=(0.4, 1.0), flip=0.5, ops=3, magnitude=14))
    bare = replace(views, ops=views.ops[:, :0], magnitudes=views.magnitudes[:, :0])
    expected = []
    for view, ops, magnitudes in zip(render(images, bare, 28), views.ops, views.magnitudes, strict=True):
        image = (view * 255).round().to(torch.uint8)
        for op, strength in zip(ops.tolist(), magnitudes.tolist(), strict=True):
            image = apply_operation(image, op, strength)
        expected.append(image.float() / 255)
    assert torch.equal(render(images, views, 28), torch.stack(expected))


def test_erased_boxes_are_zero_and_the_rest_untouched() -> None:
    images = pictures(30)
    views = views_of(images, ViewPolicy(erase=0.5))
    before = render(images, replace(views, erase=np.zeros_like(views.erase)), 25)
    expected = []
    for view, erase in zip(before, views.erase, strict=True):
        top, left, height, width = pixel_box(erase, 25, 25).tolist()
        erased = v2.functional.erase(view, top, left, height, width, torch.zeros(3, 1, 1))
        expected.append(erased if erase[2] > 0 else view)
    assert torch.equal(render(images, views, 25), torch.stack(expected))
    assert not torch.equal(before, torch.stack(expected))


def test_a_rendered_view_does_not_depend_on_its_batch() -> None:
    images = pictures(20)
    views = views_of(images, FULL)
    whole = render(images, views, 29)
    order = np.random.default_rng(0).permutation(20)
    assert torch.equal(render([images[row] for row in order], views[order], 29), whole[torch.from_numpy(order)])
    assert torch.equal(render(images[4:5], views[4:5], 29), whole[4:5])


def test_views_do_not_depend_on_how_an_image_lies_in_memory() -> None:
    images = pictures(6)
    views = views_of(images, FULL)
    interleaved = [image.permute(1, 2, 0).contiguous().permute(2, 0, 1) for image in images]
    assert torch.equal(render(interleaved, views, 32), render(images, views, 32))


@pytest.mark.parametrize("size", [29, 32])
@pytest.mark.parametrize("share", [1, 7, 30])
def test_a_batch_may_be_rendered_and_mixed_in_parts(share: int, size: int) -> None:
    images = pictures(60)
    views = views_of(images, FULL)
    whole = render(images, views, size)
    parts = [slice(start, start + share) for start in range(0, 60, share)]
    assert torch.equal(torch.cat([render(images[part], views[part], size) for part in parts]), whole)
    mixed = mix(whole, views, np.arange(60) ^ 1)
    pairs = [slice(start, start + 2) for start in range(0, 60, 2)]
    alone = [mix(whole[pair], views[pair], np.array([1, 0])) for pair in pairs]
    assert torch.equal(torch.cat(alone), mixed)


def test_exact_views_do_not_depend_on_how_an_image_lies_in_memory() -> None:
    images = pictures(6)
    views = views_of(images, ViewPolicy(crop=(0.1, 1.0), flip=0.5))
    interleaved = [image.permute(1, 2, 0).contiguous().permute(2, 0, 1) for image in images]
    assert torch.equal(render(interleaved, views, 32, exact=True), render(images, views, 32, exact=True))


def test_threads_may_render_at_the_same_time() -> None:
    images = pictures(40)
    views = views_of(images, FULL)
    whole = render(images, views, 32)
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda _: render(images, views, 32), range(16)))
    assert all(torch.equal(result, whole) for result in results)


def test_no_images_give_no_views() -> None:
    images = pictures(4)
    views = views_of(images, FULL)
    assert render([], views[:0], 16).shape == (0, 3, 16, 16)
    assert mix(torch.empty(0, 3, 16, 16), views[:0], np.arange(0)).shape == (0, 3, 16, 16)


def test_rendering_leaves_the_images_alone() -> None:
    images = [picture(32, 32) for _ in range(4)]
    views = views_of(images, ViewPolicy(flip=1.0, ops=2, erase=1.0))
    before = [image.clone() for image in images]
    render(images, views, 32)
    assert all(torch.equal(a, b) for a, b in zip(images, before, strict=True))


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 500), (500, 1), (2, 3)])
def test_images_of_extreme_shape_can_be_rendered(height: int, width: int) -> None:
    images = [picture(height, width)]
    got = render(images, views_of(images, FULL), 16)
    assert got.shape == (1, 3, 16, 16)
    assert torch.isfinite(got).all()


def test_one_image_a_view() -> None:
    with pytest.raises(DataError, match="2 images for 3 views"):
        render(pictures(2), views_of(pictures(3), FULL), 16)


@pytest.mark.parametrize("image", [torch.zeros(3, 8, 8), torch.zeros(1, 8, 8, dtype=torch.uint8)])
def test_views_are_cut_from_8_bit_color(image: Tensor) -> None:
    with pytest.raises(DataError, match="uint8"):
        render([image], center_views(np.ones(1), 1.0), 16)


def test_exact_views_have_no_operations() -> None:
    images = pictures(4)
    with pytest.raises(RecipeError, match="8 bits"):
        render(images, views_of(images, FULL), 16, exact=True)


def test_mixup_is_the_weighted_sum_of_a_sample_and_its_partner() -> None:
    images = pictures(6)
    views = views_of(images, ViewPolicy(mixup=0.8))
    rendered = render(images, views, 16).double()
    got = mix(rendered, views, views.partner)
    for row in range(6):
        weight = float(views.weight[row])
        expected = weight * rendered[row] + (1 - weight) * rendered[views.partner[row]]
        torch.testing.assert_close(got[row], expected, atol=1e-6, rtol=0)


def test_a_pixel_is_mixed_by_the_share_of_it_that_the_box_covers() -> None:
    images = pictures(21)
    views = views_of(images, FULL)
    rendered = render(images, views, 16)
    got = mix(rendered, views, views.partner)
    for row in range(21):
        top, left, height, width = (float(value) * 16 for value in views.box[row])
        given = torch.zeros(16, 16, dtype=torch.float64)
        for y, x in np.ndindex(16, 16):
            covered = max(0.0, min(y + 1, top + height) - max(y, top)) * max(
                0.0, min(x + 1, left + width) - max(x, left)
            )
            given[y, x] = 1 - float(views.weight[row]) if views.kind[row] == 1 else covered
        own, other = rendered[row].double(), rendered[views.partner[row]].double()
        torch.testing.assert_close(got[row].double(), own + given * (other - own), atol=1e-6, rtol=0)


def test_cutmix_pastes_the_partners_box() -> None:
    images = pictures(3)
    views = boxed(views_of(images, ViewPolicy(cutmix=1.0)), "box", [4 / 16, 6 / 16, 5 / 16, 10 / 16])
    rendered = render(images, views, 16)
    expected = rendered.clone()
    expected[:, :, 4:9, 6:16] = rendered.roll(1, 0)[:, :, 4:9, 6:16]
    torch.testing.assert_close(mix(rendered, views, np.array([2, 0, 1])), expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("size", [7, 16, 33])
def test_a_cutmix_weight_is_the_share_of_itself_at_every_resolution(size: int) -> None:
    rows = np.arange(50)
    policy, keys = ViewPolicy(cutmix=1.0), rows.astype(np.uint64)
    views = sample_views(policy, keys, rows, rows, seed=0, aspects=np.ones(50), partners=np.roll(rows, 1))
    # Samples are white and partners black: what is left of a sample is the mean of its mixed view.
    images = torch.cat([torch.ones(50, 3, size, size), torch.zeros(1, 3, size, size)])
    black = replace(views, kind=np.zeros(50, np.int64))[:1]
    both = Views(**{k: np.concatenate([v, vars(black)[k]]) for k, v in vars(views).items() if v is not None})
    left = mix(images, both, np.full(51, 50))[:50].mean(dim=(1, 2, 3))
    np.testing.assert_allclose(left.numpy(), views.weight, atol=1e-5)


def test_unmixed_views_are_kept_whatever_their_positions() -> None:
    images = pictures(6)
    views = views_of(images, ViewPolicy(mixup=0.8, cutmix=1.0, mix=0.4))
    rendered = render(images, views, 16)
    positions = np.where(views.kind > 0, views.partner, -1)
    alone = torch.from_numpy(views.kind == 0)
    assert 0 < alone.sum() < 6
    assert torch.equal(mix(rendered, views, positions)[alone], rendered[alone])


def test_mixing_leaves_the_rendered_views_alone() -> None:
    images = pictures(4)
    views = views_of(images, FULL)
    rendered = render(images, views, 16)
    before = rendered.clone()
    mix(rendered, views, views.partner)
    assert torch.equal(rendered, before)


def test_targets_are_mixed_by_weight_as_torchvision_mixes_labels() -> None:
    torch.manual_seed(0)
    labels = F.one_hot(torch.tensor([0, 1, 2, 1]), 3).double()
    weight = 0.3
    expected = v2.MixUp(num_classes=3)._mixup_label(labels, lam=weight)
    torch.testing.assert_close(mix_targets(labels, np.full(4, weight), np.array([3, 0, 1, 2])), expected)


def test_a_sample_of_weight_one_keeps_its_target() -> None:
    targets = torch.tensor([[0.2, 0.8], [0.9, 0.1]])
    assert torch.equal(mix_targets(targets, torch.ones(2), torch.tensor([1, 0])), targets)


def test_what_is_mixed_must_have_one_length() -> None:
    images = pictures(4)
    views = views_of(images, FULL)
    with pytest.raises(DataError, match="cannot be mixed"):
        mix(torch.zeros(3, 3, 8, 8), views, np.arange(4))
    with pytest.raises(DataError, match="cannot be mixed"):
        mix_targets(torch.zeros(4, 2), np.ones(4), np.arange(3))


def test_every_operation_is_rendered_as_if_applied_alone() -> None:
    images = [picture(30, 30, seed) for seed in range(len(OPERATIONS))]
    views = views_of(images, ViewPolicy(ops=1))
    every = replace(views, ops=np.arange(len(OPERATIONS))[:, None])
    got = render(images, every, 30)
    for row, image in enumerate(images):
        expected = apply_operation(image, row, float(every.magnitudes[row, 0]))
        assert torch.equal(got[row], expected.float() / 255), list(OPERATIONS)[row]
